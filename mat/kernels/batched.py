"""Kernels of all modules from one forward pass, and one backward pass per cotangent, by one estimator or several.

The model runs with its parameters frozen, so no weight gradient of the batch is ever made. As soon as the
gradient has reached all uses of a parameter, the Gram matrices of its slices are added up and its factors are
let go (``mat.kernels.recording.factors``); only ``full`` keeps them, because it multiplies rows of different logits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mat.errors import InputError
from mat.kernels.gram import Segment, add_grams, gram_of
from mat.kernels.premise import check_premise
from mat.kernels.reasons import Why
from mat.kernels.recording.factors import Factors
from mat.kernels.recording.operands import Call
from mat.kernels.recording.recorder import Recorder, Use, graph_ends
from mat.kernels.recording.tracing import Tracer, tag_base, tags
from mat.kernels.request import Grams, Request, taking_gradients
from mat.partition.partition import Slice

# The largest kernels that ``full`` makes, all modules together, in bytes.
FULL_BYTES = 2**32


class Found(NamedTuple):
    """``grams``: of the modules. ``unfollowed``: parameters that could not be followed and have contributed nothing,
    and why. ``shape``: of one sample's logits."""

    grams: Grams
    unfollowed: dict[str, Why]
    shape: torch.Size


def kernels(requests: Sequence[Request], verify: bool) -> list[Found]:
    """The kernels of the modules by each of the ``requests``, which differ by their estimators alone, as far as their
    parameters can be followed; all parameters are frozen.

    ``verify``: compare outputs with those of samples in other batches (``mat.kernels.premise``), and trace every row to
    its sample, also where its shape says it, unless the functions behind it do. Raises InputError where the logits have
    no dimension of samples or depend on the batch, or ``full`` kernels would be larger than 4 GiB.
    """
    request = requests[0]
    recorder, logits = _recorded(request)
    n = request.n
    if logits.dim() < 1 or len(logits) != n:
        raise InputError(
            f"the model's outputs must be (n,) or (n, …) with n = {n} samples, got shape {tuple(logits.shape)}"
        )
    outputs = logits[0].numel()
    sizes = [n * outputs if one.full else n for one in requests]
    needed = len(request.modules) * max(sizes) ** 2 * 8
    if max(sizes) > n and needed > FULL_BYTES:
        raise InputError(
            f"'full' kernels of {n} samples with {outputs} logits each, for {len(request.modules)} modules, need "
            f"{needed / 2**30:.0f} GiB; at most {FULL_BYTES / 2**30:.0f} are allowed. Use "
            "fewer samples, or 'trace' or 'projected'"
        )
    if verify:
        check_premise(request, logits.detach())
    ends = graph_ends(logits) if logits.requires_grad else []
    unfollowed = recorder.unfollowed(leaf for leaf, _ in ends)
    found = []
    for size in sizes:
        zeros = {m: torch.zeros(size, size, dtype=torch.float64, device=logits.device) for m in request.modules}
        found.append(Found(zeros, dict(unfollowed), logits.shape[1:]))
    if ends:
        _backward_passes(requests, recorder, logits, [edge for _, edge in ends], found, verify)
    return found


def _backward_passes(
    requests: Sequence[Request],
    recorder: Recorder,
    logits: Tensor,
    ends: Sequence[GradientEdge],
    found: Sequence[Found],
    verify: bool,
) -> None:
    """All backward passes, to the ``ends`` of the graph: first, where it is called for, those that trace every row to
    its sample. Adds to ``unfollowed`` what cannot be traced or multiplied."""
    passes = [one.estimator.count(logits[0].numel()) for one in requests]
    left = sum(passes)
    collectors = [_Collector(one, recorder, of) for one, of in zip(requests, found, strict=True)]

    def backward(cotangent: Tensor, listener: Callable[[Call, Tensor], None], last: bool) -> None:
        recorder.listener = listener
        # gradients at the ends are returned and dropped; those at the uses went to the listener
        torch.autograd.grad(logits, ends, cotangent, retain_graph=not last, allow_unused=True)

    cotangents = [one.estimator.cotangents(logits, one.labels) for one in requests]
    doubtful = {id(call) for call in recorder.to_trace(logits, verify)}
    if doubtful:
        single = left == 1
        # with several cotangents a row may have no gradient from the first, so a dense one finds the samples
        cotangent = next(cotangents[0]) if single else dense_cotangent(logits)
        base = tag_base({logits.dtype, *(p.dtype for p in requests[0].parameters.values())})
        tracers: dict[int, Tracer] = {}

        def plain(call: Call, gradient: Tensor) -> None:
            if id(call) in doubtful:
                tracers[id(call)] = Tracer(call, gradient, base)

        def tagged(call: Call, gradient: Tensor) -> None:
            if id(call) not in tracers:
                return
            tracers[id(call)].read(gradient)
            if place < len(digits):
                return
            tracer = tracers.pop(id(call))
            if not tracer.assign():
                for collector in collectors:
                    collector.give_up(call)
            elif single:
                collectors[0].take(call, tracer.gradient)

        backward(cotangent, plain, last=False)
        digits = tags(requests[0].n, base).to(logits.device)
        for place, row in enumerate(digits, 1):
            factor = (2.0**row).to(logits.dtype).reshape(-1, *(1,) * (logits.dim() - 1))
            backward(cotangent * factor, tagged, last=single and place == len(digits))
        if single:
            collectors[0].finish()
            return
    for collector, its, count in zip(collectors, cotangents, passes, strict=True):
        for cotangent in its:
            left -= 1
            backward(cotangent, collector.take, last=not left)
            collector.finish()
        collector.multiply_kept(count)


def _recorded(request: Request) -> tuple[Recorder, Tensor]:
    """The forward pass, recorded; once more without copies for models that cannot do with the shape of one."""
    try:
        return _run(request, copies=True)
    except InputError:
        raise
    except Exception:
        return _run(request, copies=False)


def _run(request: Request, copies: bool) -> tuple[Recorder, Tensor]:
    recorder = Recorder(request.parameters, request.n, copies)
    with taking_gradients(request.parameters.values()), recorder:
        return recorder, request.logits()


def dense_cotangent(logits: Tensor) -> Tensor:
    """One in general position, so that no row's gradient vanishes by accident."""
    draws = torch.Generator().manual_seed(0)
    return torch.randn(logits.shape[1:], generator=draws).to(logits).expand_as(logits)


class _Collector:
    """Gathers the contributions to each parameter until all of its uses have spoken."""

    def __init__(self, request: Request, recorder: Recorder, found: Found) -> None:
        self.request, self.grams, self.unfollowed = request, found.grams, found.unfollowed
        self.expected = Counter(use.parameter for use in recorder.uses)
        self.of_call: dict[int, list[Use]] = {}
        for use in recorder.uses:
            self.of_call.setdefault(id(use.call), []).append(use)
        self.arrived: dict[str, list[Factors | Tensor]] = {}
        self.kept: dict[str, list[list[Factors | Tensor]]] | None = {} if request.full else None

    def take(self, call: Call, gradient: Tensor) -> None:
        """The gradient at the output of ``call`` has come."""
        with torch.no_grad():
            for use in self.of_call.get(id(call), []):
                if use.parameter in self.unfollowed:
                    continue
                arrived = self.arrived.setdefault(use.parameter, [])
                arrived.append(use.make(gradient))
                if len(arrived) == self.expected[use.parameter] and self.kept is None:
                    self._multiply(use.parameter, self.arrived.pop(use.parameter))

    def give_up(self, call: Call) -> None:
        for use in self.of_call[id(call)]:
            self.unfollowed.setdefault(use.parameter, Why.UNTRACED)
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
        if self.kept is None:
            return
        with torch.no_grad():
            for name, passes in self.kept.items():
                if len(passes) < k or any(len(arrived) < self.expected[name] for arrived in passes):
                    self.unfollowed[name] = Why.UNEVEN
                else:
                    self._multiply(name, [_stack(same) for same in zip(*passes, strict=True)])
            for gram in self.grams.values():
                n = len(gram) // k
                gram.copy_(gram.reshape(k, n, k, n).permute(1, 0, 3, 2).reshape(len(gram), -1))

    def _multiply(self, name: str, contributions: list[Factors | Tensor]) -> None:
        pieces, shape = self.request.pieces[name], self.request.parameters[name].shape
        if not _add(contributions, shape, pieces, self.grams, self.request.memory):
            self.unfollowed[name] = Why.MIXED


def _add(
    contributions: Sequence[Factors | Tensor],
    shape: torch.Size,
    pieces: Sequence[tuple[str, Slice]],
    grams: Grams,
    memory: int,
) -> bool:
    """Add the Gram matrices of the slices of one parameter; False, and nothing added, where their form does not
    allow it."""
    formed = [part for part in contributions if isinstance(part, Tensor)]
    factors = [part for part in contributions if isinstance(part, Factors)]
    if not factors:
        total = sum(formed[1:], start=formed[0])
        total = total.reshape(len(total), *shape)
        for module, piece in pieces:
            grams[module] += gram_of(piece.of(total, 1).reshape(len(total), -1))
        return True
    matrix = None if formed else as_matrix(factors, shape, pieces[0][1].dim)
    if matrix is None:
        return False
    factors, unit = matrix
    segments = [Segment(p.start * unit, p.stop * unit, grams[module]) for module, p in pieces]
    add_grams(factors, segments, memory)
    return True


def as_matrix(factors: Sequence[Factors], shape: torch.Size, dim: int) -> tuple[list[Factors], int] | None:
    """The uses of a parameter as those of one matrix that is cut along its rows, which is the factors' own or its
    transpose, and how many of its rows one entry of dimension ``dim`` is; None where their form does not allow it."""
    columns = {part.right.width for part in factors}
    if len(columns) > 1:
        return None
    width = columns.pop()
    inner = math.prod(shape[dim + 1 :])
    if dim == 0 and inner % width == 0:
        return list(factors), inner // width
    if inner * shape[dim] == width:
        return [part.swapped for part in factors], inner
    return None


def _stack(parts: Sequence[Factors | Tensor]) -> Factors | Tensor:
    """The same use in several backward passes, as one of more samples."""
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return Factors.stack([part for part in parts if isinstance(part, Factors)])
