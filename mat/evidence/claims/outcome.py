"""What a decision rule answers: numbers, a verdict over them, and a sentence that says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTED
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval
from mat.evidence.text import format

Decide = Callable[[list[Interval]], str]


class Effect(NamedTuple):
    """One number behind a verdict. ``part`` names it; ``decides`` is False for numbers shown beside; ``zero``: its
    rule asks whether it differs from no effect, which is what a smallest detectable effect is a distance from."""

    part: str
    interval: Interval
    unit: str
    ledger: str = "none"
    decides: bool = True
    zero: bool = False


@dataclass(frozen=True)
class Outcome:
    """A rule's answer for one task.

    ``decide``: the verdict as a function of the deciding effects' intervals, in their order, so that it can be asked
    again at another confidence or number of seeds. None where nothing was decided on numbers: not tested.
    """

    verdict: str
    reason: str
    effects: list[Effect] = field(default_factory=list)
    decide: Decide | None = None

    @property
    def deciding(self) -> list[Interval]:
        """The intervals that decide."""
        return [effect.interval for effect in self.effects if effect.decides]


def too_few(values: Sequence[Interval], least: int) -> bool:
    """Whether one of the intervals stands on fewer than ``least`` seeds."""
    return any(value.n < least for value in values)


def decided(effects: list[Effect], decide: Decide, reason: str) -> Outcome:
    """The outcome of ``decide`` on the effects that decide."""
    return Outcome(decide([effect.interval for effect in effects if effect.decides]), reason, effects, decide)


def undecided(effects: list[Effect], reason: str) -> Outcome:
    """Numbers on which nothing can be decided."""
    return decided(effects, lambda _: INCONCLUSIVE, reason)


def not_tested(reason: str, effects: Sequence[Effect] = ()) -> Outcome:
    """No numbers to decide on, and why."""
    return Outcome(NOT_TESTED, reason, list(effects))


def among_survivors(outcome: Outcome, tables: Tables, task: str, method: str, others: Sequence[str]) -> Outcome:
    """``outcome`` where runs of ``method`` or of those compared with it diverged: at most inconclusive, and the reason
    names them. "Not supported" stays where only ``method``'s own diverged: those would have counted against it too."""
    lost = {label: int((tables.of(task, label)["status"] == "diverged").sum()) for label in (method, *others)}
    lost = {label: count for label, count in lost.items() if count}
    if not lost or outcome.decide is None:
        return outcome

    def decide(values: list[Interval]) -> str:
        refuted = set(lost) == {method} and outcome.decide(values) == NOT_SUPPORTED
        return NOT_SUPPORTED if refuted else INCONCLUSIVE

    named = ", ".join(f"{label} {count}" for label, count in lost.items())
    said = f" Diverged runs: {named}; what is compared are survivors."
    reason = outcome.reason if said in outcome.reason else outcome.reason + said
    return decided(outcome.effects, decide, reason)


def say(*effects: Effect) -> str:
    """Effects in words: part, interval, unit, ledger, n."""
    return "; ".join(map(_say, effects))


def _say(effect: Effect) -> str:
    ledger = "" if effect.ledger == "none" else f" ({effect.ledger})"
    unit = "" if effect.unit in ("Spearman ρ", "Kendall τ_b", "ratio max/min") else f" {effect.unit}"
    return f"{effect.part} {format.estimate(effect.interval)}{unit}{ledger}, n = {effect.interval.n}"
