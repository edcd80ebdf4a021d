"""The ceiling as a page: what a step is made of, what an active share can save, and what follows for the paper.

The study of this name computes this table and ``ceiling_parts`` from shapes alone. Every sentence about a model is
computed from the two; none holds a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from mat.evidence.tables.ceiling_parts import SHAPES
from mat.evidence.tables.record import Table
from mat.evidence.text import format, words

MODES = ("detach", "exact")


def markdown(parts: pd.DataFrame, savings: pd.DataFrame) -> str:
    """The page. ``parts`` and ``savings``: the two tables, at least one model each."""
    scale, models = parts["scale"].iloc[0], parts.drop_duplicates("label")
    shown = f"{100 * savings['reported_active_share'].iloc[0]:g} %"
    return "\n\n".join(
        [
            f"# What a step can save at most. Scale {scale}",
            f"Made by `{format.command(scale)}`; all numbers are in "
            "`ceiling_parts.csv` and `ceiling.csv`. Closed-form ledger: multiply-adds (1 MAC = 2 FLOP) of one training "
            "step's products, forward and backward, without probes, optimizer and evaluation.",
            "## The models",
            format.markdown_table(
                ("model", "family", "from", "input of one sample", "outputs", "batch", "modules",
                 "dense step, GMAC", "forward pass, MMAC per sample", "assumed"),
                [_model(row) for _, row in models.iterrows()],
            ),
            "## What a step is made of",
            "Percent of the model's dense step.",
            format.markdown_table(
                ("model", "part", "modules", "forward", "input gradients", "weight gradients", "sum"),
                [cells for _, row in models.iterrows() for cells in _parts(parts[parts["label"] == row["label"]])],
            ),
            "## What an active share can save",
            f"Percent of the model's dense step, saved by a step. Mean [smallest, largest] over "
            f"{savings['draws'].iloc[0]} random active sets; beside it the two ends over all sets of that size.",
            format.markdown_table(
                ("model", "mode", "nothing active", f"{shown} active: modules", "random sets", "every set"),
                [_saving(savings, row["label"], mode) for _, row in models.iterrows() for mode in MODES],
            ),
            "## What follows",
            "\n".join(f"- {' '.join(sentences(row, savings))}" for _, row in models.iterrows()),
            format.how_to_read(_notes(savings)),
        ]
    )  # fmt: skip


def at(savings: pd.DataFrame, label: str, mode: str, share: float) -> pd.Series:
    """The row of one model and mode at one active share of the grid."""
    rows = savings[(savings["label"] == label) & (savings["mode"] == mode)]
    return rows.loc[(rows["share"] - share).abs().idxmin()]


def reported_saving(model: pd.Series) -> float:
    """The paper's saving for a model, in percent of a run's compute; NaN where it reports none."""
    return 100 * (1 - model["reported_mat_pflop"] / model["reported_vanilla_pflop"])


def share_that_saves(savings: pd.DataFrame, label: str, mode: str, percent: float) -> float:
    """The largest active share whose mean saving is ``percent``, interpolated linearly; NaN when none saves it."""
    rows = savings[(savings["label"] == label) & (savings["mode"] == mode)].sort_values("share")
    if rows["saving_mean"].max() < percent:
        return math.nan
    return float(np.interp(percent, rows["saving_mean"].to_numpy()[::-1], rows["share"].to_numpy()[::-1]))


def sentences(model: pd.Series, savings: pd.DataFrame) -> Iterator[str]:
    """What follows for one model, a row of ``parts``."""
    label, share = model["label"], savings["reported_active_share"].iloc[0]
    zero = {mode: at(savings, label, mode, 0.0) for mode in MODES}
    some = {mode: at(savings, label, mode, share) for mode in MODES}
    first, giga = some[MODES[0]], model["dense_macs"] / 1e9
    yield (
        f"**{words.task(label)}** (batch {model['batch']}, dense step {_figures(giga)} GMAC = {_figures(2 * giga)} "
        "GFLOP): with no module active a step saves "
        + " and ".join(f"{_percent(zero[mode]['saving_most'])} in `{mode}`" for mode in MODES)
        + ", and no active set can save more."
    )
    yield (
        f"With {100 * share:g} % of its modules active ({first['active']} of {first['modules']}) a random set saves "
        + " and ".join(f"{_percent(some[mode]['saving_mean'])} in `{mode}`" for mode in MODES)
        + " on average, and no set of that size more than "
        + " and ".join(_percent(some[mode]["saving_most"]) for mode in MODES)
        + "."
    )
    wanted = reported_saving(model)
    if math.isnan(wanted):
        low, high = first["reported_low"], first["reported_high"]
        within = [mode for mode in MODES if low <= some[mode]["saving_mean"] <= high]
        yield (
            f"The paper's range of {low:g} to {high:g} % of a run's compute holds the mean of "
            + (" and ".join(f"`{mode}`" for mode in within) if within else "neither mode")
            + "."
        )
        return
    yield (
        f"The paper's {model['reported_vanilla_pflop']:.2f} → {model['reported_mat_pflop']:.2f} PFLOP is a saving of "
        f"{_percent(wanted)} of a run."
    )
    for mode in MODES:
        yield _verdict(wanted, zero[mode], some[mode], savings)


def _verdict(wanted: float, zero: pd.Series, some: pd.Series, savings: pd.DataFrame) -> str:
    """Whether cheaper steps alone can give the reported saving of a run, in one mode."""
    mode, share = some["mode"], f"{100 * some['share']:g} %"
    steps = 100 * (1 - wanted / 100) / (1 - some["saving_mean"] / 100)
    needs = f"at the mean saving of a step it takes {steps:.0f} % of vanilla's steps"
    if wanted > zero["saving_most"]:
        return f"In `{mode}` cheaper steps alone cannot give it, whatever is active: {needs}."
    reach = share_that_saves(savings, some["label"], mode, wanted)
    if math.isnan(reach):
        reaches = "no share of random sets saves it on average"
    else:
        reaches = f"random sets save it on average up to a share of {100 * reach:.0f} %"
    if wanted > some["saving_most"]:
        return f"In `{mode}` no set of {share} gives it by cheaper steps alone ({reaches}): {needs}."
    if wanted > some["saving_max"]:
        return f"In `{mode}` only the cheapest sets of {share} do, none of those drawn ({reaches}); {needs}."
    if wanted > some["saving_mean"]:
        return f"In `{mode}` random sets of {share} save less on average, some as much ({reaches}); {needs}."
    return f"In `{mode}` random sets of {share} save as much on average ({reaches}); {needs}."


def _percent(value: float) -> str:
    return f"{format.number(value, 1)} %"


def _figures(value: float) -> str:
    """At least three significant digits."""
    return format.number(value, format.decimals_for(value))


def _model(row: pd.Series) -> tuple[str, ...]:
    forward = row["forward_total_macs"] / row["batch"] / 1e6
    return (
        words.task(row["label"]), row["model"], "the scale's tasks" if row["source"] == "task" else "the paper",
        row["input"],
        str(row["outputs"]), str(row["batch"]), str(row["modules"]), _figures(row["dense_macs"] / 1e9),
        _figures(forward), row["note"] or format.MISSING,
    )  # fmt: skip


def _parts(rows: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    columns = ("forward_percent", "input_percent", "weight_percent")
    for _, row in rows.iterrows():
        values = [row[column] for column in columns]
        count = str(row["kind_modules"]) if row["kind_modules"] else format.MISSING
        yield words.task(row["label"]), row["kind"], count, *(format.number(v, 1) for v in (*values, sum(values)))
    totals = [rows[column].sum() for column in columns]
    count = str(rows["modules"].iloc[0])
    yield words.task(rows["label"].iloc[0]), "all", count, *(format.number(v, 1) for v in (*totals, sum(totals)))


def _saving(savings: pd.DataFrame, label: str, mode: str) -> tuple[str, ...]:
    row = at(savings, label, mode, savings["reported_active_share"].iloc[0])
    ends = [format.number(row[f"saving_{name}"], 1) for name in ("min", "max")]
    every = [format.number(row[f"saving_{name}"], 1) for name in ("least", "most")]
    return (
        words.task(label), mode, format.number(at(savings, label, mode, 0.0)["saving_most"], 1),
        f"{row['active']} of {row['modules']}", f"{format.number(row['saving_mean'], 1)} [{', '.join(ends)}]",
        f"[{', '.join(every)}]",
    )  # fmt: skip


def _notes(savings: pd.DataFrame) -> list[str]:
    first = savings.iloc[0]
    return [
        "`exact` skips the weight gradients of inactive modules, `detach` their input gradients too. The forward "
        "pass and the remainder are never saved. The choice of the mode is ambiguity A6.",
        "A step's saving is a run's saving only when both runs take as many steps. The paper's figures are of whole "
        f"runs ({first['reported_low']:g} to {first['reported_high']:g} % over its settings, modules active in about "
        f"{100 * first['reported_active_share']:g} % of the epochs), so they mix cheaper steps with fewer steps, and "
        "it is not known what they count (A7). Percentages do not depend on whether MAC or FLOP is the unit.",
        "A count by hand that charges every module 1 for its forward pass and 2 for its backward pass, the latter only "
        "while it is active, and has no remainder, saves ⅔ of the inactive share: "
        f"{200 / 3 * (1 - first['reported_active_share']):.1f} % at {100 * first['reported_active_share']:g} %.",
        "Attention scores and values have no weights: their work is in the heads' forward pass and input gradients.",
        "In a network without residual paths, `detach` ends the backward pass at a layer that is wholly inactive: "
        "modules below it count as active and receive no gradient. The largest savings of VGG are of that kind. The "
        "gradient of a constant filter's output is not computed in the convolution above it either.",
        "Experts are taken to receive equally many tokens, up to their capacity.",
        "The saving does not depend on the batch. Sets are drawn uniformly over modules, whatever their size.",
    ]


TABLE = Table(
    "ceiling",
    "What a step can save at most",
    page=lambda frame, given: markdown(given.made["ceiling_parts"], frame),
    reads=("ceiling_parts", SHAPES),
    needs="ceiling",
    place=130,
)
