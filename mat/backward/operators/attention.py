"""scaled_dot_product_attention in which inactive heads are constants, by the same fused kernels.

The heads of one call are computed in two groups, the active ones with gradients and the others without, so
no score, no softmax and no product of an inactive head has a backward pass. Within a group the call is
the plain one, whatever kernel it chooses: masks, causality and grouped queries are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from mat.backward.operators.functions import Composed, Join, Rows, Take
from mat.backward.operators.layers import as_autocast
from mat.backward.operators.parts import active_heads, leave

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_MATH = SDPBackend.MATH.value


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
    """``plain`` (F.scaled_dot_product_attention) on these arguments, bit for bit, inactive heads as constants.

    Query, key and value are (B, H, S, D); a call of any other form is left whole, and its inactive heads
    then receive gradients that nobody reads.
    """
    named = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
    q, k, v, mask = (named.pop(name, None) for name in _ARGUMENTS[:4])
    if any(t.dim() != 4 or t.shape[1] % heads.total for t in (q, k, v)):
        return plain(*args, **kwargs)
    if not heads.active:
        return plain(*args, **kwargs).detach()
    if len(heads.active) == heads.total:
        return plain(*args, **kwargs)
    device = q.device.type
    if torch.is_autocast_enabled(device):
        q, k, v = (as_autocast(t, device) for t in (q, k, v))
        mask = None if mask is None else as_autocast(mask, device)
    with torch.autocast(device, enabled=False):
        return _cut(plain, heads, q, k, v, mask, **named)


def _cut(
    plain: Callable[..., Tensor], heads: Heads, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **named: Any
) -> Tensor:
    """By the kernel that the whole call takes: its choice depends on what the two groups would not show it."""
    dropout, grouped = named.get("dropout_p", 0.0), named.get("enable_gqa", False)
    math = torch._fused_sdp_choice(q, k, v, mask, **named) == _MATH
    if (dropout and q.device.type != "cpu") or (math and grouped):
        # a kernel draws its numbers itself, for all heads in one call: computed whole, then cut
        whole = plain(q, k, v, mask, **named)
        on, off = heads.split(whole.shape[1])
        return _joined(Take.apply(whole, on, 1), off.views(whole.detach(), 1), on, off)
    if mask is not None and mask.dim() == 3:  # broadcast over the samples
        mask = mask[None]
    if math:
        return _composed(heads, q, k, v, mask, **named)
    active = plain(*_active(heads, q, k, v), attn_mask=_masked(heads, mask), **named)
    with torch.no_grad():
        runs = _constant(heads, mask, q, k, v)
        constant = [plain(*run, attn_mask=own, **named) for own, *run in runs]
    return _joined(active, constant, *heads.split(q.shape[1]))


def _composed(
    heads: Heads,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """PyTorch's own composition of products and a softmax, with its random numbers drawn here as it would.

    How a product rounds depends on where the heads lie in memory, so the forward pass is of all heads at once.
    """
    keep = None
    if dropout_p:
        shape = (*q.shape[:3], k.shape[2])
        keep = torch.empty(shape, dtype=torch.bool, device=q.device).bernoulli_(1 - dropout_p)
    if is_causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    bias = mask
    if mask is not None and mask.dtype == torch.bool:
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
    whole = tuple(None if t is None else t.detach() for t in (q, k, v, bias))
    noise = None if keep is None else (keep, 1 - dropout_p)
    on = heads.split(q.shape[1])[0]
    return Composed.apply(whole, noise, scale, on, *_active(heads, q, k, v), _masked(heads, bias))


def _active(heads: Heads, *tensors: Tensor) -> list[Tensor]:
    """The active heads of each: they are kept for the backward pass, so in memory of their own."""
    taken = []
    for tensor in tensors:
        rows = heads.split(tensor.shape[1])[0]
        own = active_heads(tensor, rows)
        taken.append(Take.apply(tensor, rows, 1) if own is None else own)
    return taken


def _masked(heads: Heads, mask: Tensor | None) -> Tensor | None:
    return _active(heads, mask)[0] if mask is not None and _by_head(mask) else mask


def _constant(heads: Heads, mask: Tensor | None, *tensors: Tensor) -> Iterator[tuple[Any, ...]]:
    """Of each run of inactive heads its mask and its views of ``tensors``: they are not kept, so nothing is copied."""
    parts = [heads.split(t.shape[1])[1].views(t, 1) for t in tensors]
    masks: Sequence[Tensor | None] = [mask] * len(parts[0])
    if mask is not None and _by_head(mask):
        masks = heads.split(mask.shape[1])[1].views(mask, 1)
    return zip(masks, *parts, strict=True)


def _by_head(mask: Tensor) -> bool:
    return mask.dim() == 4 and mask.shape[1] > 1


def _joined(active: Tensor, constant: Sequence[Tensor], on: Rows, off: Rows) -> Tensor:
    """The active heads and the parts of the others in their places; what is active of it goes along."""
    out = Join.apply(active, on, off, *constant)
    leave(out, active, on.blocks(out.shape[-1]))
    return out
