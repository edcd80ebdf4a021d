"""The state of an optimizer, cut into slices and put together again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.partition.partition import Slice

State = dict[str, Any]
Pieces = list[tuple[Slice, nn.Parameter]]


def split_state(state: State, whole: Tensor, pieces: Pieces) -> list[State]:
    """The state of each slice, out of the whole parameter's ``state``.

    Tensors of the parameter's shape are sliced, and so are those of length one along the other dimensions
    (Adafactor's row and column means); steps and other single numbers are copied. Raises InputError for a tensor
    of any other shape.
    """
    return [{name: _part(name, value, whole, piece, leaf) for name, value in state.items()} for piece, leaf in pieces]


def saved_states(saved: Mapping[str, State], pieces: Pieces) -> list[State]:
    """The saved state of each slice, empty where it had none. Raises InputError for another partition's slices."""
    known = [key_of(piece) for piece, _ in pieces]
    strange = sorted(set(saved) - set(known))
    if strange:
        raise InputError(
            f"the optimizer's state holds slices {strange} of a parameter that this partition cuts into {known}; "
            "resume with the partition that the state was saved with"
        )
    return [
        {
            name: _laid_out(value, leaf) if isinstance(value, Tensor) else value
            for name, value in saved.get(key_of(piece), {}).items()
        }
        for piece, leaf in pieces
    ]


def merge_state(states: Sequence[State], whole: Tensor, pieces: Pieces) -> State | None:
    """The whole parameter's state, or None if a slice has none or they differ in what they share (their steps)."""
    if not all(states) or any(state.keys() != states[0].keys() for state in states):
        return None
    merged = {}
    for name, first in states[0].items():
        values = [state[name] for state in states]
        if all(_shaped_like(value, leaf) for value, (_, leaf) in zip(values, pieces, strict=True)):
            merged[name] = torch.empty_like(whole, dtype=first.dtype, device=first.device)
            for value, (piece, _) in zip(values, pieces, strict=True):
                piece.of(merged[name]).copy_(value)
        elif all(_equal(first, value) for value in values):
            merged[name] = first
        else:
            return None
    return merged


def _part(name: str, value: Any, whole: Tensor, piece: Slice, leaf: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if value.dim() == whole.dim() and all(
        length in (1, full) for length, full in zip(value.shape, whole.shape, strict=True)
    ):
        cut = value.shape[piece.dim] == whole.shape[piece.dim]
        return _laid_out(piece.of(value) if cut else value, leaf)
    if value.numel() == 1:
        return value.clone()
    raise InputError(
        f"the optimizer's state {name!r} has shape {tuple(value.shape)}, which cannot be cut like its parameter of "
        f"shape {tuple(whole.shape)}; adopt this optimizer before its first step"
    )


def _laid_out(value: Tensor, leaf: Tensor) -> Tensor:
    """A copy in the memory layout that the optimizer itself would have given the leaf's state."""
    like = leaf if value.shape == leaf.shape else value
    return torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)


def _shaped_like(value: Any, leaf: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == leaf.shape


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def key_of(piece: Slice) -> str:
    return f"{piece.dim}:{piece.start}:{piece.stop}"
