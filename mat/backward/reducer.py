"""Data-parallel training: the gradients of what is active, averaged over the processes.

DistributedDataParallel has a reducer of its own, which knows whole parameters from its construction on and waits for
each of them. Here it is never set going: DDP broadcasts parameters and buffers, counts passes in and out of ``no_sync``
and places inputs as ever, and at the end of a backward pass that it would synchronise, the leaves that are active, and
what is nobody's, are averaged in buckets of its size. A gradient that no process has is not made up: it stays None.
An expert that got no token in one process counts as zero there, as in DDP.

What is reduced is gradients' own entries and, before them, one short message (8 bytes per leaf and 16 more) which says
what has a gradient and that all processes have the same modules active.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel.distributed import _find_tensors

from mat.backward.leaves import Leaves
from mat.backward.operators.patching import Reduce, StandIn, ZeroGrad
from mat.backward.parallel import refuse_options
from mat.errors import InputError, listed
from mat.partition.partition import Slice


class PostForward(StandIn):
    """What a DistributedDataParallel does after a forward pass, in which ``arm`` stands in for its own reducer."""

    def __init__(self, ddp: DistributedDataParallel, arm: Callable[[list[Tensor]], None]) -> None:
        super().__init__(ddp, "_post_forward")
        self.ddp, self.arm = ddp, arm

    def __call__(self, output: Any) -> Any:
        ddp = self.ddp
        refuse_options(ddp)
        if ddp._check_sync_bufs_post_fwd():
            ddp._sync_buffers()
        ddp.require_forward_param_sync = torch.is_grad_enabled() and ddp.require_backward_grad_sync
        if ddp.require_forward_param_sync:
            self.arm(list(_find_tensors(output)))
        return output


class Reducer:
    """Averages over the processes of ``ddp`` what ``is_active`` of the ``leaves``, and all else that ``ddp`` trains.

    ``active``: names of the modules that are. ``mode``: of the backward pass. ``bytes``: of gradients, that this
    process has given so far. Raises InputError where ``ddp`` is used in a way that only its own reducer could follow,
    or the processes do not have the same partition and mode.
    """

    def __init__(
        self,
        ddp: DistributedDataParallel,
        leaves: Leaves,
        is_active: Callable[[Slice], bool],
        active: Callable[[], frozenset[str]],
        mode: str,
    ) -> None:
        refuse_options(ddp)
        if isinstance(vars(ddp).get("_post_forward"), StandIn):
            raise InputError("two sparse models are in one DistributedDataParallel; give each its own")
        self.ddp, self.is_active, self.active = ddp, is_active, active
        self.parameters = list(_trained(ddp, leaves))
        self.device = self.parameters[0][1].device
        self.bytes = 0
        self.waiting = self.queued = False
        self._told: frozenset[str] | None = None
        own = [f"{name} {tuple(leaf.shape)} {leaf.dtype}" for name, leaf, _ in self.parameters]
        if not self._agreed(self._greatest(_and_its_opposite([mode, *own])).tolist()):
            raise InputError(
                f"the processes do not have the same partition and mode (here {len(leaves.owner)} slices, {mode}); "
                "make both of the same model, by the same settings, in every process"
            )
        self._stand_ins = [PostForward(ddp, self._arm), ZeroGrad(ddp, leaves.values), Reduce(ddp)]

    def remove(self) -> None:
        """``ddp`` reduces by itself again."""
        for stand_in in self._stand_ins:
            stand_in.remove()

    def _arm(self, outputs: Sequence[Tensor]) -> None:
        """A forward pass has ended whose backward pass is to be synchronised."""
        self.waiting, self.queued = True, False
        for output in outputs:
            if output.requires_grad:
                output.register_hook(self._begin)

    def _begin(self, gradient: Tensor) -> None:
        """The backward pass has begun: this is its outermost, whatever checkpointing runs inside it."""
        if not self.queued:
            self.queued = True
            queue = torch.autograd.Variable._execution_engine.queue_callback
            queue(lambda: queue(self.reduce))  # after what others have queued meanwhile, who may add to gradients

    @torch.no_grad()
    def reduce(self) -> None:
        """Average the gradients; all processes must come here. Raises InputError where they do not train the same."""
        self.waiting = self.queued = False
        active = self.active()
        given = [leaf.grad is not None for _, leaf, _ in self.parameters]
        message = self._greatest(_and_its_opposite(sorted(active)), given)
        taken = [
            (name, leaf, number)
            for number, (name, leaf, piece) in enumerate(self.parameters)
            if leaf.requires_grad and (piece is None or self.is_active(piece))
        ]
        # on a GPU the host waits for the answer only where it has to: what all have, nobody asks for
        asked = self.device.type == "cpu" or active != self._told or not all(given[number] for *_, number in taken)
        if asked:
            said = message.tolist()
            if not self._agreed(said):
                raise InputError(
                    f"the processes do not have the same modules active (here {len(active)}: "
                    f"{listed(sorted(active))}); select by the same method, seed and settings in every process"
                )
            taken = [found for found in taken if said[2 + found[-1]]]
            self._told = active
        self._average([(name, leaf) for name, leaf, _ in taken])

    def _average(self, taken: Iterable[tuple[str, nn.Parameter]]) -> None:
        started = []
        for bucket in self._buckets(taken):
            parts = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in bucket]
            flat = torch.cat([_entries(part) for part in parts]).div_(self.ddp.process_group.size())
            self.bytes += flat.numel() * flat.element_size()
            work = dist.all_reduce(flat, group=self.ddp.process_group, async_op=True)
            started.append((bucket, parts, flat, work))
        for bucket, parts, flat, work in started:
            work.wait()
            means = flat.split([_entries(part).numel() for part in parts])
            for leaf, part, mean in zip(bucket, parts, means, strict=True):
                part.copy_((torch.view_as_complex(mean.view(-1, 2)) if part.is_complex() else mean).view(part.shape))
                leaf.grad = part

    def _buckets(self, taken: Iterable[tuple[str, nn.Parameter]]) -> Iterator[list[nn.Parameter]]:
        """Leaves of one type each, in order, up to DDP's size of a bucket."""
        open_: dict[torch.dtype, list[nn.Parameter]] = {}
        sizes: dict[torch.dtype, int] = {}
        for name, leaf in taken:
            if leaf.grad is not None and leaf.grad.layout != torch.strided:
                raise InputError(f"the sparse gradient of {name} cannot be averaged; make its layer with sparse=False")
            open_.setdefault(leaf.dtype, []).append(leaf)
            sizes[leaf.dtype] = sizes.get(leaf.dtype, 0) + leaf.numel() * leaf.element_size()
            if sizes[leaf.dtype] >= self.ddp.bucket_bytes_cap:
                yield open_.pop(leaf.dtype)
                del sizes[leaf.dtype]
        yield from open_.values()

    def _greatest(self, *numbers: Iterable[int]) -> Tensor:
        """Of each whole number, the greatest that a process has given."""
        message = torch.tensor([n for some in numbers for n in some], dtype=torch.int64, device=self.device)
        dist.all_reduce(message, dist.ReduceOp.MAX, group=self.ddp.process_group)
        return message

    @staticmethod
    def _agreed(said: Sequence[int]) -> bool:
        """Whether a number and its opposite, at their greatest, are still opposite: all have given the same."""
        return said[0] == -said[1]


def _trained(ddp: DistributedDataParallel, leaves: Leaves) -> Iterator[tuple[str, nn.Parameter, Slice | None]]:
    """What ``ddp`` trains, by name: the leaves with their slices, and parameters beside the sparse model."""
    own: dict[int, list[tuple[str, nn.Parameter, Slice]]] = {}
    for (name, leaf), piece in zip(leaves.named(), leaves, strict=True):
        own.setdefault(id(leaves.wholes[piece.parameter]), []).append((name, leaf, piece))
    for name, whole in ddp.module.named_parameters():
        if name not in ddp.parameters_to_ignore:
            yield from own.get(id(whole), [(name, whole, None)])


def _entries(tensor: Tensor) -> Tensor:
    """All entries in a row, complex ones as two."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).reshape(-1)


def _and_its_opposite(names: Iterable[str]) -> tuple[int, int]:
    """A number below 2^56 that stands for ``names``, and its opposite."""
    number = int.from_bytes(hashlib.sha256("\n".join(names).encode()).digest()[:7])
    return number, -number
