"""What is active of a tensor, carried beside it from one sparse function to the next.

A projection's active rows are an attention's active heads, and its active heads the next projection's active columns.
A gradient that went from one to the other through the whole tensor would be put among zeros, to be taken out of them
again. So a function leaves, on the tensor it returns, what is active of it; who gets that tensor, looked at in another
shape only (B, S, H · D for B, H, S, D), finds it there. Any other operation in between, or a hook, and it is not found.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mat.backward.operators.functions import Rows
from mat.backward.operators.once import Once

_VIEWS = {f"{name}Backward0" for name in ("View", "UnsafeView", "Transpose", "Permute", "ReshapeAlias", "Unsqueeze")}
_PART = "_mat_active_part"


def leave(tensor: Tensor, part: Tensor, runs: tuple[tuple[int, int], ...]) -> None:
    """Leave on ``tensor`` (B, S, total) or (B, H, S, D) its active ``part``, which are these ``runs`` of the last
    dimension, or of H · D."""
    setattr(tensor, _PART, (part, runs, tensor._version))


def found(tensor: Tensor, shape: tuple[int, ...], runs: tuple[tuple[int, int], ...]) -> Tensor | None:
    """What was left of the tensor of that shape which ``tensor`` is a plain view of, if it is of these runs."""
    base = tensor._base
    part, own, version = getattr(base, _PART, (None, None, None))
    if part is None or base is None or own != runs or base._version != version or not tensor.requires_grad:
        return None
    if base.shape != shape or tensor.data_ptr() != base.data_ptr() or base._backward_hooks:
        return None
    node: Any = tensor.grad_fn
    while node is not None and node is not base.grad_fn:
        if node.name() not in _VIEWS:
            return None
        ((node, _),) = node.next_functions
    return part if node is not None else None


def active_heads(tensor: Tensor, rows: Rows) -> Tensor | None:
    """The active heads of ``tensor`` (B, H, S, D), in memory of their own, where a projection left its active rows."""
    merged, width = tensor.transpose(1, 2), tensor.shape[3]
    if not merged.is_contiguous():
        return None
    part = found(tensor, (*merged.shape[:2], rows.total * width), rows.blocks(width))
    return None if part is None else _Heads.apply(part, merged.detach(), rows)


def active_columns(tensor: Tensor, rows: Rows) -> Tensor | None:
    """The active columns of ``tensor`` (B, S, H · D), where an attention left its active heads."""
    base = tensor._base
    if base is None or base.dim() != 4 or tensor.dim() != 3 or not tensor.is_contiguous():
        return None
    batch, length, columns = tensor.shape
    width = base.shape[3]
    part = found(tensor, (batch, columns // width, length, width), rows.runs)
    return None if part is None else part.transpose(1, 2).flatten(2)


class _Heads(Once):
    """The active ones of ``heads`` (B, S, H, D), a constant, as (B, H', S, D); their gradient is that of ``part``
    (B, S, H' · D), which stands for them and has no memory."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, heads: Tensor, rows: Rows) -> Tensor:
        return rows.copy(heads, 2).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g.transpose(1, 2).flatten(2), None, None
