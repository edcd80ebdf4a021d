"""Which torch functions keep every sample's gradient to itself, so that rows need no tracing.

A tensor is *sample-major* when its entries, in the order of its indices, are the entries of sample 0, then those of
sample 1, and so on: the entry at flat position p belongs to sample p // (numel / n). A function *keeps* the samples
where, given sample-major tensors, its output is sample-major and no entry depends on another sample's. Whether it does
is said for functions with their arguments, and any function that is not listed is taken not to. A model whose outputs
are reached from its layers by such functions alone has its rows where the shapes say; one that sorts, routes, flips
or windows its samples has not, and its rows are traced (``mat.kernels.recording.recorder``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Keeps = Callable[..., bool]  # (n, output, *args, **kwargs)


def keeps_samples(n: int, func: Any, args: tuple, kwargs: dict, output: Any) -> bool:
    """Whether ``output`` of ``func`` on ``n`` sample-major samples is sample-major; tensors that take no gradient may
    be laid in any way."""
    rule = KEEPS.get(func)
    if rule is None or "out" in kwargs:
        return False
    try:
        return rule(n, output, *args, **kwargs)
    except TypeError:  # arguments by names that the rule does not know
        return False


def _leads(n: int, *tensors: Tensor) -> bool:
    """Whether the first dimension of all is the samples', alone or with several entries for each."""
    return all(t.dim() > 0 and t.shape[0] % n == 0 and t.shape[0] == tensors[0].shape[0] for t in tensors)


def _flat(n: int, output: Tensor, input: Tensor, *rest: Any, **options: Any) -> bool:
    """The same entries in the same order, in another shape or type."""
    return not _carrying(rest) and output.numel() == input.numel()


def _carrying(values: Sequence[Any]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor) and value.requires_grad]


def _elementwise(n: int, output: Tensor, *args: Any, **kwargs: Any) -> bool:
    """Entry by entry: operands with a gradient have the output's shape, or its samples along the first dimension."""
    return all(
        t.shape == output.shape or (t.dim() == output.dim() and _leads(n, t, output))
        for t in _carrying([*args, *kwargs.values()])
    )


def _examples(rank: int | None = None) -> Keeps:
    """One example of the first dimension at a time (of inputs of ``rank`` dimensions, where a smaller one has none);
    what else there is carries no gradient."""

    def rule(n: int, output: Tensor, input: Tensor, *rest: Any, **options: Any) -> bool:
        batched = rank is None or input.dim() == rank
        return batched and not _carrying([*rest, *options.values()]) and _leads(n, input, output)

    return rule


def _rows(n: int, output: Tensor, input: Tensor, *rest: Any, **options: Any) -> bool:
    """One row of the last dimension at a time."""
    whole = input.dim() > 1 and input.shape[:-1].numel() % n == 0
    return whole and not _carrying([*rest, *options.values()])


def _addmm(n: int, output: Tensor, input: Tensor, mat1: Tensor, mat2: Tensor, **scales: Any) -> bool:
    return _rows(n, output, mat1, input, mat2)


def _layer_norm(n: int, output: Tensor, input: Tensor, normalized_shape: Any, *rest: Any, **options: Any) -> bool:
    rows = input.shape[: input.dim() - len(normalized_shape)]
    return len(rows) > 0 and rows.numel() % n == 0 and not _carrying([*rest, *options.values()])


def _batch_norm(
    n: int,
    output: Tensor,
    input: Tensor,
    mean: Any,
    var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    *rest: Any,
    **options: Any,
) -> bool:
    return not training and not _carrying([mean, var, weight, bias]) and _leads(n, input, output)


def _products(n: int, output: Tensor, input: Tensor, other: Tensor) -> bool:
    """Matrix by matrix, or rows with one matrix."""
    if other.dim() == 2 and not other.requires_grad:
        return _rows(n, output, input)
    return input.dim() == other.dim() == output.dim() > 2 and _leads(n, input, other, output)


def _attention(n: int, output: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> bool:
    alone = min(query.dim(), key.dim(), value.dim()) > 2 and not _carrying([*rest, *options.values()])
    return alone and _leads(n, query, key, value, output)


def _inside(dims: Sequence[int], rank: int) -> bool:
    """Whether none of the dimensions is the first; of no dimensions all are meant."""
    return len(dims) > 0 and all(-rank < d < rank and d != 0 for d in dims)


def _over(n: int, output: Any, input: Tensor, dim: Any = None, *rest: Any, **options: Any) -> bool:
    """Along dimensions that are not the first."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    return _leads(n, input) and _inside(dims, input.dim()) and not _carrying([*rest, *options.values()])


def _softmax(n: int, output: Any, input: Tensor, dim: Any = None, *rest: Any, **options: Any) -> bool:
    return _over(n, output, input, dim)


def _pieces(n: int, output: Any, input: Tensor, size: Any, dim: int = 0) -> bool:
    return _over(n, output, input, dim)


def _transpose(n: int, output: Tensor, input: Tensor, dim0: int, dim1: int) -> bool:
    return _over(n, output, input, (dim0, dim1))


def _permute(n: int, output: Tensor, input: Tensor, *dims: Any) -> bool:
    order = dims[0] if isinstance(dims[0], tuple | list) else dims
    return order[0] in (0, -input.dim()) and _leads(n, input)


def _joined(n: int, output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> bool:
    return _inside((dim,), output.dim()) and _leads(n, output, *tensors)


def _expand(n: int, output: Tensor, input: Tensor, *sizes: Any) -> bool:
    return input.dim() == output.dim() and _leads(n, input, output)


def _item(n: int, output: Tensor, input: Tensor, index: Any) -> bool:
    """All of the first dimension, and any part of the others that is the same for every sample."""
    first, *rest = index if isinstance(index, tuple) else (index,)
    if first is Ellipsis:  # the dimensions that it stands for begin with the first
        first = slice(None) if len(rest) - rest.count(None) < input.dim() else 0
    plain = all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in rest)
    return isinstance(first, slice) and plain and _leads(n, input, output)


def _methods(names: str) -> list[Callable]:
    """The functions of these names, of torch and of tensors."""
    homes = (torch, torch.Tensor, F)
    return [getattr(home, name) for name in names.split() for home in homes if hasattr(home, name)]


KEEPS: dict[Callable, Keeps] = {
    **dict.fromkeys(
        _methods(
            "view view_as reshape reshape_as flatten unflatten contiguous clone to type_as float double half"
            " bfloat16 squeeze unsqueeze"
        ),
        _flat,
    ),
    **dict.fromkeys(
        _methods(
            "add sub mul div true_divide neg abs exp log sqrt rsqrt pow square sin cos tanh sigmoid erf clamp where"
            " masked_fill maximum minimum add_ sub_ mul_ div_ dropout relu relu_ relu6 gelu silu mish elu leaky_relu"
            " hardtanh hardswish hardsigmoid softplus"
            " __add__ __radd__ __iadd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __neg__ __pow__"
        ),
        _elementwise,
    ),
    **dict.fromkeys(_methods("conv1d max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d"), _examples(3)),
    **dict.fromkeys(_methods("conv2d max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d"), _examples(4)),
    F.group_norm: _examples(),
    F.linear: _rows,
    torch.addmm: _addmm,
    F.layer_norm: _layer_norm,
    F.rms_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.scaled_dot_product_attention: _attention,
    **dict.fromkeys(_methods("matmul mm bmm __matmul__"), _products),
    **dict.fromkeys(_methods("softmax log_softmax"), _softmax),
    **dict.fromkeys(_methods("sum mean amax amin"), _over),
    **dict.fromkeys(_methods("chunk split"), _pieces),
    **dict.fromkeys(_methods("transpose swapaxes"), _transpose),
    **dict.fromkeys(_methods("permute"), _permute),
    **dict.fromkeys((torch.cat, torch.concat, torch.stack), _joined),
    torch.Tensor.expand: _expand,
    torch.Tensor.__getitem__: _item,
}
