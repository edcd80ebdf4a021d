"""Rules: for each torch function, what the per-sample gradients of its parameters are made of.

A rule takes the number of samples and the function's own arguments. It returns a
``Call``, or None where it does not cover them: how the rows lie (``Layout``) and, for each operand that may be a
parameter, a way to its per-sample gradients from the gradient at the output: in factors (weights of
products) or formed (biases, scales and other short ones).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mat.kernels.recording.factors import Dense, Factors, OneHot, Patches
from mat.kernels.recording.operands import Call, Layout, Locate, Make, call_of, matrix, same_view, vector


def _product(x: Tensor, weight: Tensor, layout: Layout, transposed: bool) -> Locate:
    """The weight of x @ weightᵀ (``transposed``) or x @ weight: the parameter itself or its transpose, in any order
    of memory, or rows of either."""
    x = x.detach()

    def factors(transposed: bool) -> Callable[[Tensor, int], Factors]:
        def both(g: Tensor, row: int) -> Factors:
            sides = Dense(layout.positions(g)), Dense(layout.positions(x))
            return Factors(*(sides if transposed else sides[::-1]), row)

        return both

    def locate(operand: Tensor, parameter: Tensor) -> Make | None:
        turned = weight.dim() == 2 and not weight.is_contiguous()
        for seen, way in ((weight, transposed), (weight.T, not transposed))[: weight.dim()]:
            if same_view(seen, parameter):
                return lambda g: factors(way)(g, 0)
        stored, way = (weight.T, not transposed) if turned else (weight, transposed)
        return matrix(factors(way), stored.shape[-1])(stored, parameter)

    return locate


def linear(n: int, input: Tensor, weight: Tensor, bias: Tensor | None = None, sample_dim: int = 0) -> Call | None:
    if input.dim() < 2:
        return None
    layout = Layout(n, tuple(input.shape[:-1]), input, 1, sample_dim)
    summed = vector(lambda g: layout.positions(g).sum(1), n)
    return call_of(layout, (weight, _product(input, weight, layout, True)), (bias, summed))


def matmul(n: int, input: Tensor, other: Tensor) -> Call | None:
    if input.dim() < 2 or other.dim() != 2:
        return None
    layout = Layout(n, tuple(input.shape[:-1]), input, 1)
    return call_of(layout, (other, _product(input, other, layout, False)))


def addmm(n: int, input: Tensor, mat1: Tensor, mat2: Tensor, **scales: float) -> Call | None:
    if scales or input.dim() != 1:
        return None
    layout = Layout(n, tuple(mat1.shape[:-1]), mat1, 1)
    summed = vector(lambda g: layout.positions(g).sum(1), n)
    return call_of(layout, (mat2, _product(mat1, mat2, layout, False)), (input, summed))


def convolution(
    n: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call | None:
    """In two dimensions; in one, as over images of one row."""
    if input.dim() != weight.dim():
        return None
    dims, kernel = weight.dim() - 2, (1, *weight.shape[2:])[-2:]
    x = (input if dims == 2 else input[:, :, None]).detach()
    stride, padding, dilation = (_numbers(value, dims) for value in (stride, padding, dilation))
    if dims == 1:
        stride, dilation = (1, *stride), (1, *dilation)
        padding = padding if isinstance(padding, str) else (0, *padding)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        x = F.pad(x, [side for t in reversed(total) for side in (t // 2, t - t // 2)])
    geometry = (stride, (0, 0) if isinstance(padding, str) else padding, dilation)
    layout = Layout(n, (len(x),), x, x.dim() - 1)

    def at_output(g: Tensor) -> Tensor:
        """(n, T, out): the images of a sample and their pixels are its positions."""
        g = layout.gather(g.reshape(len(x), len(weight), -1)).transpose(2, 3)
        return g.reshape(n, -1, len(weight))

    def grouped(g: Tensor) -> Tensor:
        """Per-sample weight gradients, group by group: (n, out, width of a group)."""
        g, images = at_output(g), layout.gather(x)
        inputs, outputs = x.shape[1] // groups, len(weight) // groups
        found = [
            Patches(images[:, :, k * inputs : (k + 1) * inputs], kernel, geometry).times(
                g[:, :, k * outputs : (k + 1) * outputs].transpose(1, 2)
            )
            for k in range(groups)
        ]
        return torch.cat(found, 1)

    if groups > 1:
        of_weight = vector(grouped, n)
    else:
        of_weight = matrix(
            lambda g, row: Factors(Dense(at_output(g)), Patches(layout.gather(x), kernel, geometry), row),
            weight[0].numel(),
        )
    return call_of(layout, (weight, of_weight), (bias, vector(lambda g: at_output(g).sum(1), n)))


def _numbers(value: Any, dims: int) -> Any:
    if isinstance(value, str):
        return value
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    return values * dims if len(values) == 1 else values


def embedding(
    n: int,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Call | None:
    """Ids without samples, (1, …) as positions often are, count for every sample."""
    if max_norm is not None or scale_grad_by_freq or input.dim() < 1:
        return None
    shared = input.dim() > 1 and input.shape[0] == 1 and n > 1
    ids = input.expand(n, *input.shape[1:]) if shared else input
    layout = Layout(n, tuple(ids.shape), ids, 1)
    if padding_idx is not None:
        ids = ids.masked_fill(ids == padding_idx % len(weight), -1)

    def factors(g: Tensor, row: int) -> Factors:
        picked = layout.gather(ids, -1).reshape(n, -1)
        return Factors(OneHot(picked, len(weight), g.dtype), Dense(layout.positions(g)), row)

    return call_of(layout, (weight, matrix(factors, weight.shape[1])), copies=n if shared else 1)


def layer_norm(
    n: int,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call | None:
    normal = F.layer_norm(input.detach(), normalized_shape, None, None, eps)
    return _normalised(n, normal, len(normalized_shape), weight, bias)


def rms_norm(
    n: int, input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Call | None:
    normal = F.rms_norm(input.detach(), normalized_shape, None, eps)
    return _normalised(n, normal, len(normalized_shape), weight, None)


def _normalised(n: int, normal: Tensor, features: int, weight: Tensor | None, bias: Tensor | None) -> Call | None:
    if normal.dim() <= features:
        return None
    layout = Layout(n, tuple(normal.shape[: normal.dim() - features]), normal, features)
    scale = vector(lambda g: layout.gather(g * normal).sum(1), n)
    return call_of(layout, (weight, scale), (bias, vector(lambda g: layout.gather(g).sum(1), n)))


def group_norm(
    n: int, input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Call:
    return _per_channel(n, F.group_norm(input.detach(), num_groups, None, None, eps), weight, bias)


def batch_norm(
    n: int,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    mixed: bool = False,
) -> Call | None:
    """``mixed``: with the batch's own statistics too, what scale and shift get through the rows of each sample."""
    if training and not mixed:
        return None
    known = (None, None) if training else (running_mean, running_var)
    return _per_channel(n, F.batch_norm(input.detach(), *known, None, None, training, 0.0, eps), weight, bias)


def _per_channel(n: int, normal: Tensor, weight: Tensor | None, bias: Tensor | None) -> Call:
    """Scale and shift of channels, (N, C, …)."""
    layout = Layout(n, (len(normal),), normal, normal.dim() - 1)

    def summed(g: Tensor) -> Tensor:
        return layout.gather(g.reshape(*g.shape[:2], -1).sum(2)).sum(1)

    return call_of(layout, (weight, vector(lambda g: summed(g * normal), n)), (bias, vector(summed, n)))


def _broadcast(n: int, shape: torch.Size, source: Tensor, *operands: tuple[Tensor, Tensor | None]) -> Call | None:
    """Elementwise functions: an operand has no dimension of samples, so its gradient is summed over the others.

    ``operands``: (operand, what the output's gradient is multiplied with, if anything).
    """
    if not shape:
        return None
    layout = Layout(n, (shape[0],), source, len(shape) - 1)

    def locate_with(other: Tensor | None) -> Locate:
        def locate(operand: Tensor, parameter: Tensor) -> Make | None:
            aligned = (1,) * (len(shape) - operand.dim()) + tuple(operand.shape)
            if aligned[0] != 1:
                return None
            dims = [dim for dim in range(1, len(shape)) if aligned[dim] == 1]

            def reduce(g: Tensor) -> Tensor:
                g = g if other is None else g * other
                return layout.gather(g.sum(dims) if dims else g).sum(1)

            return vector(reduce, n)(operand, parameter)

        return locate

    return call_of(layout, *((operand, locate_with(other)) for operand, other in operands))


def add(n: int, input: Any, other: Any, **scales: float) -> Call | None:
    if scales or not (isinstance(input, Tensor) and isinstance(other, Tensor)):
        return None
    shape = torch.broadcast_shapes(input.shape, other.shape)
    source = input if input.shape == shape else other
    return _broadcast(n, shape, source, (input, None), (other, None))


def mul(n: int, input: Any, other: Any) -> Call | None:
    if not (isinstance(input, Tensor) and isinstance(other, Tensor)):
        return None
    shape = torch.broadcast_shapes(input.shape, other.shape)
    source = input if input.shape == shape else other
    return _broadcast(n, shape, source, (input, other.detach()), (other, input.detach()))


def expand(n: int, input: Tensor, *sizes: Any) -> Call | None:
    output = input.expand(*sizes)
    return _broadcast(n, output.shape, output, (input, None)) if output.shape[:1] == (n,) else None


Rule = Callable[..., Call | None]
RULES: dict[Callable, Rule] = {
    F.linear: linear,
    F.embedding: embedding,
    F.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    F.group_norm: group_norm,
    F.batch_norm: batch_norm,
    torch.conv1d: convolution,
    torch.conv2d: convolution,
    torch.addmm: addmm,
    torch.Tensor.expand: expand,
    # operators such as x @ y and 2 * x are seen as the tensor's methods
    **dict.fromkeys((torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.mm), matmul),
    **dict.fromkeys((torch.add, torch.Tensor.add), add),
    **dict.fromkeys((torch.mul, torch.Tensor.mul), mul),
}
