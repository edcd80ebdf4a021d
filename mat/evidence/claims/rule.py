"""What a decision rule is asked, and what it answers: numbers, a verdict over them, a sentence that says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mat.evidence.claims.claim import Claim
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTED
from mat.evidence.measures.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval
from mat.evidence.stats.multiplicity import Decide
from mat.evidence.text import format

Thresholds = Mapping[str, float]  # of a claim, by name


class Case(NamedTuple):
    """What a claim is judged on: ``place`` is a task, a family of the table that its rule reads, or the scale."""

    tables: Tables
    place: str
    claim: Claim
    convergence: Convergence


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
    """A rule's answer for one case.

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

    def on(self, values: list[Interval], least: int) -> str:
        """The verdict on other ``values`` of the deciding intervals, of at least ``least`` seeds each."""
        if self.decide is None:
            return self.verdict
        return INCONCLUSIVE if too_few(values, least) else self.decide(values)


@dataclass(frozen=True)
class Rule:
    """What a file of ``mat.evidence.claims.rules`` gives: how a case is judged, and the names that its claim must give.

    ``thresholds``, and roles: every label in one of ``methods`` must have runs, of those in ``any_of`` one; of those in
    ``others`` none has to, and they may be no methods. ``families``: judged on the families of this table
    (``Tables.families_of``) instead of on tasks; ``scale``: judged once, over all tasks.
    """

    evaluate: Callable[[Case], Outcome]
    thresholds: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    families: str | None = None
    scale: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of all roles."""
        return (*self.methods, *self.any_of, *self.others)


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


def among_survivors(outcome: Outcome, case: Case, method: str, others: Sequence[str]) -> Outcome:
    """``outcome`` where runs of ``method`` or of those compared with it diverged: at most inconclusive, and the reason
    names them. "Not supported" stays where only ``method``'s own diverged: those would have counted against it too."""
    runs = {label: case.tables.of(case.place, label) for label in (method, *others)}
    lost = {label: count for label, rows in runs.items() if (count := int((rows["status"] == "diverged").sum()))}
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
    said = []
    for part, value, unit, ledger, *_ in effects:
        unit = "" if unit in ("Spearman ρ", "Kendall τ_b", "ratio max/min") else f" {unit}"
        ledger = "" if ledger == "none" else f" ({ledger})"
        said.append(f"{part} {format.estimate(value)}{unit}{ledger}, n = {value.n}")
    return "; ".join(said)
