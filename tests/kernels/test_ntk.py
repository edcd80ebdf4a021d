"""mNTKs: the fast estimator against per-sample autograd, finite differences, and exact facts of every kernel."""

import copy
import functools
import itertools
import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments.models import bert
from mat.experiments.task_signature import Signature
from mat.flops.executed import executed_macs
from mat.kernels.estimators import Estimator
from mat.kernels.ntk import normalise
from mat.kernels.spectrum import eigenvalues, spectrum
from mat.partition.partition import Module, Partition, Slice
from tests.cases import CASES, bert_case, logits, per_sample, vgg_case
from tests.zoo import animal, by_parameter, kernel_of, mean_logit, modular_ntk, of_slices, randomise
from tests.zoo import naive_rows as naive_parameter_rows

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
case_of = functools.cache(lambda name: CASES[name]())
# for estimators of every logit: of the Switches the shorter one, which has half as many
OF_LOGITS = [name for name in CASES if name not in ("switch", "switch_rows_only")]


@functools.cache
def kernels_of(name, estimator="sum_of_logits", remainder=False):
    case = case_of(name)
    return modular_ntk(case.model, case.partition, case.inputs, estimator, remainder=remainder)


@functools.cache
def sums_of(name):
    """Per parameter ∇ (1/√k) Σ_c f_c(x_i), (n, 1, …), by one backward pass per sample."""
    case = case_of(name)
    return naive_parameter_rows(case.model, case.inputs, mean_logit)


def naive_rows(name, slices):
    """Row i: ∇ (1/√k) Σ_c f_c(x_i) over ``slices``."""
    return of_slices(sums_of(name), slices)[:, 0]


@pytest.mark.parametrize("name", CASES)
def test_sum_of_logits_is_the_per_sample_loop(name):
    case, grams = case_of(name), kernels_of(name)
    for module in case.partition.modules:
        rows = naive_rows(name, module.slices)
        torch.testing.assert_close(grams[module.name], rows @ rows.T, **TIGHT)


@pytest.mark.parametrize("name", CASES)
def test_modules_and_remainder_add_up_to_the_full_kernel(name):
    case, grams = case_of(name), kernels_of(name)
    rest = naive_rows(name, case.partition.remainder)
    whole = naive_rows(name, [Slice(n, 0, 0, p.shape[0]) for n, p in case.model.named_parameters()])
    torch.testing.assert_close(sum(grams.values()) + rest @ rest.T, whole @ whole.T, **TIGHT)


@pytest.mark.filterwarnings("ignore:their rows could not be traced.*relative_attention_bias")  # T5's, in the remainder
@pytest.mark.parametrize(
    ("name", "estimator"),
    [(name, "sum_of_logits") for name in CASES] + [(name, "full") for name in ("resnet", "vit", "bert")],
)
def test_the_remainder_has_a_kernel_when_it_is_asked_for(name, estimator):
    """Against the loop and, with the modules', the kernel of a partition with one module that is everything."""
    case, grams = case_of(name), kernels_of(name, estimator, remainder=True)
    assert list(grams) == [*case.partition.names, "remainder"]
    everything = [Slice(n, 0, 0, (*p.shape, 1)[0]) for n, p in case.model.named_parameters()]
    one = Partition.of(case.model, [Module("all", "all", 0, tuple(everything))])
    whole = modular_ntk(case.model, one, case.inputs, estimator)["all"]
    torch.testing.assert_close(sum(grams.values()), whole, **TIGHT)
    if estimator == "sum_of_logits":
        rows, all_rows = (naive_rows(name, slices) for slices in (case.partition.remainder, everything))
        torch.testing.assert_close(grams["remainder"], rows @ rows.T, **TIGHT)
        torch.testing.assert_close(whole, all_rows @ all_rows.T, **TIGHT)
    without = kernels_of(name, estimator)
    assert "remainder" not in without
    for module, gram in without.items():  # in another order of sums
        torch.testing.assert_close(grams[module], gram, **TIGHT)


def test_the_remainder_is_a_row_of_the_table_and_no_name_of_a_module():
    case = bert_case()
    kernels = modular_ntk(case.model, case.partition, case.inputs, remainder=True)
    row = kernels.table("per_parameter").set_index("module").loc["remainder"]
    assert row["parameters"] == case.partition.size(case.partition.remainder)
    assert (row["kind"], row["layer"], row["way"]) == ("remainder", -1, "one pass")
    assert row["trace"] * row["parameters"] == pytest.approx(kernels["remainder"].trace().item())
    with pytest.raises(InputError, match="a module is called 'remainder' already"):
        modular_ntk(case.model, case.partition.with_remainder(), case.inputs, remainder=True)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_sum_of_logits_follows_from_full(name):
    """(1/k) Σ_cc' of the full kernel's (i, c), (j, c') entries, exactly."""
    full, grams, n = kernels_of(name, "full"), kernels_of(name), len(case_of(name).labels)
    for module, theta in full.items():
        k = len(theta) // n
        torch.testing.assert_close(theta.reshape(n, k, n, k).sum((1, 3)) / k, grams[module], **TIGHT)


def test_full_matches_finite_differences_of_the_outputs():
    case = vgg_case(batch=2)
    case.model.eval()
    module = case.partition.modules[0]
    columns, step = [], 1e-6
    with torch.no_grad():
        for piece in module.slices:
            view = piece.of(case.model.get_parameter(piece.parameter))
            for index in np.ndindex(*view.shape):
                value = view[index].item()
                view[index] = value + step
                above = logits(case.model, case.inputs).flatten()
                view[index] = value - step
                below = logits(case.model, case.inputs).flatten()
                view[index] = value
                columns.append((above - below) / (2 * step))
    jacobian = torch.stack(columns, 1)
    full = modular_ntk(case.model, case.partition, case.inputs, "full")[module.name]
    torch.testing.assert_close(full, jacobian @ jacobian.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize("estimator", ["sum_of_logits", "trace", "full"])
def test_kernels_are_symmetric_positive_and_bounded_by_their_trace(name, estimator):
    for gram in kernels_of(name, estimator).values():
        torch.testing.assert_close(gram, gram.T, **TIGHT)
        values = np.linalg.eigvalsh(gram.numpy())
        assert values.min() >= -1e-9 * max(values.max(), 1)
        measured = spectrum(gram)
        assert 0 <= measured.lambda_max <= measured.trace * (1 + 1e-12)
        assert 1 - 1e-9 <= measured.effective_rank <= len(gram) + 1e-9


@pytest.mark.parametrize("name", CASES)
def test_permuting_samples_permutes_the_kernel(name):
    case, grams = case_of(name), kernels_of(name)
    order = torch.randperm(len(case.labels))
    permuted = modular_ntk(case.model, case.partition, {k: v[order] for k, v in case.inputs.items()})
    for module, gram in grams.items():
        torch.testing.assert_close(permuted[module], gram[order][:, order], **TIGHT)


def test_a_module_the_output_ignores_has_a_zero_kernel():
    case = vgg_case()
    with torch.no_grad():
        case.model.features[-3].weight[:4] = 0  # batch norm scales of the last convolution's first group
        case.model.features[-3].bias[:4] = -1  # and the ReLU behind it shuts the channels for good
    gram = modular_ntk(case.model, case.partition, case.inputs)["conv2.filters0"]
    assert torch.count_nonzero(gram) == 0
    assert spectrum(gram).lambda_max == spectrum(gram).effective_rank == 0


@pytest.mark.parametrize(
    ("name", "estimator"),
    [(name, "sum_of_logits") for name in ("resnet", "vit", "switch_causal")]
    + [("bert", estimator) for estimator in ("projected", "trace", "full")],
)
def test_a_probe_leaves_the_model_as_it_was(name, estimator):
    case = CASES[name]()
    case.model.train()
    frozen = next(case.model.parameters())
    case.loss().backward()
    frozen.requires_grad_(False)
    before = copy.deepcopy(case.model.state_dict())
    grads = [None if p.grad is None else p.grad.clone() for p in case.model.parameters()]
    stream = torch.get_rng_state()
    modular_ntk(case.model, case.partition, case.inputs, estimator)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(m.training for m in case.model.modules())
    assert not frozen.requires_grad and sum(p.requires_grad for p in case.model.parameters()) > 1
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())
    for p, g in zip(case.model.parameters(), grads, strict=True):
        assert (p.grad is None) == (g is None) and (g is None or torch.equal(p.grad, g))
    assert not any(m._forward_hooks for m in case.model.modules())


def units(out, i):
    return list(torch.eye(out.numel()).double().reshape(-1, *out.shape))


def naive(case, cotangents):
    """module -> (n, cotangents, p_l)"""
    rows = naive_parameter_rows(case.model, case.inputs, cotangents)
    return {module.name: of_slices(rows, module.slices) for module in case.partition.modules}


@functools.cache
def by_logit(name):
    return naive(case_of(name), units)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_trace_is_the_sum_of_the_per_logit_kernels(name):
    kernels = kernels_of(name, "trace")
    for module, rows in by_logit(name).items():
        expected = sum(rows[:, c] @ rows[:, c].T for c in range(rows.shape[1]))
        torch.testing.assert_close(kernels[module], expected, **TIGHT)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_full_is_every_pair_of_rows(name):
    kernels = kernels_of(name, "full")
    for module, rows in by_logit(name).items():
        rows = rows.flatten(0, 1)
        torch.testing.assert_close(kernels[module], rows @ rows.T, **TIGHT)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_trace_and_projected_follow_from_full(name):
    """trace: Σ_c of full's (i, c), (j, c); projected: the mean over its directions of ε full εᵀ; exactly."""
    case = case_of(name)
    n = len(case.labels)
    full, trace = kernels_of(name, "full"), kernels_of(name, "trace")
    projected = modular_ntk(case.model, case.partition, case.inputs, "projected", directions=3, seed=5)
    estimator = Estimator("projected", 3, 5)
    signs = [v[0].flatten() for v in estimator.cotangents(logits(case.model, case.inputs).detach(), None)]
    assert all(torch.equal(v.abs(), torch.full_like(v, 3**-0.5)) for v in signs)
    for module, theta in full.items():
        theta = theta.reshape(n, len(theta) // n, n, -1)
        torch.testing.assert_close(torch.einsum("icjc->ij", theta), trace[module], **TIGHT)
        mixed = sum(torch.einsum("icjd,c,d->ij", theta, v, v) for v in signs)
        torch.testing.assert_close(mixed, projected[module], **TIGHT)


@pytest.mark.parametrize("name", CASES)
def test_loss_is_the_kernel_of_the_sample_losses(name):
    case = case_of(name)
    kernels = modular_ntk(case.model, case.partition, case.inputs, "loss", labels=case.labels, loss=per_sample)

    def of_loss(out, i):
        out = out.requires_grad_()
        return [torch.autograd.grad(per_sample(out, case.labels[i : i + 1]).sum(), out)[0]]

    for module, rows in naive(case, of_loss).items():
        torch.testing.assert_close(kernels[module], rows[:, 0] @ rows[:, 0].T, **TIGHT)


def test_projected_converges_to_trace_at_the_rate_of_its_directions():
    """The mean squared error over seeds is inversely proportional to r: 16 times the directions, 16 times less."""
    case = vgg_case(batch=4)
    alone = Partition.of(case.model, case.partition.modules[:1])
    trace = modular_ntk(case.model, alone, case.inputs, "trace")["conv0.filters0"]

    def error(directions: int) -> float:
        seeds = range(120 // directions + 20)
        grams = (
            modular_ntk(case.model, alone, case.inputs, "projected", directions=directions, seed=s, check=0)
            for s in seeds
        )
        return float(np.mean([((g["conv0.filters0"] - trace) ** 2).sum() for g in grams]))

    few, many = error(2), error(32)
    assert 8 < few / many < 32


def test_the_kernels_of_torch_func_are_the_same():
    """vmap(grad) of the sum of logits, an implementation that shares no code with ours."""
    case = bert_case()
    parameters = {name: p.detach() for name, p in case.model.named_parameters()}
    case.model.eval()

    def mean(p, ids):
        out = torch.func.functional_call(case.model, p, kwargs={"input_ids": ids[None], "attention_mask": None})
        return out.logits.sum() / out.logits.numel() ** 0.5

    rows = torch.func.vmap(torch.func.grad(mean), (None, 0))(parameters, case.inputs["input_ids"])
    kernels = modular_ntk(case.model, case.partition, case.inputs)
    for module in case.partition.modules:
        j = torch.cat([piece.of(rows[piece.parameter], 1).flatten(1) for piece in module.slices], 1)
        torch.testing.assert_close(kernels[module.name], j @ j.T, **TIGHT)


@pytest.mark.parametrize("estimator", ["sum_of_logits", "projected", "trace", "full"])
def test_kernels_do_not_depend_on_blocking(estimator):
    case = bert_case(batch=2, length=3)
    whole = modular_ntk(case.model, case.partition, case.inputs, estimator)
    for memory in (5000, 1) if estimator in ("sum_of_logits", "projected") else (5000,):
        kernels = modular_ntk(case.model, case.partition, case.inputs, estimator, memory=memory)
        for module, gram in kernels.items():
            torch.testing.assert_close(gram, whole[module], **TIGHT)


@pytest.mark.parametrize("name", CASES)
def test_kernels_do_not_depend_on_the_other_modules(name):
    case, kernels = case_of(name), kernels_of(name)
    for module in case.partition.modules[::3]:
        alone = Partition.of(case.model, [module])
        gram = modular_ntk(case.model, alone, case.inputs)[module.name]
        torch.testing.assert_close(gram, kernels[module.name], **TIGHT)


def test_sum_of_logits_is_blind_to_a_centred_output_layer_and_trace_is_not():
    """With Σ_c W_c = 0 the sum of the logits is a constant: its kernel is zero for every module below, although
    the network distinguishes its classes as well as ever. Softmax cannot see the shift that the sum is."""
    case = vgg_case()
    with torch.no_grad():
        case.model.classifier.weight -= case.model.classifier.weight.mean(0)
    blind = modular_ntk(case.model, case.partition, case.inputs)
    seeing = modular_ntk(case.model, case.partition, case.inputs, "trace")
    for module in case.partition.names:
        assert spectrum(blind[module]).lambda_max < 1e-20 * spectrum(seeing[module]).lambda_max


def test_experts_count_only_the_samples_that_are_routed_to_them():
    one = animal("switch")
    router = "encoder.block.1.layer.1.mlp.router.classifier"
    chosen = []
    layer = one.model.get_submodule(router)
    handle = layer.register_forward_hook(lambda m, args, out: chosen.append(out.argmax(-1)))
    kernels = modular_ntk(one.model, by_parameter(one.model), one.inputs, check=0)
    handle.remove()
    routed = chosen[0]  # (n, S): the expert of every token
    assert len(routed.unique()) > 1
    for expert in range(3):
        gram = kernels[f"encoder.block.1.layer.1.mlp.experts.expert_{expert}.wi.weight"]
        used = (routed == expert).any(1)
        assert torch.equal(gram.diagonal() > 0, used)
        assert gram[~used].abs().sum() == gram[:, ~used].abs().sum() == 0


def test_a_layer_of_windows_or_experts_costs_one_backward_pass_more_and_others_none(monkeypatch):
    passes = []
    real = torch.autograd._engine_run_backward
    monkeypatch.setattr(torch.autograd, "_engine_run_backward", lambda *a, **k: passes.append(1) or real(*a, **k))
    known_by_shape = {"bert": 1, "gpt2": 1, "vit": 1, "llama": 1, "vgg": 1, "swin": 2, "switch": 2}
    # torchvision's ViT swaps samples and positions inside nn.MultiheadAttention
    # and an expert that no sample reaches has a kernel of 0, so that it is asked whether any output depends on it
    known_by_function = {**known_by_shape, "vit": 2, "switch": 3}
    for name, expected in known_by_shape.items():
        one, passes[:] = animal(name), []
        # without a classifier on one position: its n rows beside many positions are a doubt of their own
        known = [p for p, _ in one.model.named_parameters() if p not in one.slow]
        names = [p for p in known if not p.startswith("heads")]
        whole = by_parameter(one.model)
        partition = Partition.of(one.model, [m for m in whole.modules if m.name in names])
        modular_ntk(one.model, partition, one.inputs, check=0, verify=False)
        assert len(passes) == expected, name
        passes[:] = []
        modular_ntk(one.model, partition, one.inputs, check=0)
        assert len(passes) == known_by_function[name], name


class Mixer(torch.nn.Module):
    """A random stack over tokens (n, S, 4): what each layer does is drawn."""

    def __init__(self, kinds: list[str]) -> None:
        super().__init__()
        made = {
            "linear": lambda: torch.nn.Linear(4, 4),
            "norm": lambda: torch.nn.LayerNorm(4),
            "attention": lambda: torch.nn.MultiheadAttention(4, 2, batch_first=True),
            "convolution": lambda: torch.nn.Conv1d(4, 4, 3, padding=1, groups=2),
            "channels": lambda: torch.nn.Conv1d(4, 4, 2, padding="same"),
        }
        self.kinds, self.layers = kinds, torch.nn.ModuleList(made[kind]() for kind in kinds)

    def forward(self, x):
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            if kind == "attention":
                y = layer(x, x, x, need_weights=False)[0]
            elif kind in ("convolution", "channels"):
                y = layer(x.transpose(1, 2)).transpose(1, 2)
            else:
                y = layer(x)
            x = x + y.tanh()
        return x.mean(1)


@st.composite
def partitioned(draw):
    """A random model and a random partition of it: any dimension of any parameter cut anywhere."""
    kinds = draw(
        st.lists(st.sampled_from(["linear", "norm", "attention", "convolution", "channels"]), min_size=1, max_size=4)
    )
    model = randomise(Mixer(kinds), draw(st.integers(0, 99)))
    modules = []
    for name, parameter in model.named_parameters():
        dim = draw(st.integers(0, parameter.dim() - 1))
        cuts = sorted(draw(st.sets(st.integers(0, parameter.shape[dim]), max_size=4)))
        modules += [
            Module(f"{name}[{a}:{b}]", "layer", 0, (Slice(name, dim, a, b),)) for a, b in itertools.pairwise(cuts)
        ]
    assume(modules)
    # some modules own slices of several parameters
    merged, rest = modules[:3], modules[3:]
    together = Module("together", "layer", 0, tuple(piece for m in merged for piece in m.slices))
    return model, Partition.of(model, [together, *rest])


@settings(max_examples=25)
@given(partitioned(), st.integers(1, 4), st.integers(1, 5), st.sampled_from([1, 2000, 2**28]))
def test_random_models_with_random_partitions(made, n, length, memory):
    model, partition = made
    x = torch.randn(n, length, 4, generator=torch.Generator().manual_seed(n)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # slices along a kernel's taps take the slow way
        kernels = modular_ntk(model, partition, {"x": x}, memory=memory)
    rows = naive_parameter_rows(model, {"x": x}, lambda out, i: [torch.full_like(out, 0.5)])
    for module in partition.modules:
        expected = kernel_of(of_slices(rows, module.slices))
        torch.testing.assert_close(kernels[module.name], expected, rtol=1e-9, atol=1e-10)


def test_the_products_of_a_probe_are_counted_as_many_as_they_are():
    """Executed multiply-adds of a convolution's probe, by hand: forward, input gradient, per-sample weight
    gradients, products of the samples. Both ways to the weight gradients, a convolution with a group for each sample
    and one for each sample, are in it."""
    n, channels, size = 70, 8, 5
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, channels, 3, padding=1),
        torch.nn.Conv2d(channels, channels, 3, padding=1),
        torch.nn.Flatten(1),
    )
    names = ("0.weight", "1.weight")
    partition = Partition.of(model, [Module(name, "filters", 0, (Slice(name, 0, 0, channels),)) for name in names])
    images = torch.randn(n, 3, size, size)
    macs, _ = executed_macs(lambda: modular_ntk(model, partition, {"input": images}, check=0, verify=False))
    weights = [9 * 3 * channels, 9 * channels * channels]
    forward = n * size**2 * sum(weights)
    through = n * size**2 * weights[1]
    formed = n * size**2 * sum(weights)
    tiles = 64 * n + 6 * 6  # rows of the first tile with all samples, the second with itself
    assert macs == forward + through + formed + tiles * sum(weights)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
@pytest.mark.parametrize("estimator", ["sum_of_logits", "projected", "trace", "full"])
@pytest.mark.parametrize("name", CASES)
def test_kernels_on_cuda_are_those_of_the_cpu(name, estimator):
    case = CASES[name]()
    here = modular_ntk(case.model, case.partition, case.inputs, estimator)
    moved = {key: value.cuda() for key, value in case.inputs.items()}
    there = modular_ntk(case.model.cuda(), case.partition, moved, estimator)
    for module, gram in here.items():
        torch.testing.assert_close(there[module].cpu(), gram, **TIGHT)


def test_unusable_input_is_refused_before_any_backward_pass(monkeypatch):
    case = bert_case()
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: pytest.fail("a backward pass was made"))
    probe = partial(modular_ntk, case.model, case.partition)
    ids = case.inputs["input_ids"]
    for match, call in {
        "unknown estimator 'exactly'": lambda: probe(case.inputs, "exactly"),
        "directions must be a whole number ≥ 1": lambda: probe(case.inputs, "projected", directions=0),
        "needs labels and loss": lambda: probe(case.inputs, "loss", labels=case.labels),
        "needs labels, one entry": lambda: probe(case.inputs, "loss", loss=per_sample),
        "one value per sample": lambda: probe(
            case.inputs, "loss", labels=case.labels, loss=lambda o, y: per_sample(o, y).mean()
        ),
        "labels must have one entry per sample, 3, got 2": lambda: probe(case.inputs, labels=case.labels[:2]),
        "first dimensions of nothing": lambda: probe({}),
        "inputs must map the names .* got Tensor": lambda: probe(ids),
        "check must be": lambda: probe(case.inputs, check=-1),
        "made of another model: .* has no such": lambda: modular_ntk(vgg_case().model, case.partition, case.inputs),
        "another model: .* has it in shape": lambda: modular_ntk(case.model, _wider(), case.inputs),
        r"\{'input_ids': 3, 'attention_mask': 2\}": lambda: probe({"input_ids": ids, "attention_mask": ids[:2]}),
        "returned BaseModelOutput": lambda: modular_ntk(case.model.bert, _inner(case), case.inputs),
        "need .* GiB": lambda: probe({"input_ids": ids.repeat(60, 1)}, "full"),
    }.items():
        with pytest.raises(InputError, match=match):
            call()


def _wider():
    model = bert.build(
        bert.Settings(layers=1, width=24, heads=3), Signature("masked_lm", {"input_ids": torch.zeros(1, 6).long()}, 11)
    )
    return bert.partition(bert.Settings(), model)


def _inner(case):
    name = "encoder.layer.0.output.dense.weight"
    return Partition.of(case.model.bert, [Module("one", "ffn", 0, (Slice(name, 0, 0, 4),))])


def test_the_table_is_tidy_and_names_its_choices():
    case = bert_case()
    kernels = modular_ntk(case.model, case.partition, case.inputs, "projected", directions=2)
    table = kernels.table("cosine")
    assert list(table["module"]) == list(case.partition.names)
    assert set(table["estimator"]) == {"projected"} and set(table["normalisation"]) == {"cosine"}
    assert set(table["n"]) == {3} and set(table["way"]) == {"one pass"}
    assert table["trace"].to_numpy() == pytest.approx(3) and (table["lambda_max"].between(1, 3)).all()
    raw, per = kernels.table(), kernels.table("per_parameter")
    np.testing.assert_allclose(raw["lambda_max"] / raw["parameters"], per["lambda_max"])


def test_nothing_leaks_when_a_probe_fails():
    case = bert_case()
    case.model.train()
    layer = case.model.bert.encoder.layer[1]
    layer.register_forward_hook(lambda *a: 1 / 0)
    stream = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        modular_ntk(case.model, case.partition, case.inputs)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(m.training for m in case.model.modules())
    assert all(p.requires_grad and p.grad is None for p in case.model.parameters())
    assert torch.overrides._get_current_function_mode() is None
    assert torch.nn.functional.linear is torch._C._nn.linear


def test_a_model_that_draws_numbers_leaves_the_stream_where_it_was():
    class Noisy(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x + 0 * torch.rand(1))

    model = Noisy(3, 2)
    partition = Partition.of(model, [Module("w", "layer", 0, (Slice("weight", 0, 0, 2),))])
    stream = torch.get_rng_state()
    modular_ntk(model, partition, {"x": torch.ones(4, 3)})
    assert torch.equal(torch.get_rng_state(), stream)


def test_normalisations_in_closed_form():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]).double()
    gram = rows @ rows.T
    assert torch.equal(normalise(gram, "raw", 2), gram)
    assert torch.equal(normalise(gram, "per_parameter", 2), gram / 2)
    cosine = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]]).double()
    torch.testing.assert_close(normalise(gram, "cosine", 2), cosine)
    with pytest.raises(InputError, match="unknown normalisation"):
        normalise(gram, "unit", 2)


def test_spectra_in_closed_form():
    identity = spectrum(np.eye(5))
    assert (identity.lambda_max, identity.trace) == (1, 5) and math.isclose(identity.effective_rank, 5)
    rank_one = spectrum(np.ones((4, 4)))
    assert math.isclose(rank_one.lambda_max, 4) and math.isclose(rank_one.effective_rank, 1, abs_tol=1e-9)
    two = spectrum(np.diag([3.0, 1.0]))
    assert math.isclose(two.effective_rank, math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert list(eigenvalues(np.diag([1.0, 3.0, 2.0]))) == [3, 2, 1]
    with pytest.raises(ValueError, match="square"):
        spectrum(np.ones((2, 3)))
    with pytest.raises(FloatingPointError, match="not finite"):
        spectrum(np.array([[np.nan]]))
