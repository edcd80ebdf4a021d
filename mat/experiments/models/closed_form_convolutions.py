"""The work of convolutional networks: which gradients a step computes follows from how convolutions are joined.

A network is a tree of ``Conv``, ``Chain`` (one part behind the other; an empty one is an identity) and ``Sum``
(parts that read one tensor and whose results are added). Its closed form is one walk over it from the images up, in
which every part says what its backward pass costs and whether the part below gets a gradient at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import NamedTuple

from mat.experiments.models.closed_form import REMAINDER, ModelWork, Work


@dataclass(frozen=True)
class Conv:
    """A convolution by the names of its filter groups, which are equal."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, depth: int, groups: int) -> Conv:
        """The convolution ``depth`` as ``mat.partition.discovery`` names its groups."""
        return cls(tuple(f"conv{depth}.filters{g}" for g in range(groups)))

    def work(self, macs: int, images: bool) -> dict[str, Work]:
        """Of a convolution with ``macs`` in its forward pass; ``images``: its input, whose gradient is never made."""
        each = macs // len(self.names)
        return dict.fromkeys(self.names, Work(each, each, 0 if images else each))


@dataclass(frozen=True)
class Chain:
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Sum:
    parts: tuple[Part, ...]


Part = Conv | Chain | Sum


class Flow(NamedTuple):
    """The backward pass of a part whose output's gradient is there: its multiply-adds; whether its input's gradient
    is computed (``passes``); of the channels of its output, the share whose gradient somebody reads, 0 where the
    output is a constant (``above``)."""

    macs: int
    passes: bool
    above: Fraction


class Network(ModelWork):
    """A convolutional network; ``tree``: how its convolutions are joined."""

    def __init__(self, tree: Chain, work: Mapping[str, Work]) -> None:
        super().__init__(work)
        self.tree = tree

    def step(self, active: Collection[str], mode: str) -> int:
        """A convolution computes its input's gradient only while something below it trains; in ``detach`` one that is
        wholly inactive sends none down, and of a convolution's output only the channels of active filters are asked
        for, unless it is added to something: channels of a sum are all asked for. In ``detach_residual`` that holds of
        a convolution beside an identity, while none below it in its chain is active."""
        active = self.checked(active, mode)
        on = {conv: sum(name in active for name in conv.names) for conv in _convolutions(self.tree)}
        made = _flow(self.tree, on, self, Fraction(0), _detached(self.tree, on, mode))
        return made.macs + self._beside(made.above)

    def extremes(self, count: int, mode: str) -> tuple[int, int]:
        """By dynamic programming from the images up over the number of active modules so far and the share of the
        channels there whose gradient is read; what a part costs depends on nothing else below it."""
        self.checked((), mode, count)
        states = {(0, Fraction(0)): (0, 0)}
        for part in self.tree.parts:
            found: dict[tuple[int, Fraction], tuple[int, int]] = {}
            choices = {below: _choices(part, self, below, mode) for _, below in states}
            for (used, below), (least, most) in states.items():
                for (on, passes, above), (low, high) in choices[below].items():
                    if used + on <= count:
                        # what lies below a part that sends nothing down costs nothing, whatever is active there
                        here = (low + least, high + most) if passes else (low, high)
                        _widen(found, (used + on, above), here)
            states = found
        ends = [[macs + self._beside(above) for macs in both] for (n, above), both in states.items() if n == count]
        return min(least for least, _ in ends), max(most for _, most in ends)

    def _beside(self, above: Fraction) -> int:
        """All forward passes, and the remainder, the classifier, which sends a gradient down where something below it
        trains."""
        rest = self[REMAINDER]
        return sum(one.forward for one in self.values()) + rest.weight + (rest.input if above else 0)


def _convolutions(part: Part) -> Iterator[Conv]:
    if isinstance(part, Conv):
        yield part
    else:
        for inner in part.parts:
            yield from _convolutions(inner)


def _detached(part: Part, on: Mapping[Conv, int], mode: str) -> set[Conv]:
    """Convolutions whose inactive filters are constants."""
    if mode != "detach_residual":
        return set(_convolutions(part)) if mode == "detach" else set()
    found: set[Conv] = set()
    inner = () if isinstance(part, Conv) else part.parts
    beside = isinstance(part, Sum) and Chain() in part.parts
    for one in inner:
        below = False
        for conv in _convolutions(one) if beside else ():
            found |= set() if below else {conv}
            below = below or on[conv] > 0
        found |= set() if beside else _detached(one, on, mode)
    return found


def _flow(part: Part, on: Mapping[Conv, int], work: Network, below: Fraction, detached: set[Conv]) -> Flow:
    """``on``: active groups of each convolution; ``below``: as ``Flow.above``, of the part's input."""
    if isinstance(part, Conv):
        one, active, total = work[part.names[0]], on[part], len(part.names)
        through = active if part in detached else total
        macs = active * one.weight + int(below * through * one.input)
        above = Fraction(active, total) if part in detached else Fraction(active > 0 or below > 0)
        return Flow(macs, below > 0 and through > 0, above)
    if isinstance(part, Sum):
        branches = [_flow(branch, on, work, below, detached) for branch in part.parts]
        return Flow(
            sum(branch.macs for branch in branches),
            any(branch.passes for branch in branches),
            Fraction(any(branch.above for branch in branches)),
        )
    macs, passes = 0, below > 0
    for inner in part.parts:
        made = _flow(inner, on, work, below, detached)
        macs = made.macs + (macs if made.passes else 0)
        passes, below = passes and made.passes, made.above
    return Flow(macs, passes, below)


def _choices(
    part: Part, work: Network, below: Fraction, mode: str
) -> dict[tuple[int, bool, Fraction], tuple[int, int]]:
    """(active modules, passes, above) → least and most multiply-adds, over the active sets of one part."""
    convs = list(_convolutions(part))
    found: dict[tuple[int, bool, Fraction], tuple[int, int]] = {}
    for counts in product(*(range(len(conv.names) + 1) for conv in convs)):
        on = dict(zip(convs, counts, strict=True))
        macs, passes, above = _flow(part, on, work, below, _detached(part, on, mode))
        _widen(found, (sum(counts), passes, above), (macs, macs))
    return found


def _widen(found: dict, key: tuple, new: tuple[int, int]) -> None:
    old = found.get(key, new)
    found[key] = (min(old[0], new[0]), max(old[1], new[1]))
