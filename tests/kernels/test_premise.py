"""A sample's outputs are its own, and no gradient is zero because of how a probe runs the model."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from mat.errors import InputError
from mat.kernels.premise import compared
from mat.kernels.probes.gradient_norms import gradient_norms
from tests.zoo import by_parameter, kernel_of, modular_ntk, randomise


class Model(nn.Module):
    """Two layers with ``between`` them."""

    def __init__(self, between=torch.tanh, outputs: int = 3) -> None:
        super().__init__()
        self.first, self.second, self.between = nn.Linear(4, 4), nn.Linear(4, outputs), between
        randomise(self)

    def forward(self, x):
        return self.second(self.between(self.first(x)))


def samples(n: int = 5) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0)).double()


def batch_rows(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Row i: ∇ (1/√k) Σ_c f(batch)[i, c], by one backward pass through the whole batch, real parts beside imaginary."""
    model.eval()
    rows: dict[str, list] = {name: [] for name, _ in model.named_parameters()}
    for i in range(len(x)):
        model.zero_grad()
        output = model(x)[i]
        (output.sum() * output.numel() ** -0.5).backward()
        for name, p in model.named_parameters():
            gradient = torch.zeros_like(p) if p.grad is None else p.grad.clone()
            rows[name].append(torch.view_as_real(gradient) if gradient.is_complex() else gradient)
    model.zero_grad()
    return {name: torch.stack(found) for name, found in rows.items()}


def check_against_the_batch(model: nn.Module, x: torch.Tensor, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernels = modular_ntk(model, by_parameter(model), {"x": x}, **options)
    for name, rows in batch_rows(model, x).items():
        torch.testing.assert_close(kernels[name], kernel_of(rows), rtol=1e-9, atol=1e-9)
    return kernels


def most_wanted(h: torch.Tensor) -> torch.Tensor:
    """A capacity of half of the batch: the later ones pass by."""
    kept = (h.sum(1) > -9).cumsum(0) <= (len(h) + 1) // 2
    return torch.where(kept[:, None], h, h.sin())


COUPLED = {
    "mean of the batch": lambda h: h - h.mean(0),
    "attention over the batch": lambda h: F.scaled_dot_product_attention(h, h, h),
    "softmax over the batch": lambda h: h.softmax(0),
    "the sample before": lambda h: h + h.roll(1, 0),
    "place in the sorted batch": lambda h: h.sort(0).values,
    "similarities to the others": lambda h: h + (h @ h.T).sum(1, keepdim=True),
    "capacity": most_wanted,
    "a few percent of another": lambda h: h + 0.05 * h.flip(0),
}


@pytest.mark.parametrize("verify_only", [True, False])
@pytest.mark.parametrize("name", COUPLED)
def test_samples_that_depend_on_each_other_are_refused(name, verify_only):
    model = Model(COUPLED[name])
    with pytest.raises(InputError, match="depend on the other samples of its batch"):
        modular_ntk(model, by_parameter(model), {"x": samples(12)}, check=0 if verify_only else 1)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize(
    "draw",
    [lambda h: F.dropout(h, 0.5, training=True), lambda h: h * (torch.rand(4) > 0.5), lambda h: h + torch.randn(4)],
)
def test_outputs_that_depend_on_chance_are_refused(draw, n):
    torch.manual_seed(0)
    model = Model(draw)
    with pytest.raises(InputError, match="depend on chance in evaluation mode"):
        modular_ntk(model, by_parameter(model), {"x": samples(n)}, "projected")


def test_what_rounds_otherwise_in_another_batch_is_no_dependence():
    """Sent by the sign of a rounding error, which the size of a batch changes; in float64 it is the same for all."""

    def sent(h):
        if h.dtype == torch.float64:
            return h
        return h if len(h) == 12 else -h

    model = Model(sent).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modular_ntk(model, by_parameter(model), {"x": samples(12).float()}, check=0)


@pytest.mark.parametrize("n", range(1, 20))
def test_another_batch_has_other_company(n):
    chosen = compared(n)
    assert len(set(chosen)) == len(chosen) and chosen[0] == n - 1 and (len(chosen) < n or n == 1)
    assert chosen == sorted(chosen, reverse=True) and (chosen[-1] == 0 or n == 2)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_are_probed_in_one_pass(reentrant):
    """Also where nothing that a block is given takes gradients, so that torch would drop those of a reentrant one."""
    plain, model = Model(), Model()
    block = nn.Sequential(model.second, nn.Tanh(), nn.Linear(3, 3).double())
    model.second = nn.Identity()
    model.between = lambda h: checkpoint(block, h, use_reentrant=reentrant)
    model.block = block
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernels = modular_ntk(model, by_parameter(model), {"x": samples()})
    assert set(kernels.ways.values()) == {"one pass"}
    for name, rows in batch_rows(model, samples()).items():
        torch.testing.assert_close(kernels[name], kernel_of(rows))
    norms = gradient_norms(model, by_parameter(model), {"x": samples()}, samples(), lambda out, y: out.sum(1))
    assert min(norms.values()) > 0
    assert (
        checkpoint(plain.first, samples().requires_grad_(), use_reentrant=True).grad_fn.name().startswith("Checkpoint")
    )


class Filter(nn.Module):
    """A complex filter of the spectrum (GFNet), beside a real one of complex numbers and a real layer before them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4).double()
        self.real = nn.Parameter(torch.randn(3).double())
        self.filter = nn.Parameter(torch.randn(3, dtype=torch.cdouble))

    def forward(self, x):
        return torch.fft.irfft(self.real * torch.fft.rfft(self.layer(x)) * self.filter, n=4)


@pytest.mark.parametrize("estimator", ["sum_of_logits", "full"])
def test_a_complex_parameter_is_two_real_ones(estimator):
    torch.manual_seed(0)
    model = Filter()
    with pytest.warns(UserWarning, match="complex arithmetic.*: filter, real"):
        kernels = modular_ntk(model, by_parameter(model), {"x": samples()}, estimator)
    assert kernels.ways == {"layer.weight": "one pass", "layer.bias": "one pass", "real": "sample loop"} | {
        "filter": "sample loop"
    }
    for gram in kernels.values():
        assert torch.linalg.eigvalsh(gram)[0] >= -1e-12 * gram.trace()
    if estimator == "sum_of_logits":
        check_against_the_batch(model, samples())
        rows = batch_rows(model, samples())
        norms = gradient_norms(
            model, by_parameter(model), {"x": samples()}, samples(), lambda out, y: out.sum(1) * 4**-0.5
        )
        for name, found in rows.items():
            assert norms[name] == pytest.approx(float(found.mean(0).norm()))


class Experts(nn.Module):
    """All experts are called, the third with nobody's tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        randomise(self)

    def forward(self, x):
        chosen = (x[:, 0] > 0).long()
        out = torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            out = out.index_add(0, (chosen == e).nonzero()[:, 0], expert(x[chosen == e]))
        return out


def test_a_layer_called_with_no_rows_has_a_zero_kernel():
    model = Experts()
    kernels = check_against_the_batch(model, samples())
    assert set(kernels.ways.values()) == {"one pass"}
    assert not kernels["experts.2.weight"].any() and not kernels["experts.2.bias"].any()


class SharedWithScript(nn.Module):
    """One layer called as it is, and by scripted code for the last sample alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4).double()
        self.scripted = torch.jit.script(self.layer)

    def forward(self, x):
        seen = self.layer(x)
        return torch.where(x[:, :1] == samples()[-1, 0], self.scripted(x), seen.sin())


def test_a_use_out_of_sight_beside_one_that_is_seen_is_not_lost():
    """For a sample that the comparison does not look at, too."""
    model = SharedWithScript()
    with pytest.warns(UserWarning, match="scripted or compiled"):
        kernels = modular_ntk(model, by_parameter(model), {"x": samples()}, check=0)
    for name, rows in batch_rows(model, samples()).items():
        if name in kernels:
            torch.testing.assert_close(kernels[name], kernel_of(rows))


def test_a_compiled_part_is_probed_as_it_was_written():
    """Its graph, made already, calls no function that could be followed."""
    torch._dynamo.reset()
    model = Model()
    model.first = torch.compile(Model(outputs=4), backend="eager")
    plain = check_against_the_batch(model, samples(), check=0)
    assert set(plain.ways.values()) == {"one pass"}
    torch._dynamo.reset()


def test_activations_that_take_gradients_by_a_hook_change_nothing():
    """As PEFT recipes do: enable_input_require_grads()."""
    model = Model()
    partition = by_parameter(model.second)
    plain = modular_ntk(model.second, partition, {"input": samples()})

    def take_gradients(module, args, kwargs):
        kwargs["input"].requires_grad_()

    model.second.register_forward_pre_hook(take_gradients, with_kwargs=True)
    kernels = modular_ntk(model.second, partition, {"input": samples()})
    assert kernels.ways == plain.ways and set(plain.ways.values()) == {"one pass"}
    for name, gram in plain.items():
        torch.testing.assert_close(kernels[name], gram)


@pytest.mark.parametrize("estimator", ["sum_of_logits", "projected", "trace", "full", "loss"])
def test_one_output_a_sample_may_come_without_a_dimension(estimator):
    column = Model(outputs=1)
    flat = Model(outputs=1)
    flat.forward = lambda x: column(x).squeeze(-1)
    options = {"labels": samples()[:, 0], "loss": lambda out, y: (out.reshape(-1) - y) ** 2}
    options = options if estimator == "loss" else {}
    flat.first, flat.second = column.first, column.second
    found = [modular_ntk(m, by_parameter(m), {"x": samples()}, estimator, **options) for m in (flat, column)]
    for name, gram in found[0].items():
        assert torch.equal(gram, found[1][name])


@pytest.mark.parametrize("pack", [lambda y: {"logits": y, "loss": None}, lambda y: type("Output", (), {"logits": y})()])
def test_logits_are_found_by_their_name(pack):
    model, plain = Model(), Model()
    forward = plain.forward
    model.forward = lambda x: pack(forward(x))
    model.first, model.second = plain.first, plain.second
    kernels = modular_ntk(model, by_parameter(model), {"x": samples()})
    for name, gram in modular_ntk(plain, by_parameter(plain), {"x": samples()}).items():
        assert torch.equal(kernels[name], gram)


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (lambda y: {"out": y}, "returned dict of 'out' without logits"),
        (lambda y: (y, y), "returned tuple without logits"),
        (lambda y: y * 1j, "complex logits"),
        (lambda y: y.sum(), r"must be \(n,\) or \(n, …\) with n = 5"),
    ],
)
def test_other_outputs_are_refused(pack, said):
    model = Model()
    forward = model.forward
    model.forward = lambda x: pack(forward(x))
    with pytest.raises(InputError, match=said):
        modular_ntk(model, by_parameter(model), {"x": samples()})
