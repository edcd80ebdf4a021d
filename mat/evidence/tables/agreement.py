"""Do module rankings agree? Rank correlations of λ_max between estimators, normalisations and sample numbers.

The tables of the study of this name come in, one row per module and measurement; a *ranking* is the λ_max of all
modules of one model, at one checkpoint, on one probe set, by one estimator of all positions, normalisation and n. Which
estimator is worth its cost is another table's (``price_list``). Rankings are compared by Kendall's τ_b and Spearman's ρ
(both count ties), in four ways:

``reference``   with the family's reference estimator: same normalisation, probe set and n;
``largest_n``   with the same estimator on the largest n of the same probe set, which contains the n samples;
``probe_sets``  with the same estimator and n on every other, disjoint probe set;
``raw``         with the raw ranking: same estimator, probe set and n.

A ranking without two different finite values (all modules zero, one value, or a kernel that was not finite) is
*degenerate*: its correlations are NaN, left out of means, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mat.errors import InputError
from mat.evidence.runs import pool_studies
from mat.evidence.stats.intervals import mean_interval
from mat.evidence.stats.rank_correlation import spearman
from mat.evidence.tables.columns import read, spread_out
from mat.evidence.tables.estimator_choice import SAYS, TRAINED, at_default, changes, tau
from mat.evidence.tables.record import Given, Table
from mat.evidence.text import format, words
from mat.ranking import kendall, signs
from mat.records.files import ENDING
from mat.records.studies import AGREEMENT

# of the records of its tables
STUDY = {"reads": ("claims",), "needs": "agreement", "measured": f"results/{{scale}}/agreement/*{ENDING}"}
CELL = ["family", "seed", "share", "probe_set", "estimator", "normalisation", "n"]
COST = ["seconds", "macs", "macs_eigen"]
_PROJECTED = "projected"


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with ``projected`` and its directions as one name, such as projected_8; defaults alike."""
    frame = frame.copy()
    for prefix in ("", "default_"):
        name, rounds = frame[f"{prefix}estimator"], frame[f"{prefix}directions"].astype(str)
        frame[f"{prefix}estimator"] = name.where(name != _PROJECTED, _PROJECTED + "_" + rounds)
    return frame.drop(columns=["directions", "default_directions"])


def reference_of(frame: pd.DataFrame, order: Sequence[str]) -> str | None:
    """The first estimator in ``order`` that one family has at its default n; None when it has none.

    ``projected`` stands for the one with the most directions: its expectation is ``trace``.
    """
    at_default = set(frame.loc[frame["n"] == frame["default_n"], "estimator"])
    for name in order:
        found = [each for each in at_default if each == name or each.startswith(f"{name}_")]
        found = found if name == _PROJECTED else [each for each in found if each == name]
        if found:
            return max(found, key=lambda each: int(each.rpartition("_")[2]) if name == _PROJECTED else 0)
    return None


def correlations(frame: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """Every comparison of every ranking in ``frame`` (``named``): the columns of ``CELL``, comparison, tau, rho."""
    found = []
    for _, family in frame.groupby("family", sort=True):
        reference = reference_of(family, references)
        for _, one in family.groupby("seed", sort=True):
            wide = one.pivot(index=CELL, columns="module", values="lambda_max").sort_index()
            cells, ranks = wide.index.to_frame(index=False), signs(wide.to_numpy(dtype=float))
            for comparison, at, other in _compared(cells, reference):
                rows = cells.iloc[at].assign(comparison=comparison)
                tau, rho = kendall(ranks[at], ranks[other]), spearman(ranks[at], ranks[other])
                found.append(rows.assign(tau=tau, rho=rho))
    return pd.concat(found, ignore_index=True)


def _compared(cells: pd.DataFrame, reference: str | None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(comparison, rows, the rows they are compared with), as positions in ``cells``."""
    place = cells.assign(at=np.arange(len(cells)))

    def joined(other: pd.DataFrame, free: str) -> tuple[np.ndarray, np.ndarray]:
        keys = [name for name in CELL if name != free]
        pairs = place.merge(other, on=keys, suffixes=("", "_other"))
        pairs = pairs[pairs[free] != pairs[f"{free}_other"]]
        return pairs["at"].to_numpy(), pairs["at_other"].to_numpy()

    if reference is not None:
        yield "reference", *joined(place[place["estimator"] == reference], "estimator")
    largest = place.groupby("estimator")["n"].transform("max")
    yield "largest_n", *joined(place[place["n"] == largest], "n")
    first, second = joined(place, "probe_set")
    yield "probe_sets", first[first < second], second[first < second]
    yield "raw", *joined(place[place["normalisation"] == "raw"], "normalisation")


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """What a probe costs: family, estimator, n → mean over seeds of ``COST``, and ``cost_ratio``: kernels and
    eigenvalues together, relative to sum_of_logits at the same n (NaN where that was not measured)."""
    keys = ["family", "estimator", "n"]
    found = frame.groupby(keys, as_index=False)[COST].mean()
    found["total"] = found["macs"] + found["macs_eigen"]
    base = found[found["estimator"] == "sum_of_logits"][["family", "n", "total"]]
    found = found.merge(base, on=["family", "n"], how="left", suffixes=("", "_base"))
    found["cost_ratio"] = found["total"] / found["total_base"]
    return found[[*keys, *COST, "cost_ratio"]]


def summary(frame: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """One row per family, checkpoint, estimator, normalisation, n and comparison.

    ``tau_mean`` and ``rho_mean`` with 95 % t intervals over seeds of each seed's mean over its probe sets: probe
    sets of one seed share the weights, so they are no repetitions of their own; ``…_deviation``: their standard
    deviation over seeds, which bounds cut to [−1, 1] do not tell. ``tau_sd_sets``: standard
    deviation over probe sets within a seed and checkpoint. ``rankings``: pairs compared, ``degenerate`` of them
    without a correlation. Checkpoint ``trained`` pools those after the start.
    """
    frame = named(frame[frame["positions"] == 0])
    pairs = correlations(frame, references)
    later = pairs[pairs["share"] > 0].assign(checkpoint=TRAINED)
    pairs = pd.concat([pairs.assign(checkpoint=pairs["share"].map("{:g}".format)), later], ignore_index=True)
    keys = ["family", "checkpoint", "estimator", "normalisation", "n", "comparison"]
    by_seed = pairs.groupby([*keys, "seed"])[["tau", "rho"]].mean().reset_index()
    spread = pairs.groupby([*keys, "seed", "share"])["tau"].var().groupby(keys).mean() ** 0.5
    counts = pairs.groupby(keys)["tau"].agg(["size", "count"])
    rows = []
    for key, seeds in by_seed.groupby(keys):
        row = dict(zip(keys, key, strict=True))
        for name in ("tau", "rho"):
            value = mean_interval(seeds[name]).cut(-1, 1)
            row |= spread_out(name, value) | {f"{name}_deviation": value.deviation}
        size, known = (int(v) for v in counts.loc[key])
        row |= {"n_seeds": value.n, "tau_sd_sets": spread.loc[key], "rankings": size, "degenerate": size - known}
        rows.append(row)
    table = pd.DataFrame(rows).merge(costs(frame), on=["family", "estimator", "n"], how="left")
    return table.merge(_families(frame, references), on="family", how="left")


def _families(frame: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """Per family: its reference, its configured default, its logits per sample and its modules."""
    rows = []
    for family, one in frame.groupby("family", sort=True):
        first = one.iloc[0]
        rows.append(
            {
                "family": family, "reference": reference_of(one, references) or "",
                **{name: first[name] for name in ("default_estimator", "default_normalisation", "default_n")},
                "model": first["model"], "task": first["task"], "logits": first["logits"],
                "modules": one["module"].nunique(), "probe_sets": one["probe_set"].nunique(),
                "diverged": int(one.groupby("seed")["diverged"].first().sum()), "scale": first["scale"],
                "code_hash": first["code_hash"],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def load(files: Iterable[Path]) -> pd.DataFrame:
    """Pool the study's tables. Raises InputError as ``pool_studies.pool`` does."""
    return pool_studies.pool(files, AGREEMENT)


def markdown(table: pd.DataFrame) -> str:
    """The page: what changes a ranking, every estimator beside the reference, how to read it."""
    first = table.iloc[0]
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
                (words.task(row["family"]), row["reference"] or format.MISSING, str(row["default_n"]),
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
        format.how_to_read(_notes(families)),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _estimator(row: pd.Series) -> tuple[str, ...]:
    return (
        words.task(row["family"]), row["estimator"], format.interval(tau(row), 2),
        format.interval(read(row, "rho", "n_seeds"), 2),
        format.number(row["tau_sd_sets"], 2), f"{row['degenerate']} of {row['rankings']}",
        format.number(row["cost_ratio"], 2), format.number((row["macs"] + row["macs_eigen"]) / 1e6, 1),
        format.number(row["seconds"], 3),
    )  # fmt: skip


def _notes(families: pd.DataFrame) -> list[str]:
    sizes = "; ".join(
        f"{words.task(row['family'])} ({row['model']} on {words.task(row['task'])}): {row['modules']} modules, "
        f"{row['logits']} logits per sample, {row['probe_sets']} probe sets, {row['diverged']} diverged"
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
        "Seconds are the CPU's and depend on it. What an estimator costs beside training, how far it agrees on other "
        "samples, and which default follows: `price_list.md`.",
    ]


def claim_of(given: Given, measure: str) -> Any:
    """The claim whose numbers a table of the study takes: X6's order of references. Raises InputError without it."""
    found = next((claim for claim in given.rules["claims"].claims if claim.measure == measure), None)
    if found is None:
        raise InputError(f"claims.yaml: no claim has the measure {measure!r}; the tables of agreement need its numbers")
    return found


def _compute(given: Given) -> pd.DataFrame:
    references = claim_of(given, "rankings").uses["references"]
    return summary(load(given.measured), references)


TABLE = Table(
    "agreement", "Agreement of kernel estimators", _compute, lambda frame, given: markdown(frame), **STUDY, place=150
)
