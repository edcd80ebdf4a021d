"""Which kernel estimator the rule picks, and what happens to a ranking when one thing about it changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mat.evidence.stats.intervals import Interval, known_interval

TRAINED = "trained"  # the checkpoints after the start, pooled
SAYS = {
    "reference": "to the reference estimator",
    "largest_n": "to the largest n",
    "probe_sets": "to disjoint samples",
    "cosine": "to cosine",
    "per_parameter": "to per parameter",
}


@dataclass(frozen=True)
class Choice:
    """What the rule for the default estimator says. ``candidates``: one row per estimator measured everywhere,
    with cost_ratio, the largest shortfall from a family's best estimator, and eligible. ``picked``: None when there
    is no candidate; ``reason``: in words."""

    picked: str | None
    configured: str
    candidates: pd.DataFrame
    reason: str


def choose(table: pd.DataFrame, margin: float) -> Choice:
    """The cheapest estimator whose mean τ_b with the reference is within ``margin`` of the best in every family;
    where none is, the one with the smallest largest shortfall.

    At each family's default n and normalisation, over the checkpoints after the start. A candidate is measured
    there in every family and the reference of none; the best is taken over all estimators but the reference.
    The cost is the geometric mean over families of the executed multiply-adds, relative to sum_of_logits.
    """
    rows = at_default(table, "reference")
    configured = " or ".join(sorted(set(table["default_estimator"])))
    wide = rows.pivot(index="family", columns="estimator", values="tau_mean")
    wide = wide.reindex(sorted(set(table["family"])))
    everywhere = [name for name in wide.columns if wide[name].notna().all()]
    if not everywhere:
        empty = pd.DataFrame(columns=["estimator", "cost_ratio", "shortfall", "eligible"])
        return Choice(None, configured, empty, "No estimator has a mean τ_b with a reference in every family.")
    shortfall = (-wide[everywhere]).add(wide.max(axis=1), axis=0).max()
    cost = rows.groupby("estimator")["cost_ratio"].agg(lambda ratio: float(np.exp(np.log(ratio).mean())))
    found = pd.DataFrame({"cost_ratio": cost[everywhere], "shortfall": shortfall})
    found["eligible"] = found["shortfall"] <= margin
    found = found.rename_axis("estimator").reset_index().sort_values(["cost_ratio", "estimator"], ignore_index=True)
    eligible = found[found["eligible"]]
    if eligible.empty:
        picked = found.loc[found["shortfall"].idxmin(), "estimator"]
        how = f"No candidate is within {margin:g} of the best in every family; {picked} falls short least."
    else:
        picked = eligible["estimator"].iloc[0]
        how = f"The rule picks {picked}."
    same = "is" if picked == configured else "is not"
    reason = f"{how} The configured default, {configured}, {same} the one picked."
    return Choice(picked, configured, found, reason)


def at_default(table: pd.DataFrame, comparison: str, normalisation: str | None = None) -> pd.DataFrame:
    """Rows of one comparison, pooled over the trained checkpoints, at each family's default n and
    normalisation (or the one given), for every estimator."""
    wanted = table["default_normalisation"] if normalisation is None else normalisation
    chosen = (table["comparison"] == comparison) & (table["checkpoint"] == TRAINED)
    return table[chosen & (table["n"] == table["default_n"]) & (table["normalisation"] == wanted)]


def changes(table: pd.DataFrame, family: str) -> dict[str, Interval]:
    """What happens to the family's default ranking when one thing changes: mean τ_b per key of ``SAYS``.

    Unknown (NaN) where it was not measured: no reference, or no n above the default.
    """
    found = {}
    for change in SAYS:
        normalised = change in ("cosine", "per_parameter")
        rows = at_default(table, "raw", change) if normalised else at_default(table, change)
        rows = rows[(rows["family"] == family) & (rows["estimator"] == rows["default_estimator"])]
        found[change] = tau(rows.iloc[0]) if len(rows) else Interval(np.nan, np.nan, np.nan, 0)
    return found


def tau(row: pd.Series) -> Interval:
    """τ_b of a row; tables of before it was stored have no ``tau_deviation``."""
    ends, n = (row["tau_mean"], row["tau_low"], row["tau_high"]), int(row["n_seeds"])
    return known_interval(*ends, n, (-1, 1), float(row.get("tau_deviation", np.nan)))
