"""What every estimator costs and how far it ranks modules as the reference does on other samples (X6b).

The rule for the default that is read off this table, and what τ_b stands for in it: ``estimator_price``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mat.evidence.stats.intervals import mean_interval
from mat.evidence.tables import agreement
from mat.evidence.tables.columns import spread_out
from mat.evidence.tables.estimator_choice import tau
from mat.evidence.tables.estimator_price import END, ESTIMATOR, Choice, at_end, choose, said
from mat.evidence.tables.record import Given, Table
from mat.evidence.text import format, words
from mat.ranking import kendall, signs

_COST = ["seconds", "macs", "macs_eigen", "epoch_seconds", "epoch_macs"]
_ABOUT = ["model", "task", "logits", "model_positions", "scale", "code_hash"]


def price_list(frame: pd.DataFrame, references: Sequence[str], reach: float) -> pd.DataFrame:
    """One row per family, share of training and estimator of the study's pooled tables (``agreement.load``).

    τ_b's mean, interval and deviation over ``n_seeds`` (NaN without a reference), the ``pairs`` of rankings it is the
    mean of and how many of them are ``degenerate``; means over seeds of a probe's and an epoch's cost, ``macs_share``
    and ``seconds_share`` of an epoch; the family's ``reference`` and its n; ``is_default``, ``is_reference``; and
    ``is_picked``, by the rule with the bound ``reach``.
    """
    table = pd.concat([_family(one, references) for _, one in frame.groupby("family", sort=True)], ignore_index=True)
    choice = choose(table, reach)
    picked = [row["share"] == END and _picks(row, choice) for _, row in table.iterrows()]
    return table.assign(is_picked=picked, reach=reach)


def _family(frame: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    first, modules = frame.iloc[0], frame["module"].nunique()
    name = agreement.reference_of(agreement.named(frame[frame["positions"] == 0]), references)
    frame = frame[frame["normalisation"] == frame["default_normalisation"]]
    reference = _reference(frame, name)
    pairs = pd.concat([_pairs(one, reference) for _, one in frame.groupby("seed", sort=True)], ignore_index=True)
    keys = ["share", *ESTIMATOR]
    costs = frame.groupby(keys)[_COST].mean()
    default = tuple(first[f"default_{name}"] for name in ESTIMATOR)
    rows = []
    for key, cost in costs.iterrows():
        own = pairs[(pairs[keys] == list(key)).all(axis=1)]
        value = mean_interval(own.groupby("seed")["tau"].mean()).cut(-1, 1)
        estimator = key[1:]
        rows.append({
            "family": first["family"], **dict(zip(keys, key, strict=True)), **spread_out("tau", value),
            "tau_deviation": value.deviation, "n_seeds": value.n,
            "pairs": len(own), "degenerate": int(own["degenerate"].sum()), **cost,
            "macs_share": (cost["macs"] + cost["macs_eigen"]) / cost["epoch_macs"],
            "seconds_share": cost["seconds"] / cost["epoch_seconds"],
            "is_default": estimator == default, "is_reference": estimator == reference,
            "reference": name or "", "reference_n": reference[-1], "modules": modules,
            "probe_sets": frame["probe_set"].nunique(), **first[_ABOUT],
        })  # fmt: skip
    return pd.DataFrame(rows)


def _reference(frame: pd.DataFrame, name: str | None) -> tuple[str, int, int, int]:
    """The reference as an estimator, at the largest n that it is measured at; n = 0 where there is none."""
    if name is None:
        return ("", 0, 0, 0)
    kind, _, rounds = name.rpartition("_") if name.startswith("projected_") else (name, "", 0)
    own = frame[(frame["estimator"] == kind) & (frame["directions"] == int(rounds)) & (frame["positions"] == 0)]
    return (kind, int(rounds), 0, int(own["n"].max()))


def _pairs(frame: pd.DataFrame, reference: tuple[str, int, int, int]) -> pd.DataFrame:
    """Of one seed, every ranking beside the reference's on every other probe set of its checkpoint: share,
    ``ESTIMATOR``, seed, tau and whether it is degenerate, which counts as 0."""
    wide = frame.pivot(index=["share", "probe_set", *ESTIMATOR], columns="module", values="lambda_max")
    cells = wide.index.to_frame(index=False)
    ranks = signs(wide.to_numpy(dtype=float))
    ordered = ranks.any(axis=1)
    cells = cells.assign(at=np.arange(len(cells)), degenerate=~ordered)
    references = cells[(cells[ESTIMATOR] == list(reference)).all(axis=1) & ordered][["share", "probe_set", "at"]]
    pairs = cells.merge(references, on="share", suffixes=("", "_reference"))
    pairs = pairs[pairs["probe_set"] != pairs["probe_set_reference"]]
    found = kendall(ranks[pairs["at"]], ranks[pairs["at_reference"]])
    return pairs.assign(tau=np.nan_to_num(found, nan=0.0), seed=frame["seed"].iloc[0])


def markdown(table: pd.DataFrame) -> str:
    """The page: the default that the rule picks, the candidates, every family's frontier, how to read it."""
    reach, families = float(table["reach"].iloc[0]), table.drop_duplicates("family")
    choice = choose(table, reach)
    parts = [
        f"# What does an estimator cost, and how far can it be trusted? Scale {table['scale'].iloc[0]}",
        f"Made by `{format.command(table['scale'].iloc[0])}`; all numbers are in `price_list.csv`.",
        "## The default estimator",
        choice.reason,
        "The candidates that no other one beats in both cost and smallest lower bound:",
        format.markdown_table(
            ("candidate", "cost, % of an epoch", "smallest lower bound of τ_b", f"at least {reach:g} everywhere"),
            [_candidate(row) for _, row in best(choice.candidates, "cost", "lowest").iterrows()],
        ),
        "## The frontier of every family at the end of training",
        "Estimators that no other one beats in both cost and the mean of τ_b, those of some positions included; beside "
        "them the configured default, what the rule picks, the reference with itself on other samples, and "
        "sum_of_logits at the default n, the published reading.",
        format.markdown_table(
            ("family", "estimator", "τ_b with the reference", "MAC, % of an epoch", "CPU seconds, % of an epoch",
             "degenerate", "what it is"),
            [line for family in families["family"] for line in _frontier(at_end(table, family))],
        ),
        format.how_to_read(_notes(families, reach)),
    ]  # fmt: skip
    return "\n\n".join(parts)


def best(rows: pd.DataFrame, cost: str, worth: str) -> pd.DataFrame:
    """The rows that no other beats in both ``cost`` (less) and ``worth`` (more), cheapest first; of equal ones, the
    first."""
    ordered = rows.sort_values([cost, worth], ascending=[True, False], kind="stable")
    before = ordered[worth].cummax().shift(fill_value=-np.inf)
    return ordered[ordered[worth] > before]


def _candidate(row: pd.Series) -> tuple[str, ...]:
    reaches = "yes" if row["eligible"] else "no"
    return (said(row), format.number(100 * row["cost"], 3), format.number(row["lowest"], 2), reaches)


def _frontier(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    published = (rows["estimator"] == "sum_of_logits") & (rows["positions"] == 0)
    published &= rows["n"] == rows.loc[rows["is_default"], "n"].max()
    beside = rows[rows["is_default"] | rows["is_reference"] | rows["is_picked"] | published]
    shown = pd.concat([best(rows, "macs_share", "tau_mean"), beside])
    shown = shown[~shown.index.duplicated()].sort_values("macs_share", kind="stable")
    return [
        (
            words.task(row["family"]), said(row), format.interval(tau(row), 2),
            format.number(100 * row["macs_share"], 3), format.number(100 * row["seconds_share"], 3),
            f"{row['degenerate']} of {row['pairs']}",
            ", ".join(_roles(row, published[at])),
        )
        for at, row in shown.iterrows()
    ]  # fmt: skip


def _roles(row: pd.Series, published: bool) -> list[str]:
    named = {"default": row["is_default"], "reference": row["is_reference"], "published": published}
    return [name for name, holds in (named | {"picked": row["is_picked"]}).items() if holds]


def _picks(row: pd.Series, choice: Choice) -> bool:
    """Whether a family's row is what the rule picks: where the model has no more positions, all of them are."""
    if choice.picked is None:
        return False
    wanted = choice.candidates.loc[choice.picked, ESTIMATOR].copy()
    if wanted["positions"] >= row["model_positions"]:
        wanted["positions"] = 0
    return bool((row[ESTIMATOR] == wanted).all())


def _notes(families: pd.DataFrame, reach: float) -> list[str]:
    sizes = "; ".join(
        f"{words.task(row['family'])} ({row['model']} on {words.task(row['task'])}): {row['modules']} modules, "
        f"{row['logits']} logits and {row['model_positions']} positions per sample, reference "
        f"{row['reference'] or 'none'} at n = {row['reference_n']}, {row['probe_sets']} probe sets, "
        f"{row['n_seeds']} seeds"
        for _, row in families.iterrows()
    )
    return [
        f"Families: {sizes}.",
        "τ_b: Kendall's, between an estimator's ranking of all modules by λ_max on one probe set and the reference's, "
        "at its largest n, on another, disjoint one, on the same weights; mean over ordered pairs of probe sets, and "
        "95 % t interval over seeds. The noise of samples is in it: the reference with itself is the most that can be "
        "hoped for.",
        "A pair in which the estimator gives no ranking (degenerate) counts as 0.",
        f"The rule, fixed before any of this was measured (claim X6b): the cheapest candidate whose lower bound is at "
        f"least {reach:g} in every family; if there is none, the one whose smallest lower bound is largest. A "
        "candidate is measured in every family; where a model has no more positions than it asks for, it is of all.",
        "MAC: executed multiply-adds of one probe after a run's first, kernels and eigenvalues, as a share of those of "
        "an epoch of dense training; a candidate's cost is the geometric mean over families. Cotangents of some "
        "positions alone are zero elsewhere and save no multiply-adds.",
        "CPU seconds are of kernels and eigenvalues, beside an epoch of the median training step; they depend on the "
        "machine.",
    ]


def _compute(given: Given) -> pd.DataFrame:
    references = agreement.claim_of(given, "rankings").uses["references"]
    reach = agreement.claim_of(given, "default_estimator").thresholds["reach_tau"]
    return price_list(agreement.load(given.measured), references, reach)


TABLE = Table(
    "price_list",
    "Price list of kernel estimators",
    _compute,
    lambda frame, given: markdown(frame),
    **agreement.STUDY,
    place=151,
)
