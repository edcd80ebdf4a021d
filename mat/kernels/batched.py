"""Kernels of all modules from one forward pass, and one backward pass per cotangent.

The model runs with its parameters frozen, so no weight gradient of the batch is ever made. As soon as the
gradient has reached all uses of a parameter, the Gram matrices of its slices are added up and its factors are
let go (``mat.kernels.factors``); only ``full`` keeps them, because it multiplies rows of different logits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from mat.errors import InputError
from mat.kernels.estimators import Estimator
from mat.kernels.factors import Factors
from mat.kernels.gradient_rules import Call
from mat.kernels.gram import Segment, add_grams, gram_of
from mat.kernels.recorder import Use, Watch, place
from mat.partition.partition import Slice

# The largest kernels that ``full`` makes, all modules together, in bytes.
FULL_BYTES = 2**32

Pieces = Mapping[str, Sequence[tuple[str, Slice]]]  # parameter -> (module, slice), in order of the slices
Grams = dict[str, Tensor]


class Found(NamedTuple):
    """``grams``: module -> (m, m) float64. ``unknown``: parameters that could not be followed and have
    contributed nothing; ``unseen``: parameters that no function was given. ``passes``: cotangents of a sample;
    ``shape``: of one sample's logits."""

    grams: Grams
    unknown: set[str]
    unseen: set[str]
    passes: int
    shape: torch.Size


def kernels(
    run: Callable[[], Tensor],
    parameters: Mapping[str, nn.Parameter],
    pieces: Pieces,
    names: Sequence[str],
    n: int,
    estimator: Estimator,
    labels: Tensor | None,
    memory: int,
    verify: bool,
) -> Found:
    """The kernels of the modules ``names``, as far as ``parameters`` can be followed.

    ``run()`` gives the logits of the ``n`` samples, all parameters frozen. Raises InputError where the logits
    have no dimension of samples, or ``full`` kernels would be larger than 4 GiB.
    """
    watch, logits = _watched(run, parameters, n)
    if logits.dim() < 2 or len(logits) != n:
        raise InputError(
            f"the model's outputs must be (n, …) with n = {n} samples, got shape {tuple(logits.shape)}"
        )
    outputs = logits[0].numel()
    left = estimator.count(outputs)
    size = n * outputs if estimator.name == "full" else n
    if size > n and len(names) * size * size * 8 > FULL_BYTES:
        raise InputError(
            f"'full' kernels of {n} samples with {outputs} logits each, for {len(names)} modules, need "
            f"{len(names) * size * size * 8 / 2**30:.0f} GiB; at most {FULL_BYTES / 2**30:.0f} are allowed. Use "
            "fewer samples, or 'trace' or 'projected'"
        )
    grams = {name: torch.zeros(size, size, dtype=torch.float64, device=logits.device) for name in names}
    unseen = set(parameters) - {use.parameter for use in watch.uses} - watch.unknown
    found = Found(grams, watch.unknown, unseen, left, logits.shape[1:])
    if not (logits.requires_grad and watch.leaves):
        # used, but the outputs are cut off from it or depend on it in a way that was not recorded
        watch.unknown.update(use.parameter for use in watch.uses if logits.requires_grad)
        return found
    try:
        _backward_passes(logits, labels, estimator, watch, parameters, pieces, grams, n, left, memory, verify)
    except CheckpointError:  # what is recomputed is not watched, and so not what was recorded
        watch.unknown.update(use.parameter for use in watch.uses)
        for gram in grams.values():
            gram.zero_()
    return found


def _backward_passes(
    logits: Tensor,
    labels: Tensor | None,
    estimator: Estimator,
    watch: Watch,
    parameters: Mapping[str, nn.Parameter],
    pieces: Pieces,
    grams: Grams,
    n: int,
    left: int,
    memory: int,
    verify: bool,
) -> None:
    """All backward passes: first, where it is called for, those that find the sample of every row."""
    passes = left
    collector = _Collector(watch, parameters, pieces, grams, estimator.name == "full", memory)

    def backward(cotangent: Tensor, listener: Callable[[Call, Tensor], None], last: bool) -> None:
        watch.listener = listener
        # gradients at the leaves are returned and dropped; those at the uses went to the listener
        torch.autograd.grad(logits, watch.leaves, cotangent, retain_graph=not last, allow_unused=True)

    cotangents = estimator.cotangents(logits, labels)
    unplaced = {id(call): call for call in watch.unplaced(verify)}
    if unplaced:
        single = left == 1
        # with several cotangents a row may have no gradient from the first, so a dense one finds the samples
        cotangent = next(cotangents) if single else _dense_cotangent(logits)
        waiting: dict[int, tuple[Call, Tensor]] = {}

        def first(call: Call, gradient: Tensor) -> None:
            if id(call) in unplaced:
                waiting[id(call)] = (call, gradient)
            elif single:
                collector.take(call, gradient)

        def second(call: Call, gradient: Tensor) -> None:
            if id(call) in waiting:
                _, plain = waiting.pop(id(call))
                if not place(call, plain, gradient, scale):
                    collector.give_up(call)
                elif single:
                    collector.take(call, plain)

        scale = 1 + torch.arange(n, dtype=logits.dtype, device=logits.device) / n
        backward(cotangent, first, last=False)
        backward(cotangent * scale.reshape(-1, *(1,) * (logits.dim() - 1)), second, last=single)
        if single:
            collector.finish()
            return
    for cotangent in cotangents:
        left -= 1
        backward(cotangent, collector.take, last=left == 0)
        collector.finish()
    collector.multiply_kept(passes)


def _watched(
    run: Callable[[], Tensor], parameters: Mapping[str, nn.Parameter], n: int
) -> tuple[Watch, Tensor]:
    """The forward pass, watched; once more without copies for models that cannot do with the shape of one."""
    try:
        watch = Watch(parameters, n)
        with watch:
            return watch, run()
    except InputError:
        raise
    except Exception:
        watch = Watch(parameters, n, copies=False)
        with watch:
            return watch, run()


def _dense_cotangent(logits: Tensor) -> Tensor:
    """One in general position, so that no row's gradient vanishes by accident."""
    draws = torch.Generator().manual_seed(0)
    return torch.randn(logits.shape[1:], generator=draws).to(logits).expand_as(logits)


class _Collector:
    """Gathers the contributions to each parameter until all of its uses have spoken."""

    def __init__(
        self,
        watch: Watch,
        parameters: Mapping[str, nn.Parameter],
        pieces: Pieces,
        grams: Grams,
        keep: bool,
        memory: int,
    ) -> None:
        self.parameters, self.pieces, self.grams, self.memory = parameters, pieces, grams, memory
        self.unknown = watch.unknown
        self.expected = Counter(use.parameter for use in watch.uses)
        self.of_call: dict[int, list[Use]] = {}
        for use in watch.uses:
            self.of_call.setdefault(id(use.call), []).append(use)
        self.arrived: dict[str, list[Factors | Tensor]] = {}
        self.kept: dict[str, list[list[Factors | Tensor]]] | None = {} if keep else None

    def take(self, call: Call, gradient: Tensor) -> None:
        """The gradient at the output of ``call`` has come."""
        with torch.no_grad():
            for use in self.of_call.get(id(call), []):
                if use.parameter in self.unknown:
                    continue
                arrived = self.arrived.setdefault(use.parameter, [])
                arrived.append(use.make(gradient))
                if len(arrived) == self.expected[use.parameter] and self.kept is None:
                    self._multiply(use.parameter, self.arrived.pop(use.parameter))

    def give_up(self, call: Call) -> None:
        for use in self.of_call[id(call)]:
            self.unknown.add(use.parameter)
            self.arrived.pop(use.parameter, None)

    def finish(self) -> None:
        """The end of a backward pass: uses that have had no gradient contribute nothing."""
        with torch.no_grad():
            for name, arrived in self.arrived.items():
                if self.kept is not None:
                    self.kept.setdefault(name, []).append(arrived)
                else:
                    self._multiply(name, arrived)
        self.arrived = {}

    def multiply_kept(self, k: int) -> None:
        """For ``full``: the samples once per logit, (c, i), put in the order (i, c)."""
        for name, passes in (self.kept or {}).items():
            if len(passes) < k or any(len(arrived) < self.expected[name] for arrived in passes):
                self.unknown.add(name)  # some use has no gradient for some logits
                continue
            with torch.no_grad():
                self._multiply(name, [_stack(same) for same in zip(*passes, strict=True)], len(passes))

    def _multiply(self, name: str, contributions: list[Factors | Tensor], k: int = 1) -> None:
        rows = _rows_of(contributions[0])
        found = {module: torch.zeros(rows, rows, dtype=torch.float64) for module, _ in self.pieces[name]}
        found = {module: gram.to(_device_of(contributions[0])) for module, gram in found.items()}
        if not _add(contributions, self.parameters[name].shape, self.pieces[name], found, self.memory):
            self.unknown.add(name)
            return
        for module, gram in found.items():
            if self.kept is not None:
                n = rows // k
                gram = gram.reshape(k, n, k, n).permute(1, 0, 3, 2).reshape(rows, rows)
            self.grams[module] += gram


def _add(
    contributions: Sequence[Factors | Tensor],
    shape: torch.Size,
    pieces: Sequence[tuple[str, Slice]],
    grams: Grams,
    memory: int,
) -> bool:
    """Add the Gram matrices of the slices of one parameter; False where their form does not allow it."""
    if all(isinstance(part, Tensor) for part in contributions):
        total = sum(contributions[1:], start=contributions[0])
        total = total.reshape(len(total), *shape)
        for module, piece in pieces:
            rows = total if not shape else total.narrow(piece.dim + 1, piece.start, piece.stop - piece.start)
            rows = rows.reshape(len(total), -1)
            grams[module] += gram_of(rows)
        return True
    if not all(isinstance(part, Factors) for part in contributions):
        return False
    columns = {part.right.width for part in contributions}
    if len(columns) > 1:
        return False
    width = columns.pop()
    dim = pieces[0][1].dim
    inner = math.prod(shape[dim + 1 :])
    if dim == 0 and inner % width == 0:
        unit = inner // width  # rows of the matrix to one entry of the first dimension
    elif inner * shape[dim] == width:
        unit, contributions = inner, [part.swapped for part in contributions]
    else:
        return False
    segments = [Segment(p.start * unit, p.stop * unit, grams[module]) for module, p in pieces]
    add_grams(contributions, segments, memory)
    return True


def _rows_of(part: Factors | Tensor) -> int:
    return part.left.n if isinstance(part, Factors) else len(part)


def _device_of(part: Factors | Tensor) -> torch.device:
    return part.left.device if isinstance(part, Factors) else part.device


def _stack(parts: Sequence[Factors | Tensor]) -> Factors | Tensor:
    """The same use in several backward passes, as one of more samples."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    left, right = (type(side).stack([p[i] for p in parts]) for i, side in enumerate(first[:2]))
    return Factors(left, right, first.row, first.column)
