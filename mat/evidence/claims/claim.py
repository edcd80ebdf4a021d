"""A claim with its decision rule, as ``workflows/claims.yaml`` states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mat.errors import InputError
from mat.evidence.runs.curves import Convergence
from mat.records.costs import LEDGERS


@dataclass(frozen=True)
class Claim:
    """One claim. Either ``not_tested`` holds a reason, or the other fields hold its decision rule.

    ``measure``: the module of ``mat.evidence.claims.rules`` that judges it. ``fixed``: when the rule was written, and
    what had been seen by then. ``overall``: the file's verdicts for tasks that differ (mixed, any_inconclusive).
    """

    id: str
    text: str
    reported: str
    not_tested: str | None = None
    rule: str = ""
    fixed: str = ""
    measure: str = ""
    ledger: str = "none"
    tasks: list[str] | None = None  # None: every task
    uses: Mapping[str, list[str]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    min_seeds: int = 0
    ambiguities: tuple[str, ...] = ()
    overall: tuple[str, str] = ("", "")

    def role(self, name: str) -> list[str]:
        """The labels that play a role in the rule."""
        return list(self.uses[name])

    def one(self, name: str) -> str:
        """The one label of a role. Raises InputError where it has another number of them."""
        labels = self.role(name)
        if len(labels) != 1:
            raise InputError(
                f"claim {self.id}: role '{name}' needs exactly one label, got {', '.join(labels) or 'none'}"
            )
        return labels[0]

    def played_by(self, role: str, labels: list[str]) -> Claim:
        """The same claim with ``labels`` in a role."""
        return replace(self, uses={**self.uses, role: labels})

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
    """The whole file: what holds for every claim, and the claims in their order."""

    convergence: Convergence
    mixed: str
    any_inconclusive: str
    claims: tuple[Claim, ...]
