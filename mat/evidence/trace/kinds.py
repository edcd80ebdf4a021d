"""What is known of each table that is traced: how it is computed again, and which runs and which mean a number has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from mat.evidence.claims import verdicts
from mat.evidence.claims.claim import Claims
from mat.evidence.claims.judge import SCALE
from mat.evidence.runs import over_seeds
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.tables import controls, learning_rate, results, rivals, scores, wall_clock

MEAN, GEOMETRIC, SAVING = "mean", "geometric mean", "100 · (1 − geometric mean of 1 − saving/100)"
_COMPARED = (
    "saving",
    "vanilla",
    "advantage",
    "ratio",
    "better",
)  # columns that pair a method's runs with vanilla's
Labels = set[tuple[str, str]]  # (task, method)


@dataclass(frozen=True)
class Kind:
    """How a table is traced. ``again`` computes it from pooled runs, ``behind`` names whose runs a number of a row
    stands on, ``mean`` which mean of its seeds' values it is ("": none), ``number`` is the column traced by default.
    ``by_seed``: each seed's own value, where that is not what one seed's runs alone would give."""

    again: Callable[[Tables, Claims], pd.DataFrame]
    behind: Callable[[Tables, Claims, pd.Series, str], Labels]
    mean: Callable[[pd.Series, str], str]
    number: str = ""
    by_seed: Callable[[Tables, pd.Series, str], dict[int, float]] | None = None


def combined(how: str, values: list[float]) -> float:
    """The mean ``how`` of values; NaN where it has none."""
    if how == MEAN:
        return sum(values) / len(values)
    ratios = values if how == GEOMETRIC else [1 - value / 100 for value in values]
    if not all(ratio > 0 for ratio in ratios):
        return math.nan
    middle = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return middle if how == GEOMETRIC else 100 * (1 - middle)


def counted(row: pd.Series, column: str) -> int | None:
    """The n that the table gives to a number; None where it gives none."""
    for name in (f"{column.removesuffix('_mean')}_n", "n", "n_finished"):
        if name in row.index and pd.notna(row[name]):
            return int(row[name])
    return None


def _spread(row: pd.Series, column: str) -> str:
    """Of a column of ``results.spread_out``."""
    if not column.endswith("_mean") or column.startswith("score_interquartile"):
        return ""
    return SAVING if "saving" in column else GEOMETRIC if "ratio" in column else MEAN


def _only_mean(row: pd.Series, column: str) -> str:
    return MEAN if column == "mean" else ""


def _effect(row: pd.Series, column: str) -> str:
    """Of an effect of a claim, whose unit says what was averaged; those of families stand on no runs of their own."""
    if column != "effect":
        return ""
    part, unit = str(row["part"]), str(row["unit"])
    return SAVING if "saving" in part and unit == "%" else GEOMETRIC if unit.startswith("ratio") else MEAN


def _compared(tables: Tables, claims: Claims, row: pd.Series, column: str) -> Labels:
    """The method's runs, and vanilla's where the column compares them."""
    with_reference = any(word in column for word in _COMPARED)
    return {(row["task"], name) for name in (row["method"], *([REFERENCE] if with_reference else []))}


def _scored(tables: Tables, claims: Claims, row: pd.Series, column: str) -> Labels:
    """The method's runs of the task, or of every task that an average is over."""
    if row["task"] in tables.tasks and (pd.isna(row["tasks"]) or not row["tasks"]):
        return {(row["task"], row["method"])}
    labels = scores.counted_labels(scores.glue_labels(tables)) or {}
    return {(labels[subset], row["method"]) for subset in str(row["tasks"]).split() if subset in labels}


def _against_vanilla(tables: Tables, claims: Claims, row: pd.Series, column: str) -> Labels:
    """The same, over every task in the rows over tasks."""
    if row["task"] != rivals.OVER_TASKS:
        return _compared(tables, claims, row, column)
    found = [task for task in tables.tasks if {row["method"], REFERENCE} <= set(tables.methods(task))]
    return {(task, name) for task in found for name in (row["method"], REFERENCE)}


def _controlled(tables: Tables, claims: Claims, row: pd.Series, column: str) -> Labels:
    """The selection's runs, and those of the one that it is subtracted from."""
    other = {f"loss_minus_{name}": name for name in controls.AGAINST}
    named = [name for start, name in other.items() if column.startswith(start)]
    against = [row["random_label"] if name == "random" else name for name in named]
    return {(row["task"], name) for name in (row["method"], *against)}


def _tuned(tables: Tables, claims: Claims, row: pd.Series, column: str) -> Labels:
    """The runs of the row's factor, and all of vanilla's, among which it chose, where it is compared."""
    with_vanilla = column.startswith("advantage") or column == "chosen_by_vanilla"
    own = learning_rate.labels_of(tables, row["task"], REFERENCE).values() if with_vanilla else []
    return {(row["task"], name) for name in (row["label"], *own)}


def _tuned_by_seed(tables: Tables, row: pd.Series, column: str) -> dict[int, float]:
    """Against vanilla at the factor chosen over all seeds, which one seed alone would choose otherwise."""
    task = row["task"]
    if column.startswith("advantage"):
        tuned = learning_rate.labels_of(tables, task, REFERENCE).get(float(row["chosen_by_vanilla"]))
        found = over_seeds.best_loss_advantages_percent(tables, task, row["label"], tuned) if tuned else {}
    else:
        found = over_seeds.best_losses(tables, task, row["label"])
    return {int(seed): float(value) for seed, value in dict(found).items() if math.isfinite(value)}


def _claimed(tables: Tables, claims: Claims, row: pd.Series, column: str) -> Labels:
    """The runs of every method that the claim's rule names, on its task or, of the scale as a whole, on all."""
    claim = next(one for one in claims.claims if one.id == row["claim"])
    tasks = tables.tasks if row["task"] in (verdicts.ALL, SCALE) else [row["task"]]
    return {(task, label) for task in tasks for label in claim.labels & set(tables.methods(task))}


def _judged(tables: Tables, claims: Claims) -> pd.DataFrame:
    return verdicts.verdicts(tables, claims)


KINDS: Mapping[str, Kind] = {
    "results": Kind(lambda tables, claims: results.results(tables, claims.convergence), _compared, _spread),
    "scores": Kind(lambda tables, _: scores.scores(tables), _scored, _only_mean, "mean"),
    "controls": Kind(lambda tables, _: controls.controls(tables), _controlled, _spread),
    "rivals": Kind(
        lambda tables, claims: rivals.rivals(tables, claims.convergence), _against_vanilla, _spread
    ),
    "learning_rate": Kind(
        lambda tables, _: learning_rate.learning_rate(tables), _tuned, _spread, by_seed=_tuned_by_seed
    ),
    "wall_clock": Kind(
        lambda tables, claims: wall_clock.wall_clock(tables, claims.convergence), _compared, _spread
    ),
    "verdicts": Kind(_judged, _claimed, _effect, "effect"),
}


def only_claim(claims: Claims, row: pd.Series) -> Claims:
    """The claims file with the row's claim alone, where it is of one."""
    if "claim" not in row.index:
        return claims
    return replace(claims, claims=tuple(one for one in claims.claims if one.id == row["claim"]))
