"""The default estimator that the evidence asks for (X6b): the cheapest that ranks modules as the reference does.

An *estimator* is a name with its directions, its positions and its n. The table that the rule reads
(``price_list``) has one row per family, share of training and estimator, with columns

``tau_mean``, ``tau_low``, …   τ_b between its ranking of modules by λ_max on one probe set and the reference's, at the
                               reference's largest n, on another, disjoint probe set: samples' noise is in it, as it is
                               in use. A pair in which the estimator has no ranking counts as 0; one in which the
                               reference has none is left out. A seed's value is the mean over its ordered pairs of
                               probe sets; the interval is the 95 % t interval over seeds.
``macs_share``                 executed multiply-adds of one later probe, eigenvalues included, as a share of those of
                               one epoch of dense training.

Of the rows at the end of training a *candidate* is an estimator that is measured in every family; where a family's
samples have no more positions than it asks for, all positions stand for it. Its cost is the geometric mean of
``macs_share`` over families.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mat.evidence.text import format

ESTIMATOR = ["estimator", "directions", "positions", "n"]
END = 1.0  # share of the training steps: the end


@dataclass(frozen=True)
class Choice:
    """What the rule says. ``candidates``: one row per candidate, cheapest first: ``ESTIMATOR``, cost (a share of an
    epoch), lowest (the smallest lower bound over families, −1 where one is unknown), eligible. ``picked``: the place
    in it of the one picked, None without a candidate. ``reason``: in words."""

    candidates: pd.DataFrame
    picked: int | None
    reason: str


def choose(table: pd.DataFrame, reach: float) -> Choice:
    """The cheapest candidate whose τ_b has a lower bound of at least ``reach`` in every family; where none has, the
    one whose smallest lower bound over families is largest. Ties in cost go to the larger smallest lower bound, ties
    in that to the lower cost."""
    found = candidates(table)
    found["eligible"] = found["lowest"] >= reach
    if found.empty:
        return Choice(found, None, "No estimator was measured at the end of training in every family.")
    eligible = found[found["eligible"]]
    if len(eligible):
        picked = int(eligible.index[0])
        reason = f"The cheapest whose lower bound is at least {reach:g} in every family: {said(found.loc[picked])}."
    else:
        picked = int(found.sort_values(["lowest", "cost"], ascending=[False, True], kind="stable").index[0])
        reason = (
            f"No candidate has a lower bound of at least {reach:g} in every family. The nearest is "
            f"{said(found.loc[picked])}: its smallest lower bound is {format.number(found.loc[picked, 'lowest'], 2)}."
        )
    return Choice(found, picked, reason)


def candidates(table: pd.DataFrame) -> pd.DataFrame:
    """Estimators measured in every family at the end of training: ``ESTIMATOR``, cost, lowest; cheapest first."""
    rows = table[table["share"] == END]
    asked = sorted(set(rows["positions"]))
    everywhere = [
        own.assign(positions=positions)
        for positions in asked
        for _, one in rows.groupby("family")
        for own in [one[one["positions"] == (positions if positions < one["model_positions"].iloc[0] else 0)]]
    ]
    wide = pd.concat(everywhere, ignore_index=True) if everywhere else rows
    wide = wide.assign(log=np.log(wide["macs_share"].astype(float)), low=wide["tau_low"].astype(float).fillna(-1.0))
    grouped = wide.groupby(ESTIMATOR, as_index=False).agg(
        families=("family", "nunique"), cost=("log", lambda log: float(np.exp(np.mean(log)))), lowest=("low", "min")
    )
    found = grouped[grouped["families"] == rows["family"].nunique()].drop(columns="families")
    return found.sort_values(["cost", "lowest", *ESTIMATOR], ascending=[True, False, *[True] * 4], ignore_index=True)


def at_end(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """The rows of a family at the end of training."""
    return table[(table["family"] == family) & (table["share"] == END)]


def said(row: pd.Series) -> str:
    """An estimator in words: ``projected, 8 directions, 4 positions, n = 64``."""
    parts = [row["estimator"]]
    for name, one in (("directions", "direction"), ("positions", "position")):
        if row[name]:
            parts.append(f"{row[name]} {one if row[name] == 1 else name}")
    return ", ".join([*parts, f"n = {row['n']}"])
