"""The leaves of a partition: one tensor per slice, a view of its parameter's own storage.

An optimizer that is given leaves steps each slice by its own gradient, or, where it has none, not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.partition.partition import Partition, Slice, refuse_other


class Leaves(dict[Slice, nn.Parameter]):
    """Slice -> its leaf, modules first; a slice that is all of its parameter has the parameter itself.

    ``wholes``: the model's parameters by name. ``owner``: the module of every slice, None for the remainder.
    ``cut``: ids of leaves that are part of a parameter; ``ids``: of all leaves; ``shared``: parameters that are cut.
    """

    def __init__(self, model: nn.Module, partition: Partition) -> None:
        super().__init__()
        self.partition = partition
        self.wholes = refuse_other(model, partition, partition.shapes)
        for name in partition.shapes:
            if not self.wholes[name].requires_grad:
                raise InputError(
                    f"{name!r} was frozen after the partition was made; make the partition of the model as it is now"
                )
        self.owner: dict[Slice, str | None] = {
            piece: module.name for module in partition.modules for piece in module.slices
        }
        self.owner.update(dict.fromkeys(partition.remainder))
        for piece in self.owner:
            whole = self.wholes[piece.parameter]
            if partition.is_whole(piece):
                self[piece] = whole
            else:
                whole.grad = None  # its slices have gradients of their own from here on
                # detached and not .data: a step between a forward and its backward pass is then noticed, as ever
                self[piece] = nn.Parameter(piece.of(whole.detach()))
        self.cut = {id(leaf) for piece, leaf in self.items() if not partition.is_whole(piece)}
        self.ids = {id(leaf) for leaf in self.values()}
        self.shared = {name: whole for name in partition.shapes if id(whole := self.wholes[name]) not in self.ids}
        self._places = {
            name: (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in partition.shapes
        }
        self._strides: dict[str, tuple[int, ...]] = {}

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every leaf once; a slice's name is ``parameter[start:stop]``."""
        for piece, leaf in self.items():
            cut = "" if self.partition.is_whole(piece) else f"[{piece.start}:{piece.stop}]"
            yield f"{piece.parameter}{cut}", leaf

    def of_module(self, module: str) -> list[nn.Parameter]:
        return [self[piece] for piece, owner in self.owner.items() if owner == module]

    def of_layer(self, path: str) -> dict[str, list[tuple[Slice, nn.Parameter]]]:
        """Of the layer's own parameters, by attribute, in order of their place."""
        found: dict[str, list[tuple[Slice, nn.Parameter]]] = {}
        for piece in sorted(self, key=lambda p: (p.parameter, p.start)):
            owner, _, attribute = piece.parameter.rpartition(".")
            if owner == path:
                found.setdefault(attribute, []).append((piece, self[piece]))
        return found

    def densify(self) -> None:
        """Store what is cut along its columns column by column, so that every leaf is dense in memory.

        A fused step reads memory in a row, and a leaf with gaps makes the others slow on a GPU. Products may then
        round in another order.
        """
        for piece, leaf in self.items():
            whole = self.wholes[piece.parameter]
            # empty_like keeps strides only where memory has no gaps
            if piece.parameter not in self._strides and torch.empty_like(leaf).stride() != leaf.stride():
                self._strides[piece.parameter] = whole.stride()
                whole.data = whole.data.movedim(piece.dim, 0).contiguous().movedim(0, piece.dim)
        for piece, leaf in self.items():
            if piece.parameter in self._strides:
                leaf.data = piece.of(self.wholes[piece.parameter].data)
                if leaf.grad is not None:
                    leaf.grad = torch.empty_like(leaf).copy_(leaf.grad)

    def undo_densify(self) -> None:
        """Give the model's parameters their memory layout back; the leaves are then no longer theirs."""
        for name, stride in self._strides.items():
            whole = self.wholes[name]
            own = torch.empty_strided(whole.shape, stride, dtype=whole.dtype, device=whole.device)
            whole.data = own.copy_(whole.data)

    def check_storage(self) -> None:
        """Raise InputError where a parameter has left the storage that its leaves share, or was frozen."""
        for piece, leaf in self.items():
            module, attribute = self._places[piece.parameter]
            whole = getattr(module, attribute, None)
            if whole is None or whole is not self.wholes[piece.parameter] or _moved(leaf, whole):
                raise InputError(
                    f"{piece.parameter!r} was moved or replaced after wrapping, so the optimizer no longer trains "
                    "it; call model.to(...), or load a state with assign=True, first and wrap afterwards"
                )
            if leaf is not whole and not whole.requires_grad:
                raise InputError(
                    f"{piece.parameter!r} was frozen after wrapping; close the controller, and make the partition and "
                    "a new one of the model as it is now"
                )

    def refuse_strays(self, is_active: Callable[[Slice], bool], dense: Mapping[str, Tensor | None]) -> None:
        """Raise InputError for gradients where they should not be: on a whole parameter that is cut, other than what
        was there after ``dense`` passes, or on something inactive."""
        for piece, leaf in self.items():
            whole = self.wholes[piece.parameter]
            past = whole.grad is not None and whole.grad is not dense.get(piece.parameter)
            stray = leaf.grad is not None and not is_active(piece)
            if (leaf is not whole and past) or (stray and (leaf is not whole or past)):
                raise InputError(
                    f"{piece.parameter!r} got a gradient that is not as {self.owner[piece] or 'its part'!r} was "
                    "selected: its weight is used without calling its layer (leave such modules to the remainder), or "
                    "what is active was changed between a forward pass and its backward pass"
                )


def _moved(leaf: Tensor, whole: Tensor) -> bool:
    return leaf is not whole and _memory(leaf) != _memory(whole)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
