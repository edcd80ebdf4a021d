"""The kernels of a training step against per-sample autograd of the same pass, and its gradients against plain ones."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.errors import InputError
from mat.experiments.models.switch import SwitchLM
from mat.kernels.ntk import modular_ntk
from mat.kernels.probes.gradient_norms import gradient_norms, norms_of_kernels
from mat.kernels.probes.step import step_kernels
from mat.kernels.probes.step_products import multiply
from mat.partition.partition import Slice
from tests.cases import (
    bert_case,
    bert_classification_case,
    logits,
    per_sample,
    resnet_case,
    switch_case,
    vgg_case,
    vit_case,
)
from tests.kernels.test_gradient_rules import (
    BALANCED,
    Bare,
    Latent,
    Model,
    Stacked,
    Tied,
    experts,
    images,
    sorted_by_value,
    tokens,
    windows,
)
from tests.kernels.test_gram import dense_rows, problems
from tests.zoo import by_parameter, kernel_of, randomise

CASES = (vgg_case, bert_case, bert_classification_case, vit_case, switch_case, resnet_case)


def squares(outputs):
    """A loss of every sample that no symmetry simplifies, (n,)."""
    return (outputs.flatten(1) ** 2).mean(1) + outputs.flatten(1).sin().sum(1)


def naive(model, inputs, losses):
    """parameter -> (n, numel): plain autograd of each sample's loss, of one forward pass of the whole batch."""
    torch.manual_seed(0)
    each = losses(logits(model, inputs))
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = [torch.autograd.grad(loss, named.values(), retain_graph=True, allow_unused=True) for loss in each]
    rows = [[torch.zeros_like(p) if g is None else g for p, g in zip(named.values(), row, strict=True)] for row in rows]
    return {name: torch.stack(column).flatten(1) for name, column in zip(named, zip(*rows, strict=True), strict=True)}


def recorded(model, partition, inputs, losses, n=None, **options):
    """(kernels, gradients) of a step that minimises the mean of the losses."""
    torch.manual_seed(0)
    model.zero_grad()
    with step_kernels(model, partition, n, **options) as step:
        losses(logits(model, inputs)).mean().backward()
    return step.kernels, gradients(model)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plain(model, inputs, losses):
    torch.manual_seed(0)
    model.zero_grad()
    losses(logits(model, inputs)).mean().backward()
    return gradients(model)


def assert_same(found, expected, rtol=1e-9):
    assert set(found) == set(expected)
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=rtol * largest, msg=lambda m, k=name: k + m)


def check(model, x, n=None, losses=squares, **options):
    """Kernels and gradients of a model with every parameter a module, in the mode that it is in."""
    training = model.training
    randomise(model).train(training)
    rows = naive(model, {"x": x}, losses)
    partition = by_parameter(model)
    kernels, found = recorded(model, partition, {"x": x}, losses, n, **options)
    assert_same(dict(kernels), {name: kernel_of(row[:n]) for name, row in rows.items()})
    assert_same(found, plain(model, {"x": x}, losses))


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("n", [None, 2])
def test_without_dropout_and_batch_statistics_they_are_the_estimator_loss(make, n):
    case = make()
    case.model.eval()
    losses = lambda outputs: per_sample(outputs, case.labels)  # noqa: E731
    expected = modular_ntk(case.model, case.partition, case.inputs, "loss", labels=case.labels, loss=per_sample)
    for verify in (True, False):
        kernels, found = recorded(case.model, case.partition, case.inputs, losses, n, verify=verify)
        assert_same(dict(kernels), {name: gram[:n, :n] for name, gram in expected.items()})
        assert_same(found, plain(case.model, case.inputs, losses))
        assert kernels.n == (n or len(case.labels)) and set(kernels.ways.values()) == {"training step"}
    norms = gradient_norms(case.model, case.partition, case.inputs, case.labels, per_sample)
    if n is None:
        rounding = 1e-9 * max(norms.values())  # square roots of kernels' rounding
        assert norms_of_kernels(kernels) == pytest.approx(norms, rel=1e-6, abs=1e3 * rounding)


RULES = {
    "linear": (lambda: nn.Linear(4, 6), tokens()),
    "linear of single rows": (lambda: nn.Linear(4, 6, bias=False), tokens()[:, 0]),
    "layer norm": (lambda: nn.LayerNorm((5, 4)), tokens()),
    "rms norm": (lambda: nn.RMSNorm(4), tokens()),
    "group norm": (lambda: nn.GroupNorm(2, 4), images()),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, 2, 1), images()),
    "grouped convolution": (lambda: nn.Conv2d(4, 8, 3, groups=2, padding="same"), images()),
    "convolution in one dimension": (lambda: nn.Conv1d(4, 6, 2, dilation=2), tokens(3, 4, 9)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.0), tokens()),
    "bare parameters": (Bare, tokens()),
    "stacked experts": (Stacked, tokens(4, 7)),
    "a tied embedding": (Tied, tokens(4, 6)),
}


@pytest.mark.parametrize("n", [None, 2])
@pytest.mark.parametrize("name", RULES)
def test_every_rule(name, n):
    make, x = RULES[name]
    check(Model(make()), x, n)


@pytest.mark.parametrize(
    ("make", "call", "x"),
    [
        (lambda: nn.Linear(4, 3), sorted_by_value, tokens(4)),
        (lambda: nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)]), experts, BALANCED),
        (lambda: nn.MultiheadAttention(4, 2), windows, tokens(2, 6)),
        (lambda: nn.Linear(4, 4), lambda layer, x: layer(layer(x).tanh()), tokens()),
        (lambda: nn.Embedding(5, 4), lambda layer, x: x * layer(torch.arange(5)[None]), tokens()),
        (lambda: nn.Linear(4, 3), lambda layer, x: layer(x.transpose(0, 1)).transpose(0, 1), tokens(5, 5)),
    ],
)
def test_rows_find_their_samples(make, call, x):
    check(Model(make(), call), x)
    check(Model(make(), call), x, 2)


def test_dropout_is_the_steps_own():
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.3)
    check(Model(nn.Sequential(layer, nn.Dropout(0.5), nn.Linear(4, 4))).train(), tokens(), 2)


def test_layers_may_work_in_place():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True))
    check(Model(model), images(), 2)


class OwnWeights(nn.Module):
    """A small network with batch statistics in which every sample has weights of its own, all alike."""

    def __init__(self, plain, n):
        super().__init__()
        self.copies = nn.ModuleList([copy.deepcopy(plain) for _ in range(n)])

    def forward(self, x):
        x = torch.cat([own[0](row[None]) for own, row in zip(self.copies, x, strict=True)])
        x = F.batch_norm(x, None, None, None, None, True, 0.0, self.copies[0][1].eps)
        scales, shifts = (torch.stack([getattr(own[1], name) for own in self.copies]) for name in ("weight", "bias"))
        x = (x * scales[:, :, None, None] + shifts[:, :, None, None]).tanh().flatten(1)
        return torch.cat([own[4](row[None]) for own, row in zip(self.copies, x, strict=True)])


def test_under_batch_statistics_each_sample_has_its_part_of_the_gradient():
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2))
    randomise(model).train()
    inputs = {"input": images(4)}
    own = OwnWeights(model, 4)
    squares(own(inputs["input"])).sum().backward()
    kernels, found = recorded(model, by_parameter(model), inputs, squares)
    for name in kernels:
        rows = torch.stack([dict(one.named_parameters())[name].grad for one in own.copies])
        torch.testing.assert_close(kernels[name], kernel_of(rows), rtol=1e-9, atol=1e-9)
    assert_same(found, plain(model, inputs, squares))
    assert set(kernels.ways.values()) == {"training step, batch statistics"}


@pytest.mark.parametrize("make", CASES)
def test_the_mean_of_all_rows_is_the_steps_gradient(make):
    """In training mode, with batch statistics and what a Switch's router adds to the loss: 1ᵀ Θ_l 1 = B² ‖∇_l‖²."""
    case = make()
    if make is switch_case:
        case.model = SwitchLM(case.model.stack, case.model.head, balance=0.5)
    case.model.train()

    def minimised():
        loss = case.loss()
        return loss + case.model.extra_loss() if make is switch_case else loss

    with step_kernels(case.model, case.partition) as step:
        minimised().backward()
    found = gradients(case.model)
    case.model.zero_grad()
    minimised().backward()
    assert_same(found, gradients(case.model))
    norms = norms_of_kernels(step.kernels)
    for module in case.partition.modules:
        exact = sum(piece.of(found[piece.parameter]).square().sum() for piece in module.slices) ** 0.5
        assert norms[module.name] == pytest.approx(float(exact), rel=1e-6, abs=1e-7 * max(norms.values()))


@settings(deadline=None, max_examples=100)
@given(problems(), st.integers(1, 5), st.data())
def test_one_product_gives_gram_matrices_and_the_gradient_that_is_wanted(problem, n, data):
    uses, rows, columns, pairs = problem
    n = min(n, uses[0].left.n)
    whole = dense_rows(uses, rows, columns)
    pieces = [(f"m{i}", Slice("w", 0, a, b)) for i, (a, b) in enumerate(pairs)]
    cuts = sorted({0, rows, *itertools.chain(*pairs)})
    others = [Slice("w", 0, a, b) for a, b in itertools.pairwise(cuts)]
    wanted = [piece for piece in others if data.draw(st.booleans())]
    found = multiply(
        uses, torch.zeros(rows, columns).double(), pieces, wanted, n, data.draw(st.sampled_from([1, 2**20]))
    )
    for module, piece in pieces:
        torch.testing.assert_close(found.grams[module], kernel_of(piece.of(whole, 1)[:n]), rtol=1e-10, atol=1e-10)
    for piece in wanted:
        torch.testing.assert_close(piece.of(found.gradient), piece.of(whole.sum(0)), rtol=1e-10, atol=1e-10)


def test_gradients_are_added_to_what_is_there_and_a_scale_is_divided_out():
    case = bert_case()
    losses = lambda outputs: per_sample(outputs, case.labels)  # noqa: E731
    kernels, once = recorded(case.model, case.partition, case.inputs, losses)
    for _ in range(2):
        with step_kernels(case.model, case.partition, loss_scale=0.5) as step:
            (0.5 * losses(logits(case.model, case.inputs)).mean()).backward()
    assert_same(gradients(case.model), {name: 2 * g for name, g in once.items()})
    assert_same(dict(step.kernels), dict(kernels))


def test_the_remainder_has_a_kernel_if_it_is_asked_for():
    case = bert_case()
    losses = lambda outputs: per_sample(outputs, case.labels)  # noqa: E731
    kernels, found = recorded(case.model, case.partition, case.inputs, losses, remainder=True)
    rows = naive(case.model, case.inputs, losses)
    total = torch.stack(list(kernels.values())).sum(0)
    torch.testing.assert_close(total, kernel_of(torch.cat(list(rows.values()), 1)), rtol=1e-9, atol=1e-9)
    assert_same(found, plain(case.model, case.inputs, losses))


def test_autocast_is_followed_to_its_precision():
    """ε of bfloat16 is 2⁻⁷ between neighbours; every entry is a product of rounded gradients of a few layers."""
    case = vit_case()
    case.model.float()
    inputs = {"x": case.inputs["x"].float()}
    with torch.autocast("cpu", torch.bfloat16):
        kernels, found = recorded(case.model, case.partition, inputs, lambda out: per_sample(out.float(), case.labels))
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(case.model, inputs, lambda out: per_sample(out.float(), case.labels))
    exact, _ = recorded(case.model, case.partition, inputs, lambda out: per_sample(out, case.labels))
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() <= 2**-6 * gradient.norm() + 2**-12
    for name, gram in exact.items():
        assert (kernels[name] - gram).norm() <= 2**-4 * gram.norm()


def test_what_cannot_be_followed_is_refused():
    x = tokens()
    with pytest.raises(InputError, match=r"kernels of 4 samples of a step need a batch of as many.*called with 3"):
        check(Model(nn.Linear(4, 3)), x, 4)
    with pytest.raises(InputError, match=r"no rule follows their use.*layer\.latent, .*layer\.left"):
        check(Model(Latent()), x)
    with pytest.raises(InputError, match=r"\(scripted or compiled\).*layer\.bias, layer\.weight"):
        check(Model(torch.jit.script(nn.Linear(4, 4))), x)
    with pytest.raises(InputError, match="could not be traced to single samples"):
        check(Model(nn.Linear(4, 4), lambda layer, x: (y := layer(x).tanh()) + y.mean(0)), x)
    with (
        pytest.raises(InputError, match="no forward and backward pass"),
        step_kernels(model := Model(nn.Linear(4, 4)), by_parameter(model)),
    ):
        pass
    with pytest.raises(InputError, match="went backward twice"), step_kernels(model, by_parameter(model)):
        loss = model(x.float()).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    with (
        pytest.raises(InputError, match="n must be a number of samples ≥ 1"),
        step_kernels(model, by_parameter(model), 0),
    ):
        pass
    with (
        pytest.raises(InputError, match="loss_scale must be a positive number"),
        step_kernels(model, by_parameter(model), loss_scale=0.0),
    ):
        pass
    model.gradient_checkpointing = True
    with pytest.raises(InputError, match="activation checkpointing"), step_kernels(model, by_parameter(model)):
        pass


def test_passes_without_gradients_are_none_and_an_error_leaves_no_trace():
    model, x = Model(nn.Linear(4, 3)).double(), tokens()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), step_kernels(model, by_parameter(model)):
        with torch.no_grad():
            model(x)
        model(x[..., :3])
    assert torch.overrides._get_current_function_mode() is None
    assert not model._forward_hooks and not model._forward_pre_hooks
