"""Channel-sparse convolutions against plain autograd of gradients with zeroed channels, and by hand."""

import functools

import pytest
import torch
from torch import nn

from mat.backward.operators.channels import largest_channels
from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.flops.executed import StepLedger, executed_macs
from tests.cases import resnet_case, vgg_case

FAMILIES = {"vgg": vgg_case, "vgg_plain": functools.partial(vgg_case, batch_norm=False), "resnet": resnet_case}
each_family = pytest.mark.parametrize("name", FAMILIES)


def test_the_largest_channels_by_hand():
    """Mean |g| of five channels over two samples of two pixels: 2, 1, 2.5, 0, 1.5; signs do not cancel."""
    rows = [[4, -4, 0, 0], [1, 1, -1, 1], [-5, -5, 0, 0], [0, 0, 0, 0], [3, 0, 3, 0]]
    g = torch.tensor(rows, dtype=torch.float64).reshape(5, 2, 2, 1).transpose(0, 1)
    kept = {share: largest_channels(g, share).tolist() for share in (0.01, 0.39, 0.4, 0.6, 0.99, 1 - 0.8, 1 - 0.4)}
    assert kept == {
        0.01: [2], 0.39: [2], 0.4: [0, 2], 0.6: [0, 2, 4], 0.99: [0, 1, 2, 4],
        1 - 0.8: [2], 1 - 0.4: [0, 2, 4],
    }  # fmt: skip
    # ⌊0.2 · 10⌋ is 2, although (1 − 0.8) · 10 < 2 in floating point
    assert len(largest_channels(torch.rand(1, 10, 1, 1), 1 - 0.8)) == 2


def zeroed(share):
    """What a plain convolution's output is hooked with: all but the largest channels of its gradient are set to 0."""

    def drop(g):
        size = [sum(abs(v) for v in g[:, c].flatten().tolist()) for c in range(g.shape[1])]
        order = sorted(range(len(size)), key=lambda c: -size[c])
        mask = torch.zeros_like(g)
        mask[:, order[: max(int(share * len(order)), 1)]] = 1
        return g * mask

    return lambda module, args, output: output.register_hook(drop) and None


@each_family
@pytest.mark.parametrize("share", [0.5, 0.25, 0.1])
def test_gradients_are_those_of_zeroed_channels(name, share):
    case, other = FAMILIES[name](), FAMILIES[name]()
    for module in other.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(zeroed(share))
    other.loss().backward()
    wanted = {name: parameter.grad for name, parameter in other.model.named_parameters()}
    sparse = SparseBackward(case.model, case.partition, "exact")
    sparse.set_active(case.partition.names, share)
    case.loss().backward()
    for piece, leaf in sparse.leaves.items():
        torch.testing.assert_close(leaf.grad, piece.of(wanted[piece.parameter]), rtol=1e-10, atol=1e-12)
    sparse.set_active(case.partition.names)
    case.model.zero_grad()
    case.loss().backward()
    assert any(
        not torch.allclose(leaf.grad, piece.of(wanted[piece.parameter])) for piece, leaf in sparse.leaves.items()
    )


@each_family
def test_what_runs_is_the_closed_form_with_the_kept_share_of_either_gradient(name):
    """A convolution of C filters costs its forward pass, and of both gradients ⌊share·C⌋ / C; the rest is as it is."""
    case = FAMILIES[name]()
    work = case.family.work(case.settings, case.signature, len(case.labels))
    whole = work.step(case.partition.names, "exact")
    sparse, memo = SparseBackward(case.model, case.partition, "exact"), {}
    ledger = StepLedger(case.model, case.partition, "exact")
    filters = {n: m.out_channels for n, m in case.model.named_modules() if isinstance(m, nn.Conv2d)}
    owner = {m.name: m.slices[0].parameter.removesuffix(".weight") for m in case.partition.modules}
    for share in (1.0, 0.5, 0.2):
        sparse.set_active(case.partition.names, share)
        kept = {n: c if share == 1 else max(int(share * c), 1) for n, c in filters.items()}
        skipped = sum((work[m].weight + work[m].input) * (filters[n] - kept[n]) // filters[n] for m, n in owner.items())
        for _ in range(2):
            counted = ledger.step(lambda: case.loss().backward(), case.partition.names, memo, share)
            assert counted.macs == whole - skipped
        assert executed_macs(lambda: case.loss().backward())[0] == whole - skipped
    assert len(memo) == 3, "each share is counted once"


def test_the_forward_pass_is_the_plain_one_in_autocast_too():
    case = vgg_case()
    case.model.float().eval()
    x = case.inputs["x"].float()
    with torch.autocast("cpu", torch.bfloat16):
        plain = case.model(x)
        sparse = SparseBackward(case.model, case.partition, "exact")
        sparse.set_active(case.partition.names, 0.5)
        got = case.model(x)
    assert torch.equal(plain, got)
    got.sum().backward()
    assert all(leaf.grad is not None and leaf.grad.dtype == torch.float32 for leaf in sparse.parameters())


def test_fewer_channels_are_of_all_modules_alone():
    case = vgg_case()
    sparse = SparseBackward(case.model, case.partition, "exact")
    for names, channels in ((case.partition.names[1:], 0.5), (case.partition.names, 0.0), (case.partition.names, 1.5)):
        with pytest.raises(InputError, match=r"channels must be in \(0, 1\]"):
            sparse.set_active(names, channels)
