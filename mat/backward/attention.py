"""scaled_dot_product_attention in which inactive heads are constants, by the same fused kernels.

The heads of one call are computed in two groups, the active ones with gradients and the others without, so
no score, no softmax and no product of an inactive head has a backward pass. Within a group the call is
the plain one, whatever kernel it chooses: masks, causality and grouped queries are its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mat.backward.functions import Join, Rows, Take

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class Heads:
    """The active ones of ``total`` head modules, each an equal block along a tensor's dimension of heads.

    Under grouped queries a module is a key/value head with its query heads, so one call has tensors of
    different numbers of heads, all multiples of ``total``.
    """

    def __init__(self, active: list[int], total: int) -> None:
        self.active, self.total = active, total
        self._rows: dict[int, tuple[Rows, Rows]] = {}

    def split(self, heads: int) -> tuple[Rows, Rows]:
        """(active, inactive) heads of a tensor with that many heads."""
        if heads not in self._rows:
            block = heads // self.total
            rest = [i for i in range(self.total) if i not in self.active]
            on, off = (Rows.of([(i * block, (i + 1) * block) for i in group], heads) for group in (self.active, rest))
            self._rows[heads] = on, off
        return self._rows[heads]


def attend(plain: Callable[..., Tensor], heads: Heads, *args: Any, **kwargs: Any) -> Tensor:
    """``plain`` (F.scaled_dot_product_attention) on these arguments, inactive heads as constants.

    Query, key and value are (B, H, S, D); a call of any other form is left whole, and its inactive heads
    then receive gradients that nobody reads.
    """
    named = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
    q, k, v, mask = (named.pop(name, None) for name in _ARGUMENTS[:4])
    if any(t.dim() != 4 or t.shape[1] % heads.total for t in (q, k, v)):
        return plain(*args, **kwargs)
    if not heads.active:
        with torch.no_grad():
            return plain(*args, **kwargs)
    if len(heads.active) == heads.total:
        return plain(*args, **kwargs)
    if mask is not None and mask.dim() == 3:  # broadcast over the samples
        mask = mask[None]
    if named.get("dropout_p", 0.0):
        if q.device.type != "cpu" or named.get("enable_gqa"):
            # the kernel draws its numbers itself, for all heads in one call: computed whole, then cut
            whole = plain(*args, **kwargs)
            on, off = heads.split(whole.shape[1])
            return _joined(Take.apply(whole, on, 1), off.take(whole.detach(), 1), on, off)
        return _dropped_out(heads, q, k, v, mask, **named)
    parts = [
        (_taken(heads, which, q), _taken(heads, which, k), _taken(heads, which, v), _masked(heads, which, mask))
        for which in (0, 1)
    ]
    active = plain(*parts[0][:3], attn_mask=parts[0][3], **named)
    with torch.no_grad():
        constant = plain(*parts[1][:3], attn_mask=parts[1][3], **named)
    return _joined(active, constant, *heads.split(q.shape[1]))


def _dropped_out(
    heads: Heads, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float, **named: Any
) -> Tensor:
    """With dropout a CPU takes the math path; its random numbers are drawn here for all heads, as it would."""
    if torch.is_autocast_enabled(q.device.type):
        kind = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(kind), k.to(kind), v.to(kind)
    noise = torch.empty((*q.shape[:3], k.shape[2]), dtype=torch.bool, device=q.device).bernoulli_(1 - dropout_p)
    if named.get("is_causal"):
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()

    def group(which: int) -> Tensor:
        parts = (_taken(heads, which, q), _taken(heads, which, k), _taken(heads, which, v))
        keep = _taken(heads, which, noise)
        return _math(*parts, _masked(heads, which, mask), keep, dropout_p, named.get("scale"))

    active = group(0)
    with torch.no_grad():
        constant = group(1)
    return _joined(active, constant, *heads.split(q.shape[1]))


def _math(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, keep: Tensor, dropout_p: float, scale: float | None
) -> Tensor:
    """PyTorch's own composition, product for product, so that it rounds as the whole call would."""
    kind = q.dtype
    if kind in (torch.float16, torch.bfloat16):
        q, k, v = q.float(), k.float(), v.float()
    root = math.sqrt(1 / math.sqrt(q.shape[-1]) if scale is None else abs(scale))
    scores = (q * (-root if scale is not None and scale < 0 else root)) @ (k.transpose(-2, -1) * root)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=kind).masked_fill_(~mask, float("-inf"))
    if mask is not None:
        scores = scores + mask
    noise = keep.to(scores.dtype).div_(1 - dropout_p)
    return (torch.ops.aten._safe_softmax(scores, -1) * noise @ v).to(kind)


def _taken(heads: Heads, which: int, tensor: Tensor) -> Tensor:
    """Active heads (``which`` 0) are kept for the backward pass, so in memory of their own."""
    rows = heads.split(tensor.shape[1])[which]
    return rows.take(tensor.detach(), 1) if which else Take.apply(tensor, rows, 1)


def _masked(heads: Heads, which: int, mask: Tensor | None) -> Tensor | None:
    if mask is None or mask.dim() != 4 or mask.shape[1] == 1:
        return mask
    return _taken(heads, which, mask)


def _joined(active: Tensor, constant: Tensor, on: Rows, off: Rows) -> Tensor:
    """Both groups in their places, (B, H, S, D) in the memory order (B, S, H, D) that fused kernels give."""
    batch, length, width = active.shape[0], *active.shape[2:]
    out = active.new_empty(batch, length, on.total, width).transpose(1, 2)
    return Join.apply(active, constant, out, on, off)
