"""Trainability (C2): does a module with a large λ_max train better, and is it λ_max or the gradient's size?

From a checkpoint every module was trained alone. Over the modules of one run and checkpoint, the decrease of the
training loss is correlated (Spearman) with λ_max, gradient norm, trace, effective rank, parameters and depth. The
decrease is counted from the branch that trains nothing, in which only the statistics of batch norm follow the batches.

A *partial* correlation given controls is the correlation of what is left of the ranks of both after the least-squares
fit to the controls' ranks, with a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mat.evidence.stats.intervals import mean_interval
from mat.evidence.stats.rank_correlation import partial_spearman
from mat.evidence.tables import branches
from mat.evidence.tables.record import Table
from mat.evidence.text import format, words

QUANTITIES = ("lambda_max", "gradient_norm", "trace", "effective_rank", "parameters", "layer")
GRADIENT, SIZE, BOTH = "gradient_norm", "parameters", "gradient_norm parameters"
PARTIAL = (("lambda_max", GRADIENT), ("lambda_max", SIZE), ("lambda_max", BOTH), ("gradient_norm", "lambda_max"))
SAYS = {
    "lambda_max": "λ_max", "gradient_norm": "gradient norm", "trace": "trace", "effective_rank": "effective rank",
    "parameters": "parameters", "layer": "depth", BOTH: "gradient norm and parameters", "": "",
}  # fmt: skip
KEYS = ["family", "quantity", "given"]


def modules(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per family, checkpoint, seed and module of a table by ``branches.load``.

    ``loss_decrease``: training loss of the branch that trains nothing minus that of the module's, and
    ``val_loss_decrease`` the same of the held-out samples; NaN where the branch diverged.
    """
    part = frame[frame["part"] == branches.MODULE]
    keys, losses = ["family", "seed", "step"], ["train_loss_after", "val_loss_after"]
    idle = part.loc[part["branch"] == branches.NONE, [*keys, *losses]]
    rows = part[part["branch"] != branches.NONE].merge(idle, on=keys, how="left", suffixes=("", "_idle"))
    for name, loss in (("loss_decrease", losses[0]), ("val_loss_decrease", losses[1])):
        rows[name] = rows[f"{loss}_idle"] - rows[loss]
    kept = ["scale", "family", "task", "model", "seed", "checkpoint", "share", "step", "branch", "kind", "layer",
            "parameters", *QUANTITIES[:4], "branch_steps", "train_loss_before", "loss_decrease", "val_loss_decrease",
            "samples", "val_samples", "loss_unit", "noise", "code_hash"]  # fmt: skip
    order = ["family", "share", "seed"]
    return rows[kept].rename(columns={"branch": "module"}).sort_values(order, kind="stable", ignore_index=True)


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per family, checkpoint, seed, quantity and what is given: ``rho`` over the modules of ``modules``.

    ``counted``: modules with a finite decrease and finite quantities; ``left_out``: the others (diverged).
    """
    found = []
    for key, one in rows.groupby(["family", "share", "seed"], sort=True):
        usable = np.isfinite(one[[*QUANTITIES, "loss_decrease"]].to_numpy(dtype=float)).all(axis=1)
        known, first = one[usable], one.iloc[0]
        for quantity, given in (*((name, "") for name in QUANTITIES), *PARTIAL):
            rho = partial_spearman(known[quantity], known["loss_decrease"], [known[name] for name in given.split()])
            found.append(
                {
                    "scale": first["scale"], "family": key[0], "checkpoint": first["checkpoint"], "seed": key[2],
                    "quantity": quantity, "given": given, "rho": rho, "counted": len(known),
                    "left_out": len(one) - len(known),
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per family, checkpoint (and their mean, ``all``), quantity and what is given: ρ with its interval.

    ``frame`` is by ``branches.load``; a family without single modules is not in it.
    """
    rows = modules(frame)
    if rows.empty:
        return pd.DataFrame()
    each = by_seed(rows)
    pooled = branches.with_mean(each, KEYS, ["rho"])
    counts = each.drop_duplicates(["family", "checkpoint", "seed"]).groupby(["family", "checkpoint"])["left_out"].sum()
    counts = {**counts, **{(family, format.ALL): n for family, n in counts.groupby("family").sum().items()}}
    found = []
    for (family, checkpoint, quantity, given), one in pooled.groupby(
        ["family", "checkpoint", "quantity", "given"], sort=False
    ):
        value = mean_interval(one["rho"]).cut(-1, 1)
        found.append(
            {
                "family": family, "checkpoint": checkpoint, "quantity": quantity, "given": given,
                **branches.columns_of(value), "seeds": len(one),
                "left_out": int(counts[family, checkpoint]),
            }
        )  # fmt: skip
    steps = rows.groupby("family", as_index=False)["branch_steps"].first()
    return pd.DataFrame(found).merge(branches.about(frame).merge(steps, on="family"), on="family", how="left")


def markdown(table: pd.DataFrame) -> str:
    """The page of a table by ``summary``."""
    first = table.iloc[0]
    parts = [
        f"# Does a module with a large λ_max train better? Scale {first['scale']}",
        branches.caption(table, "trainability.csv"),
        f"From a checkpoint each module was trained alone for {first['branch_steps']} steps, everything else frozen; "
        f"the decrease of the training loss on {first['samples']} fixed samples, beyond that of a branch that trains "
        "nothing, was correlated over modules with what was known of them at the checkpoint.",
        "## Spearman's ρ of the loss decrease",
        format.markdown_table(
            ("family", "checkpoint", *(SAYS[name] for name in QUANTITIES)),
            _lines(table, [(name, "") for name in QUANTITIES]),
        ),
        "## Is it λ_max, or the gradient's size? Partial correlations",
        format.markdown_table(
            ("family", "checkpoint", *(f"{SAYS[name]} given {SAYS[given]}" for name, given in PARTIAL)),
            _lines(table, PARTIAL),
        ),
        "## In words",
        format.bullets(_reading(table)),
        format.how_to_read(_notes(table)),
    ]
    return "\n\n".join(parts)


def _lines(table: pd.DataFrame, cells: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    found = []
    for (family, checkpoint), one in table.groupby(["family", "checkpoint"], sort=True):
        values = [branches.interval_at(one, {"quantity": name, "given": given}) for name, given in cells]
        found.append((words.task(family), checkpoint, *(format.interval(value, 2) for value in values)))
    return found


def _reading(table: pd.DataFrame) -> list[str]:
    """What the means over checkpoints say, per family."""
    cells = (
        ("lambda_max", ""),
        ("gradient_norm", ""),
        ("lambda_max", GRADIENT),
        ("lambda_max", SIZE),
        ("lambda_max", BOTH),
    )
    found = []
    for family, one in table[table["checkpoint"] == format.ALL].groupby("family", sort=True):
        said = [
            f"{SAYS[name]}{f' given {SAYS[given]}' if given else ''} "
            + branches.sign(branches.interval_at(one, {"quantity": name, "given": given}))
            for name, given in cells
        ]
        found.append(f"{words.task(family)}, ρ of the loss decrease over all checkpoints: {'; '.join(said)}.")
    return found


def _notes(table: pd.DataFrame) -> list[str]:
    first = table.iloc[0]
    left_out = table[table["checkpoint"] == format.ALL].groupby("family")["left_out"].first().sum()
    return [
        f"Families: {branches.families_text(table)}",
        f"λ_max, trace and effective rank by {first['estimator']}, {first['normalisation']}, n = {first['probe_n']} "
        "training samples; the gradient norm is that of their mean loss, by module; depth counts from the input.",
        "Checkpoint: share of the run's steps. Every branch has a new optimizer, the learning rate of the schedule at "
        "the checkpoint, and the batches that the run itself saw next.",
        "A new AdamW moves every parameter by about the learning rate in its first steps, whatever its "
        "gradient's size: where a run trains by it, the decrease measures in part how many parameters a module has "
        "and how Adam starts, not how well it trains. So λ_max given gradient norm and parameters stands beside.",
        "A partial correlation is that of the ranks' residuals after a least-squares fit to the ranks given.",
        f"Left out, because their branch diverged: {left_out} modules.",
    ]


TABLE = Table(
    "trainability",
    "Trainability: one module trained alone",
    lambda given: summary(branches.load_part(given.measured, branches.MODULE)),
    lambda frame, _: markdown(frame),
    place=90,
    **branches.STUDY,
)
