"""A claim with its decision rule, as ``workflows/claims.yaml`` states it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import MinLen

from mat.errors import InputError
from mat.evidence.measures.curves import Convergence
from mat.records.costs import LEDGERS

ROLES = {
    f"<{name}>": name for name in ("method", "random", "short", "baselines", "budgets")
}  # labels that a reading brings


@dataclass(frozen=True)
class Entry:
    """What the file says of a claim. ``measure``: the module of ``mat.evidence.claims.rules`` that judges it.
    ``fixed``: when the rule was written, and what had been seen by then. ``tasks``: labels, or "all". ``readings``:
    whether it is judged under every reading of the paper (``mat.evidence.claims.readings``). ``over_tasks``: judged by
    the tasks' verdicts, or by its rule on the effects that are pooled over them (``mat.evidence.claims.pooling``).
    ``needs``: converged, for a claim that is not tested on a task where vanilla has not converged.
    ``superseded_by``: the claim whose rule decides in this one's place, which corrects nothing then."""

    id: str
    text: str
    reported: str
    rule: str
    fixed: str
    measure: str
    ledger: Literal[(*LEDGERS, "none")]
    tasks: list[str] | Literal["all"]
    uses: dict[str, Annotated[list[str], MinLen(1)]]
    thresholds: dict[str, float]
    min_seeds: int
    ambiguities: list[str]
    readings: bool = False
    over_tasks: Literal["verdicts", "pooled"] = "verdicts"
    needs: Literal["converged"] | None = None
    superseded_by: str | None = None

    def __post_init__(self) -> None:
        empty = [name for name in ("id", "text", "reported", "rule", "fixed") if not getattr(self, name).strip()]
        if empty:
            raise InputError(f"{empty[0]}: expected a text, got nothing")
        if self.min_seeds < 2:
            raise InputError(f"min_seeds: expected a whole number of at least 2, got {self.min_seeds}")


@dataclass(frozen=True, kw_only=True)
class Claim(Entry):
    """One claim, with what the file says for all: ``overall``, verdicts for tasks that differ (mixed,
    any_inconclusive), and ``min_reached_ratio``, the share of what a reading selects that gradients must reach."""

    overall: tuple[str, str] = ("", "")
    min_reached_ratio: float = 0.0

    def one(self, name: str) -> str:
        """The one label of a role. Raises InputError where it has another number of them."""
        labels = self.uses[name]
        if len(labels) != 1:
            raise InputError(
                f"claim {self.id}: role '{name}' needs exactly one label, got {', '.join(labels) or 'none'}"
            )
        return labels[0]

    def played_by(self, role: str, labels: list[str]) -> Claim:
        """The same claim with ``labels`` in a role."""
        return replace(self, uses={**self.uses, role: labels})

    @property
    def after(self) -> str:
        """What decides in its place, in words; "" where it decides."""
        return f"superseded by {self.superseded_by}" if self.superseded_by else ""

    @property
    def titled(self) -> str:
        """The text, and what decides in its place."""
        return f"{self.text} (S{self.after[1:]}.)" if self.after else self.text

    @property
    def labels(self) -> set[str]:
        """The labels of all roles."""
        return {label for labels in self.uses.values() for label in labels}

    @property
    def ledgers(self) -> tuple[str, ...]:
        """The ledger that the claim is judged by, then those that are shown beside."""
        return self.ledger, *(name for name in LEDGERS if name != self.ledger)


@dataclass(frozen=True)
class Claims:
    """The whole file: what holds for every claim, and the claims in their order. ``corrected``: when it was fixed which
    of them Holm's correction is over."""

    convergence: Convergence
    mixed: str
    any_inconclusive: str
    claims: tuple[Claim, ...]
    corrected: str
