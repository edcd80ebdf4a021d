"""What a decision rule answers: numbers, a verdict over them, and a sentence that says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mat.evidence.claims import decisions
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval
from mat.evidence.text import format

if TYPE_CHECKING:
    from mat.evidence.claims.claim import Claim

Decide = Callable[[list[Interval]], str]


class Effect(NamedTuple):
    """One number behind a verdict. ``part`` names it; ``decides`` is False for numbers shown beside; ``zero``: its
    rule asks whether it differs from no effect, which is what a smallest detectable effect is a distance from."""

    part: str
    interval: Interval
    unit: str
    ledger: str
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
        return deciding(self.effects)


def deciding(effects: Sequence[Effect]) -> list[Interval]:
    """The intervals that decide."""
    return [effect.interval for effect in effects if effect.decides]


def decided(effects: list[Effect], decide: Decide, reason: str) -> Outcome:
    """The outcome of ``decide`` on the deciding effects."""
    return Outcome(decide(deciding(effects)), reason, effects, decide)


def undecided(_: list[Interval]) -> str:
    """The decision where there is nothing to decide on."""
    return decisions.INCONCLUSIVE


def among_survivors(
    outcome: Outcome, tables: Tables, task: str, method: str, others: Sequence[str]
) -> Outcome:
    """``outcome`` where runs of ``method`` or of those compared with it diverged: at most inconclusive, and the reason
    names them. "Not supported" stays where only ``method``'s own diverged: those would have counted against it too."""
    lost = {label: int((tables.of(task, label)["status"] == "diverged").sum()) for label in (method, *others)}
    lost = {label: count for label, count in lost.items() if count}
    if not lost or outcome.decide is None:
        return outcome

    def decide(values: list[Interval]) -> str:
        refuted = set(lost) == {method} and outcome.decide(values) == decisions.NOT_SUPPORTED
        return decisions.NOT_SUPPORTED if refuted else decisions.INCONCLUSIVE

    named = ", ".join(f"{label} {count}" for label, count in lost.items())
    said = f" Diverged runs: {named}; what is compared are survivors."
    reason = outcome.reason if said in outcome.reason else outcome.reason + said
    return decided(outcome.effects, decide, reason)


@dataclass(frozen=True)
class Rule:
    """``evaluate(tables, task, claim, convergence)`` and what its claim must name.

    ``roles``: every label that plays one must have runs, except in ``any_role``, of whose methods one is enough, and
    in the roles ``optional``. ``families``: judged on the families of this table (``Tables.families_of``) instead
    of on
    tasks; ``scale``: judged once, over all tasks.
    """

    evaluate: Callable[[Tables, str, Claim, Convergence], Outcome]
    thresholds: frozenset[str]
    roles: frozenset[str]
    any_role: str | None = None
    families: str | None = None
    optional: frozenset[str] = frozenset()
    scale: bool = False


def rule(
    evaluate: Callable[..., Outcome],
    thresholds: str,
    roles: str,
    any_role: str | None = None,
    families: str | None = None,
    optional: str = "",
    scale: bool = False,
) -> Rule:
    """A ``Rule`` with its names in one text each."""
    names = (frozenset(text.split()) for text in (thresholds, roles, optional))
    thresholds_of, roles_of, optional_of = names
    return Rule(evaluate, thresholds_of, roles_of, any_role, families, optional_of, scale)


def say(effect: Effect) -> str:
    """An effect in words: part, interval, unit, ledger, n."""
    ledger = "" if effect.ledger == "none" else f" ({effect.ledger})"
    unit = "" if effect.unit in ("Spearman ρ", "Kendall τ_b", "ratio max/min") else f" {effect.unit}"
    return f"{effect.part} {format.estimate(effect.interval)}{unit}{ledger}, n = {effect.interval.n}"
