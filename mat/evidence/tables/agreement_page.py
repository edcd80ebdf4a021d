"""The agreement table: which estimator can be trusted, what it costs, and which one the rule picks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mat.evidence.runs import pool_studies
from mat.evidence.stats.intervals import Interval, known_interval
from mat.evidence.tables import agreement
from mat.evidence.text import format
from mat.records.studies import AGREEMENT

SAYS = {
    "reference": "to the reference estimator",
    "largest_n": "to the largest n",
    "probe_sets": "to disjoint samples",
    "cosine": "to cosine",
    "per_parameter": "to per parameter",
}


def load(files: Iterable[Path]) -> pd.DataFrame:
    """Pool measurement tables (``jobs.pool``). Raises InputError."""
    return pool_studies.pool(files, AGREEMENT)


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
        return Choice(
            None, configured, empty, "No estimator has a mean τ_b with a reference in every family."
        )
    shortfall = (-wide[everywhere]).add(wide.max(axis=1), axis=0).max()
    cost = rows.groupby("estimator")["cost_ratio"].agg(lambda ratio: float(np.exp(np.log(ratio).mean())))
    found = pd.DataFrame({"cost_ratio": cost[everywhere], "shortfall": shortfall})
    found["eligible"] = found["shortfall"] <= margin
    found = (
        found.rename_axis("estimator")
        .reset_index()
        .sort_values(["cost_ratio", "estimator"], ignore_index=True)
    )
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
    chosen = (table["comparison"] == comparison) & (table["checkpoint"] == agreement.TRAINED)
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


def markdown(table: pd.DataFrame, margin: float) -> str:
    """The page: what changes a ranking, every estimator beside the reference, the choice, how to read it."""
    first, choice = table.iloc[0], choose(table, margin)
    families = table.drop_duplicates("family").sort_values("family")
    parts = [
        f"# Which estimator can be trusted? Scale {first['scale']}",
        f"Made by `{format.command(first['scale'])}`; all numbers are in "
        "`agreement.csv`. Mean τ_b [95 % t interval over seeds], checkpoints after the start.",
        "## What changes the ranking of modules",
        "The ranking by the configured estimator, normalisation and n, beside one that differs in one thing:",
        format.markdown_table(
            ("family", "reference", "default n", *SAYS.values()),
            [
                (row["family"], row["reference"] or format.MISSING, str(row["default_n"]),
                 *(format.interval(value, 2) for value in changes(table, row["family"]).values()))
                for _, row in families.iterrows()
            ],
        ),
        "## Estimators beside the reference, at the default n and normalisation",
        format.markdown_table(
            ("family", "estimator", "τ_b", "Spearman ρ", "sd over probe sets", "degenerate", "cost",
             "MMAC per probe", "seconds per probe"),
            [_estimator(row) for _, row in at_default(table, "reference").iterrows()],
        ),
        "## The default estimator",
        choice.reason,
        format.markdown_table(
            ("candidate", "cost", "largest shortfall from a family's best", f"within {margin:g}"),
            [
                (row["estimator"], format.number(row["cost_ratio"], 2), format.number(row["shortfall"], 3),
                 "yes" if row["eligible"] else "no")
                for _, row in choice.candidates.iterrows()
            ],
        ),
        "## How to read it",
        "\n".join(f"- {note}" for note in _notes(families)),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _estimator(row: pd.Series) -> tuple[str, ...]:
    rho = Interval(row["rho_mean"], row["rho_low"], row["rho_high"], int(row["n_seeds"]))
    return (
        row["family"], row["estimator"], format.interval(tau(row), 2), format.interval(rho, 2),
        format.number(row["tau_sd_sets"], 2), f"{row['degenerate']} of {row['rankings']}",
        format.number(row["cost_ratio"], 2), format.number((row["macs"] + row["macs_eigen"]) / 1e6, 1),
        format.number(row["seconds"], 3),
    )  # fmt: skip


def _notes(families: pd.DataFrame) -> list[str]:
    sizes = "; ".join(
        f"{row['family']} ({row['model']} on {row['task']}): {row['modules']} modules, {row['logits']} logits per "
        f"sample, {row['probe_sets']} probe sets, {row['diverged']} diverged"
        for _, row in families.iterrows()
    )
    return [
        f"Families: {sizes}.",
        "Reference: full where it is affordable at the default n, else trace, else projected with the most "
        "directions, whose expectation is trace; its own sampling noise then lowers every agreement with it.",
        "Degenerate: pairs of rankings without a τ_b, because one of them has no two different finite values; "
        "they are left out of the means. λ_max that differ by less than 1e-6, relatively, are tied.",
        "The largest n contains the samples of the smaller ones, so that agreement rises with n by construction.",
        "Cost: executed multiply-adds of kernels and eigenvalues of one probe of the default n, relative to "
        "sum_of_logits; measured on the initial weights.",
        "Seconds depend on the machine and on what else ran there.",
    ]
