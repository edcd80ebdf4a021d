"""Which outputs of which maps feed which inputs of the map behind them: of heads and feed-forward neurons.

One forward pass is cut at every map of a premise: what a map puts out becomes a leaf, so the gradient of one map's
input reaches the maps that feed it directly, and no others. With the inputs of run i kept by a factor s_i, the
gradients at the outputs of run i are s_i times those with all factors 1 exactly where they feed no other run.
⌈log₈ n⌉ passes, of all premises at once, tell n runs apart; only one that is contradicted has every run kept alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from mat._torch_functional import multi_head_attention
from mat.forward import Inputs, called, evaluation
from mat.partition.effect.codes import (
    CONFIRMED,
    CONTRADICTED,
    UNSEEN,
    buffers_kept,
    codes,
    digits,
    first_few,
    scaled,
    spread,
)
from mat.partition.partition import Premise, Slice
from mat.partition.projections import Runs, runs_of

_LINEAR, _ADDMM, _MULTI_HEAD = F.linear, torch.addmm, F.multi_head_attention_forward
_MATMULS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)


class Trace:
    """One forward pass, cut at maps: by a map's weight what went in at every call, and what came out from which row
    on, as a leaf (…, rows)."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[Tensor]] = {}
        self.outputs: dict[str, list[tuple[int, Tensor]]] = {}
        self.result: Any = None

    @classmethod
    def of(cls, model: nn.Module, weights: Collection[str], inputs: Inputs) -> Trace:
        """Run ``model``, cut at the maps of ``weights``, on the first samples of ``inputs``; model and generators are
        left as they were."""
        trace = cls()
        with evaluation(model), buffers_kept(model), _Cutting(model, weights, trace):
            trace.result = called(model, first_few(inputs))
        return trace

    def verdicts(self, premises: Sequence[Premise]) -> dict[Premise, str]:
        """Of every premise: ``confirmed``, ``contradicted`` (a row feeds columns of another run, or nothing feeds the
        columns), or ``unseen`` (a map was not called where a gradient could follow)."""
        try:
            plain = self.gradients({premise: torch.ones(premise.sink.stop) for premise in premises})
            found = {premise: self._first_look(premise, plain[premise]) for premise in premises}
            open_ = [premise for premise, verdict in found.items() if verdict == CONFIRMED]
            for digit in range(max((digits(premise.count) for premise in open_), default=0)):
                factors = {premise: codes(premise.count, digit) for premise in open_}
                again = self.gradients({p: spread(code, p.sink.stop) for p, code in factors.items()})
                for p, code in factors.items():
                    if not all(
                        scaled(before, after, spread(code, source.stop - source.start))
                        for source, before, after in zip(p.sources, plain[p], again[p], strict=True)
                    ):
                        found[p] = CONTRADICTED
        except CheckpointError:  # what runs again in the backward pass is not cut
            return dict.fromkeys(premises, UNSEEN)
        return found

    def _first_look(self, premise: Premise, gradients: Sequence[Tensor | None]) -> str:
        seen = [source.parameter in self.outputs for source in premise.sources]
        if premise.sink.parameter not in self.inputs or not all(seen):
            return UNSEEN
        lengths = [premise.sink.stop, *(source.stop - source.start for source in premise.sources)]
        fits = all(length % premise.count == 0 for length in lengths)
        return CONFIRMED if fits and any(gradient is not None for gradient in gradients) else CONTRADICTED

    def groups(self, premise: Premise) -> list[tuple[list[Runs], Runs]]:
        """What belongs together by effect: runs of columns that share a row, with those rows, source by source."""
        count, width = premise.count, premise.sink.stop // premise.count
        kept = (spread((torch.arange(count) == m).float(), premise.sink.stop) for m in range(count))
        answers = [self.gradients({premise: factors})[premise] for factors in kept]
        tables = []
        for source, runs in zip(premise.sources, zip(*answers, strict=True), strict=True):
            none = torch.zeros(source.stop - source.start)
            table = torch.stack([none if g is None else g.abs().amax(0).double().cpu() for g in runs], 1)
            eps = max((torch.finfo(g.dtype).eps for g in runs if g is not None), default=0.0)
            tables.append(table > 8 * eps * table.amax(1, keepdim=True))
        home = list(range(count))
        for row in torch.cat(tables).unique(dim=0):
            fed = {home[m] for m in row.nonzero().flatten().tolist()}
            home = [min(fed) if h in fed else h for h in home]
        found = []
        for h in sorted(set(home)):
            members = torch.tensor([other == h for other in home])
            own = [_runs((table & members).any(1)) for table in tables]
            found.append((own, _runs(members.repeat_interleave(width))))
        return found

    def gradients(self, factors: Mapping[Premise, Tensor]) -> dict[Premise, list[Tensor | None]]:
        """Of every source the gradients (calls, rows) at its rows, with the columns of its sink kept by factors;
        None where the sink does not depend on it."""
        sinks, cotangents = [], []
        for premise, factor in factors.items():
            for x in self.inputs.get(premise.sink.parameter, ()):
                if x.requires_grad and x.shape[-1] == len(factor):
                    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
                    sinks.append(x)
                    cotangents.append((noise * factor).to(x))
        leaves = [leaf for calls in self.outputs.values() for _, leaf in calls]
        found: Sequence[Tensor | None] = [None] * len(leaves)
        if sinks and leaves:
            found = torch.autograd.grad(sinks, leaves, cotangents, retain_graph=True, allow_unused=True)
        at = {id(leaf): gradient for leaf, gradient in zip(leaves, found, strict=True)}
        return {premise: [self._rows(source, at) for source in premise.sources] for premise in factors}

    def _rows(self, source: Slice, at: Mapping[int, Tensor | None]) -> Tensor | None:
        parts, rows = [], source.stop - source.start
        for start, leaf in self.outputs.get(source.parameter, ()):
            gradient, begin = at[id(leaf)], source.start - start
            if gradient is not None and 0 <= begin <= leaf.shape[-1] - rows:
                flat = gradient.reshape(-1, leaf.shape[-1]).narrow(1, begin, rows)
                parts.append(flat.nan_to_num(0.0, 0.0, 0.0))
        return torch.cat(parts) if parts else None


def _runs(kept: Tensor) -> Runs:
    """Runs ``start:stop`` of the true entries of ``kept`` (n,)."""
    return runs_of((i, i + 1) for i in kept.nonzero().flatten().tolist())


class _Cutting(TorchFunctionMode):
    """Cuts a forward pass at the maps of ``weights``: functions that are called with one or rows of it."""

    def __init__(self, model: nn.Module, weights: Collection[str], trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.weights = {id(p): (name, p) for name, p in model.named_parameters() if name in weights}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _LINEAR:
            return self.linear(*args, **kwargs)
        if func is _ADDMM and len(args) == 3 and id(args[2]) in self.weights:  # a layer with an (in, out) weight
            return self._cut(self.weights[id(args[2])][0], 0, args[1], func(*args, **kwargs))
        if func in _MATMULS and len(args) == 2 and args[1].dim() == 2 and args[1]._base is not None:
            return self.linear(args[0], args[1].T)
        if func is _MULTI_HEAD:
            return multi_head_attention(linear=self.linear)(*args, **kwargs)
        return func(*args, **kwargs)

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = _LINEAR(input, weight, bias)
        base = weight if id(weight) in self.weights else weight._base
        if base is None or id(base) not in self.weights:
            return output
        name, whole = self.weights[id(base)]
        if weight.dim() != 2 or weight.stride() != whole.stride() or weight.shape[1] != whole.shape[1]:
            return output
        start = int(weight.storage_offset() - whole.storage_offset()) // max(whole.stride(0), 1)
        return self._cut(name, start, input, output)

    def _cut(self, name: str, start: int, input: Tensor, output: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return output
        self.trace.inputs.setdefault(name, []).append(input.clone())
        leaf = output.detach().requires_grad_()
        self.trace.outputs.setdefault(name, []).append((start, leaf))
        return leaf.clone()  # which may be changed in place
