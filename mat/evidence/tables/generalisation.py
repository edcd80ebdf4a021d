"""Generalisation (C3): what becomes of a run that trains its modules of large, or of small, λ_max alone.

From a checkpoint the sets ``top`` and ``bottom`` (the same share of the modules, by λ_max), as many at ``random``,
``all`` and ``none`` of them were trained, each with the remainder. A set's losses are compared with those before it,
and two sets with each other, paired by seed.

Where a task's training labels are wrong at a known rate, ``memorised`` is the share of the wrong ones that the model
answers with, and ``true`` the share that it answers with the true label.
"""

from __future__ import annotations

import pandas as pd

from mat.evidence.stats.intervals import Interval, mean_interval, paired_difference
from mat.evidence.tables import branches
from mat.evidence.tables.record import Table
from mat.evidence.text import format, words

SETS = ("top", "bottom", "random", "all", "none")
PAIRS = (("top", "bottom"), ("top", "random"), ("bottom", "none"), ("top", "none"), ("all", "none"))
MEASURES = {  # column -> what it is, unit (None: the loss's)
    "train_loss_decrease": ("decrease of the training loss", None),
    "val_loss_change": ("change of the validation loss", None),
    "val_loss_change_percent": ("change of the validation loss", "% of it"),
    "gap_change": ("change of the generalisation gap", None),
    "memorised": ("wrong labels memorised", "points"),
    "memorised_change": ("change of wrong labels memorised", "points"),
    "true": ("wrong labels seen through", "points"),
}
KEYS = ["family", "set"]


def by_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per family, checkpoint, seed and set of a table by ``branches.load``: ``MEASURES`` by name.

    The gap is validation minus training loss; shares are in percentage points; NaN where the branch diverged, or
    nothing is wrong with the labels.
    """
    rows = frame[frame["part"] == branches.SET].rename(columns={"branch": "set"}).reset_index(drop=True)
    train, val = (rows[f"{name}_loss_after"] - rows[f"{name}_loss_before"] for name in ("train", "val"))
    found = {
        "train_loss_decrease": -train,
        "val_loss_change": val,
        "val_loss_change_percent": 100 * val / rows["val_loss_before"],
        "gap_change": val - train,
        "memorised": 100 * rows["memorised_after"],
        "memorised_change": 100 * (rows["memorised_after"] - rows["memorised_before"]),
        "true": 100 * rows["true_after"],
    }
    return rows[["family", "checkpoint", "seed", "set", "trained_modules", "parameters"]].assign(**found)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per family, checkpoint (and their mean, ``all``), set, ``minus`` (another set, or none) and measure.

    ``mean``, ``low``, ``high``: over ``n`` seeds, of the set, or of the paired difference set − minus. ``diverged``:
    branches of the set without a result. A family without sets is not in it.
    """
    each = by_seed(frame)
    if each.empty:
        return pd.DataFrame()
    names = list(MEASURES)
    pooled = branches.with_mean(each, KEYS, [*names, "trained_modules", "parameters"])
    rows = []
    for (family, checkpoint), one in pooled.groupby(["family", "checkpoint"], sort=False):
        sets = {name: own.set_index("seed") for name, own in one.groupby("set")}
        for name, minus in (*((name, "") for name in SETS), *PAIRS):
            own = sets[name]
            same = {
                "family": family, "checkpoint": checkpoint, "set": name, "minus": minus,
                "trained_modules": own["trained_modules"].mean(), "parameters": own["parameters"].mean(),
                "diverged": int(own["val_loss_change"].isna().sum()),
            }  # fmt: skip
            for measure in names:
                value = paired_difference(own[measure], sets[minus][measure]) if minus else mean_interval(own[measure])
                rows.append({**same, "measure": measure, **branches.columns_of(value)})
    table = pd.DataFrame(rows)
    part = frame[frame["part"] == branches.SET]
    steps = part.groupby("family", as_index=False)["branch_steps"].first()
    table = table.merge(branches.about(part).merge(steps, on="family"), on="family", how="left")
    units = table["measure"].map({name: unit for name, (_, unit) in MEASURES.items()})
    return table.assign(unit=units.where(units.notna(), table["loss_unit"]))


def at(table: pd.DataFrame, family: str, name: str, minus: str, measure: str) -> Interval:
    """One number of a family over all checkpoints."""
    where = {"family": family, "checkpoint": format.ALL, "set": name, "minus": minus, "measure": measure}
    return branches.interval_at(table, where)


def markdown(table: pd.DataFrame) -> str:
    """The page of a table by ``summary``."""
    first = table.iloc[0]
    noisy = set(table.loc[table["corrupted"] > 0, "family"])
    parts = [
        f"# Does training modules of small λ_max harm generalisation? Scale {first['scale']}",
        branches.caption(table, "generalisation.csv"),
        f"From a checkpoint the {100 * first['set_share']:g} % of the modules with the largest λ_max (top), as many "
        "with the smallest (bottom), as many at random, all and none of them were trained for "
        f"{first['branch_steps']} steps by exact gradients, each with the remainder.",
        "## What each set does",
        format.markdown_table(
            ("family", "checkpoint", "set", "modules", "parameters", "training loss decrease",
             "validation loss change", "gap change"),
            [
                (*key, format.number(one["trained_modules"].iloc[0], 0), format.number(one["parameters"].iloc[0], 0),
                 *(_cell(one, name) for name in ("train_loss_decrease", "val_loss_change", "gap_change")))
                for key, one in _rows(table, "", SETS)
            ],
        ),
        "## Differences between sets, paired by seed",
        format.markdown_table(
            ("family", "checkpoint", "difference", "training loss decrease", "validation loss change", "in %",
             "gap change"),
            [
                (family, checkpoint, f"{name} − {minus}", *(_cell(one, measure) for measure in (
                    "train_loss_decrease", "val_loss_change", "val_loss_change_percent", "gap_change")))
                for pair in PAIRS
                for (family, checkpoint, name), one in _rows(table, pair[1], pair[:1])
                for minus in pair[1:]
            ],
        ),
        *(_noise_tables(table[table["family"].isin(noisy)]) if noisy else []),
        "## In words",
        format.bullets(_reading(table, noisy)),
        format.how_to_read(_notes(table)),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _noise_tables(table: pd.DataFrame) -> list[str]:
    measures = ("memorised", "memorised_change", "true")
    return [
        "## Wrong training labels, % of them",
        format.markdown_table(
            ("family", "checkpoint", "set", "memorised", "change", "answered by the true label"),
            [(*key, *(_cell(one, name, 1) for name in measures)) for key, one in _rows(table, "", SETS)],
        ),
        format.markdown_table(
            ("family", "checkpoint", "difference", "memorised, points"),
            [
                (family, checkpoint, f"{name} − {pair[1]}", _cell(one, "memorised", 1))
                for pair in PAIRS
                for (family, checkpoint, name), one in _rows(table, pair[1], pair[:1])
            ],
        ),
    ]


def _rows(table: pd.DataFrame, minus: str, names: tuple[str, ...]) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Family, as people call it, checkpoint and set of every group of rows."""
    chosen = table[(table["minus"] == minus) & table["set"].isin(names)]
    groups = chosen.groupby(["family", "checkpoint", "set"], sort=True)
    ordered = sorted(groups, key=lambda item: (*item[0][:2], SETS.index(item[0][2])))
    return [((words.task(family), checkpoint, name), rows) for (family, checkpoint, name), rows in ordered]


def _cell(rows: pd.DataFrame, measure: str, decimals: int = 3) -> str:
    return format.interval(branches.interval_at(rows, {"measure": measure}), decimals)


def _reading(table: pd.DataFrame, noisy: set[str]) -> list[str]:
    """What the means over checkpoints say, per family."""
    found = []
    for family in sorted(set(table["family"])):
        versus, idle = (at(table, family, *pair, "val_loss_change") for pair in (("top", "bottom"), ("bottom", "none")))
        said = [
            f"the validation loss after top minus that after bottom {branches.sign(versus)}",
            f"after bottom minus after the remainder alone {branches.sign(idle)}",
        ]
        if family in noisy:
            said.append(
                "wrong labels memorised by top minus by bottom "
                + branches.sign(at(table, family, "top", "bottom", "memorised"))
            )
        found.append(f"{words.task(family)}, over all checkpoints: {'; '.join(said)}.")
    return found


def _notes(table: pd.DataFrame) -> list[str]:
    first = table.iloc[0]
    lost = int(table.drop_duplicates(["family", "checkpoint", "set"]).query("checkpoint != 'all'")["diverged"].sum())
    return [
        f"Families: {branches.families_text(table)}",
        f"Sets are of equal numbers of modules, not of parameters; λ_max by {first['estimator']}, "
        f"{first['normalisation']}, n = {first['probe_n']} training samples at the checkpoint.",
        f"Training loss: on {first['samples']} fixed training samples without augmentation, in evaluation mode, by the "
        "labels that are trained on; validation loss: on the whole split. Gap: validation minus training loss.",
        "A set that helps less than another is not yet harmful: the set none (the remainder alone) says what happens "
        "without it.",
        "Every branch has a new optimizer, the learning rate of the schedule at the checkpoint, and the batches that "
        "the run itself saw next; statistics of batch norm follow the batches in all of them, none included.",
        f"Branches without a result, because they diverged: {lost}.",
    ]


TABLE = Table(
    "generalisation",
    "Generalisation: top and bottom modules",
    lambda given: summary(branches.load_part(given.measured, branches.SET)),
    lambda frame, _: markdown(frame),
    place=110,
    **branches.STUDY,
)
