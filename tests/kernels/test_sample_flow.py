"""What is said to keep samples apart and in order does, by its Jacobian; what does not is not said to."""

import operator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mat.kernels.recording.sample_flow import keeps_samples

N = 2


class Watch(TorchFunctionMode):
    """Whether all functions that were given a tensor with a gradient keep the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = True

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        given = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if any(t.requires_grad for t in given):
            self.kept &= keeps_samples(N, func, args, kwargs, output)
        return output


def filled(shape) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).double() + 0.5


def said(call, shape) -> bool:
    x = filled(shape).requires_grad_()
    with Watch() as watch:
        call(x)
    return watch.kept


def is_so(call, shape) -> bool:
    """Whether entry p of the output depends on entry q of the input only where both are of one sample."""
    jacobian = torch.autograd.functional.jacobian(call, filled(shape))
    size = filled(shape).numel()
    jacobian = jacobian.reshape(-1, size)
    if len(jacobian) % N:
        return False
    of_output, of_input = (torch.arange(count) // (count // N) for count in jacobian.shape)
    return not jacobian[of_output[:, None] != of_input].any()


WEIGHT, IMAGE = filled((3, 4)), (N, 4, 5, 5)
KERNEL = filled((3, 4, 2, 2))
KEPT = {
    "view of the rows": (lambda x: x.view(N * 3, 4), (N, 3, 4)),
    "view into heads and back": (lambda x: x.view(N, 3, 2, 2).transpose(1, 2).reshape(N * 2, 3, 2), (N, 3, 4)),
    "linear on flattened rows": (lambda x: F.linear(x, WEIGHT, WEIGHT[:, 0]), (N * 3, 4)),
    "addmm": (lambda x: torch.addmm(WEIGHT[0], x, WEIGHT.T @ WEIGHT), (N * 3, 4)),
    "product with a matrix": (lambda x: x @ WEIGHT.T, (N, 3, 4)),
    "products": (lambda x: x @ x.transpose(1, 2), (N, 3, 4)),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), (N, 2, 3, 4)),
    "mask for each sample": (lambda x: x + filled((N, 1, 3)), (N, 2, 3)),
    "shared positions": (lambda x: 2 - x * filled((3, 4)) / 3, (N, 3, 4)),
    "gate for each sample": (lambda x: x[:, :1] * x, (N, 3, 4)),
    "in place": (lambda x: F.relu(x.clone(), inplace=True).sin().add_(x), (N, 3)),
    "convolution": (lambda x: F.conv2d(x, KERNEL, padding=1), IMAGE),
    "pools": (lambda x: F.adaptive_avg_pool2d(F.max_pool2d(x, 2), 1).flatten(1), IMAGE),
    "group norm": (lambda x: F.group_norm(x, 2), IMAGE),
    "batch norm": (lambda x: F.batch_norm(x, torch.zeros(4).double(), torch.ones(4).double()), IMAGE),
    "norms": (lambda x: F.rms_norm(F.layer_norm(x, (4,)), (4,)), (N, 3, 4)),
    "rms by hand": (lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1), (N, 3, 4)),
    "rotated halves": (lambda x: torch.cat((-x[..., 2:], x[..., :2]), dim=-1), (N, 3, 4)),
    "shared heads": (lambda x: x[:, :, None].expand(N, 2, 3, 4).reshape(N, 6, 4), (N, 2, 4)),
    "class token": (lambda x: torch.cat([filled((N, 1, 4)), x], 1)[:, 0], (N, 3, 4)),
    "last position": (lambda x: torch.stack(x.chunk(3, 1), 1)[:, -1].squeeze(1).softmax(-1), (N, 3, 4)),
    "sum over positions": (lambda x: x.permute(0, 2, 1).sum(-1), (N, 3, 4)),
    "dropout in evaluation": (lambda x: F.dropout(F.gelu(x), 0.1, False), (N, 3)),
}
LOST = {
    "flip": (lambda x: x.flip(0), (N, 3)),
    "transpose": (lambda x: x.transpose(0, 1), (N, 3)),
    "transpose from behind": (lambda x: x.transpose(-2, 1), (N, 3)),
    "permute": (lambda x: x.permute(1, 0, 2), (N, 3, 4)),
    "T": (lambda x: x.T, (N, 3)),
    "order": (lambda x: x[torch.tensor([1, 0])], (N, 3)),
    "one sample": (lambda x: x[1:], (N, 3)),
    "dots for the first dimension": (lambda x: x[..., 0], (N,)),
    "backwards over two": (lambda x: x[:, 0][1], (N, 3)),
    "mask of rows": (lambda x: x[torch.tensor([True, False])], (N, 3)),
    "mean of the batch": (lambda x: x - x.mean(0), (N, 3)),
    "mean of everything": (lambda x: x / x.mean(), (N, 3)),
    "maximum of everything": (lambda x: x / x.amax(), (N, 3)),
    "softmax over the batch": (lambda x: x.softmax(0), (N, 3)),
    "batch statistics": (lambda x: F.batch_norm(x, None, None, training=True), (N, 3)),
    "joined samples": (lambda x: torch.cat([x, x]), (N, 3)),
    "samples in a row": (lambda x: F.layer_norm(x.view(1, 6), (6,)), (N, 3)),
    "convolution over the batch": (lambda x: F.conv2d(x, KERNEL[:, :N]), (N, 4, 4)),
    "attention over the batch": (lambda x: F.scaled_dot_product_attention(x, x, x), (N, 4)),
    "products over the batch": (lambda x: x.T @ x, (N, 3)),
    "another sample's value": (lambda x: x[:, None] * x, (N, N, 3)),
    "on a written copy": (lambda x: operator.setitem(x.clone(), slice(0, 1), x[1:]), (N, 3)),
    "pieces of the batch": (lambda x: x.chunk(2)[0], (N, 3)),
    "shared by all": (lambda x: x.expand(N, 3), (1, 3)),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_layers_do_keeps_the_samples_and_is_said_to(name):
    assert is_so(*KEPT[name])
    assert said(*KEPT[name])


@pytest.mark.parametrize("name", LOST)
def test_what_mixes_or_moves_samples_is_not_said_to_keep_them(name):
    assert not said(*LOST[name])


def test_arguments_that_no_rule_knows_and_an_output_given_from_outside_are_not_said_to_keep_samples():
    x = filled((N, 3))
    assert keeps_samples(N, torch.add, (x, x), {}, x)
    assert not keeps_samples(N, torch.add, (x, x), {"out": x}, x)
    assert not keeps_samples(N, torch.Tensor.split, (x, 1), {"axis": 1}, x)
    assert not keeps_samples(N, torch.sort, (x,), {}, x)


DIMS = st.integers(-3, 2)
STEPS = {
    "transpose": st.tuples(DIMS, DIMS).map(lambda d: lambda x: x.transpose(*d)),
    "permute": st.permutations(range(3)).map(lambda d: lambda x: x.permute(d)),
    "sum": st.sets(DIMS, max_size=2).map(lambda d: lambda x: x - x.sum(tuple(d), keepdim=True)),
    "softmax": DIMS.map(lambda d: lambda x: x.softmax(d)),
    "cat": DIMS.map(lambda d: lambda x: torch.cat([x, x], d)),
    "chunk": DIMS.map(lambda d: lambda x: x.chunk(2, d)[-1]),
    "reshape": st.permutations(range(3)).map(lambda d: lambda x: x.reshape([x.shape[i] for i in d])),
    "item": st.tuples(*[st.slices(2)] * 3).map(lambda i: lambda x: x[i]),
    "product": st.just(lambda x: x @ x.mT),
    "rows": st.just(lambda x: F.linear(x, torch.ones(x.shape[-1], x.shape[-1]).double())),
    "norm": st.integers(1, 3).map(lambda k: lambda x: F.layer_norm(x, x.shape[-k:])),
    "flip": DIMS.map(lambda d: lambda x: x.flip(d)),
}


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(list(STEPS)).flatmap(STEPS.get), min_size=1, max_size=3), st.permutations([2, 2, 4]))
def test_no_chain_of_functions_is_said_to_keep_samples_that_it_mixes(steps, shape):
    def chain(x):
        for step in steps:
            x = step(x)
        return x

    try:
        kept = said(chain, shape)
    except (RuntimeError, IndexError, ValueError):  # shapes that do not fit
        return
    if kept:
        assert is_so(chain, shape)
