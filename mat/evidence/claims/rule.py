"""The record that a file of ``mat.evidence.claims.rules`` gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mat.evidence.claims.claim import Claim
from mat.evidence.claims.outcome import Outcome
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables


@dataclass(frozen=True)
class Rule:
    """``evaluate(tables, place, claim, convergence)`` and the names that its claim must give.

    ``thresholds``, and roles: every label in one of ``methods`` must have runs, of those in ``any_of`` one; of those in
    ``others`` none has to, and they may be no methods. ``families``: judged on the families of this table
    (``Tables.families_of``) instead of on tasks; ``scale``: judged once, over all tasks.
    """

    evaluate: Callable[[Tables, str, Claim, Convergence], Outcome]
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
