"""Selections at several shares of the modules, the doses: their labels role by role, and what is lost between them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mat.errors import InputError
from mat.evidence.claims.rule import Case, Outcome, not_tested
from mat.evidence.measures import over_seeds


def of_roles(case: Case, orders: Sequence[str]) -> list[list[str]]:
    """The labels in every one of the roles ``orders``, dose by dose. Raises InputError unless there are as many in
    each."""
    roles = [case.claim.uses[order] for order in orders]
    if len({len(labels) for labels in roles}) > 1:
        raise InputError(
            f"claim {case.claim.id}: expected as many labels in each of {', '.join(orders)}; one for every dose"
        )
    return roles


def unlike_exact(case: Case, labels: Sequence[str]) -> Outcome | None:
    """Not tested, where a run of ``labels`` had other gradients than exact ones."""
    other = [label for label in labels if set(case.tables.of(case.place, label)["mode"]) != {"exact"}]
    return not_tested(f"The rule asks for exact gradients; {', '.join(other)} had others.") if other else None


def steps(case: Case, better: Sequence[str], worse: Sequence[str]) -> pd.DataFrame:
    """By seed, a column for each of ``worse``: its last validation loss minus that of its partner in ``better``, in
    percent of vanilla's range."""
    return pd.DataFrame(
        {
            second: over_seeds.worse_in_range(case.tables, case.place, second, first, over_seeds.final_losses)
            for first, second in zip(better, worse, strict=True)
        }
    )


def mean_step(found: pd.DataFrame) -> pd.Series:
    """The mean of ``steps`` over the doses, by seed; NaN where a dose has no run."""
    return found.mean(axis=1, skipna=False)
