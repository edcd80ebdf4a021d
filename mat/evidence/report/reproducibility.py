"""A scale's page in the words of the ML Reproducibility Challenge; every number on it is read from tables.

The headings are the challenge's: scope of reproducibility, methodology, results, what was easy, what was difficult,
communication with the original authors, computational requirements.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from mat.evidence.claims.claim import Claims
from mat.evidence.claims.verdict import NOT_TESTED, tops
from mat.evidence.report import environment, erratum, matrix
from mat.evidence.report import verdicts as report_verdicts
from mat.evidence.report.chapters import PAPER, without_places
from mat.evidence.report.finding import found
from mat.evidence.runs.pooled import Tables
from mat.evidence.sensitivity.register import Ambiguity
from mat.evidence.tables import sanity
from mat.evidence.text import format, words
from mat.evidence.trace import provenance_runs


def markdown(tables: Tables, claims: Claims, register: list[Ambiguity], wrong: str = "") -> str:
    """The page; ``wrong``: the erratum."""
    verdicts = tables.made.get("verdicts")
    return "\n\n".join(
        [
            f"# Reproducibility summary. Scale {tables.scope}",
            *erratum.note(wrong),
            *([] if verdicts is None else [found(verdicts, claims).short]),
            f"Of {PAPER}. Made by `{tables.command}` from the tables of this scale; no number is typed by hand.",
            "## Scope of reproducibility",
            *_scope(claims, verdicts),
            "## Methodology",
            *_methodology(tables, claims, register),
            "## Results",
            *_results(tables, claims, verdicts),
            "## What was easy",
            *_easy(tables),
            "## What was difficult",
            *_difficult(tables, register, verdicts),
            "## Communication with original authors",
            "None, at the time of writing.",
            "## Computational requirements",
            environment.scope(tables),
            _records(tables),
            environment.machines(tables),
        ]
    )


def _scope(claims: Claims, verdicts: pd.DataFrame | None) -> Iterator[str]:
    judged: set[str] = set()
    if verdicts is not None:
        judged = set(verdicts.loc[(verdicts["task"] == format.ALL) & (verdicts["verdict"] != NOT_TESTED), "claim"])
    ours = [claim.id for claim in claims.claims if claim.id.startswith("X")]
    yield (
        f"{len(claims.claims)} claims and questions; {len(judged)} of them are judged on the runs of this scale. "
        f"{format.listed(ours)} are questions of this re-run, which the paper does not answer."
    )
    rows = [(claim.id, claim.text, claim.reported, "yes" if claim.id in judged else "no") for claim in claims.claims]
    yield format.markdown_table(("claim", "text", "reported", "judged here"), rows)


def _methodology(tables: Tables, claims: Claims, register: list[Ambiguity]) -> Iterator[str]:
    runs = tables.runs
    yield (
        "The paper's code is not public, so the method was written anew from its definitions, as a library on PyTorch "
        "and a Snakemake workflow. Decision rules are in `workflows/claims.yaml`, each with what had been seen when it "
        f"was fixed; {len(register)} choices that the paper leaves open are in `workflows/ambiguities.yaml`, each with "
        "its default. For one seed all methods see the same initial weights, batches and probe samples. Compute is "
        "what the steps really executed (`FlopCounterMode`), probes charged to whoever needs them, with a nominal "
        "count beside it."
    )
    rows = [
        (words.task(task), same["metric"].iloc[0].replace("_", " "), " ".join(sorted(same["method"].unique())),
         environment.seeds(same, " "), f"{same['steps'].max()}", f"{same['epochs'].max():.3g}")
        for task, same in runs.groupby("task", sort=True)
    ]  # fmt: skip
    yield format.markdown_table(("task", "metric", "methods", "seeds", "steps", "epochs"), rows)


def _results(tables: Tables, claims: Claims, verdicts: pd.DataFrame | None) -> Iterator[str]:
    if verdicts is None:
        yield "No claim is judged at this scale."
        return
    yield matrix.markdown(verdicts, claims)
    yield format.bullets(found(verdicts, claims).points)
    yield without_places(report_verdicts.overview(verdicts, claims))


def _easy(tables: Tables) -> Iterator[str]:
    runs = tables.runs
    finished = int((runs["status"] == "finished").sum())
    yield (
        f"One command makes everything on this page. The scale `demo` brings its data along; `subset` and `paper` read "
        f"theirs from the hub or from a mirror of it (`MAT_DATA`). {finished} of {len(runs)} runs finished; "
        f"an interrupted run goes on where it was. The models are built from the classes of torchvision and "
        f"transformers, at the sizes of the config: VGG's plan of layers, the stem of ResNet for small images and the "
        f"standard deviation of BERT's initial weights are this re-run's own, and Switch is transformers' stack of "
        f"blocks in a language model of its own."
    )
    if "sanity" in tables.made:
        said = tables.made["sanity"]["verdict"]
        level = said.isin([sanity.REACHED, sanity.NOT_REACHED])
        reached = int((said == sanity.REACHED).sum())
        yield f"Vanilla training reaches {reached} of the {int(level.sum())} levels that were fixed for it."


def _difficult(tables: Tables, register: list[Ambiguity], verdicts: pd.DataFrame | None) -> Iterator[str]:
    unvaried = _unvaried(tables, register)
    yield f"The paper leaves {len(register)} choices open that this re-run has met. " + (
        f"{len(unvaried)} of them are not varied by the runs of this scale: {format.listed(unvaried)}."
        if unvaried
        else "The runs of this scale vary every one of them."
    )
    if verdicts is not None:
        counts = tops(verdicts)["verdict"].value_counts()
        measured = verdicts.loc[verdicts["decides"] & (verdicts["n"] > 0) & (verdicts["task"] != format.ALL), "n"]
        yield (
            f"{counts.get('inconclusive', 0)} claims stay inconclusive and {counts.get(NOT_TESTED, 0)} are not tested. "
        ) + (
            f"Intervals stand on as few as {int(measured.min())} seeds; what a decision would need is beside each "
            "verdict, where it can be said."
            if len(measured)
            else "No number that a verdict stands on was measured."
        )
    missed = [task for task in tables.tasks if tables.sanity_of(task) == sanity.NOT_REACHED]
    if missed:
        yield f"Vanilla does not reach its level on {format.listed(missed)}, which weakens what is said there."


def _records(tables: Tables) -> str:
    kept, runs = provenance_runs.kept(tables), len(tables.runs)
    if kept == runs:
        return f"The records of all {runs} runs are kept; tables and figures are made from them."
    return (
        f"Of the {runs} runs the records of {kept or 'none'} were kept. `runs.csv` and the curves and probes that were "
        "pooled of them stand for them, and the tables of studies for what their jobs measured."
    )


def _unvaried(tables: Tables, register: list[Ambiguity]) -> list[str]:
    """Open choices without a row in the sensitivity table and without a run of an alternative."""
    methods = set(tables.runs["method"])
    varied = set(tables.made["sensitivity"]["id"]) if "sensitivity" in tables.made else set()
    return [entry.id for entry in register if entry.id not in varied and not methods & set(entry.sensitivity)]
