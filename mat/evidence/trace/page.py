"""A trace as text for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from mat.evidence.trace.number import FOLDERS, POOLED, Trace
from mat.evidence.trace.runs import Run

SAID = {True: "agrees", False: "DIFFERS", None: "not computed again from runs"}
READ = {
    FOLDERS: "from the run folders, read again",
    POOLED: "from the pooled tables alone: run folders are not all here",
}


def text(traces: Iterable[Trace]) -> str:
    """Every number with its seeds' values, then the runs behind all of them, each once."""
    traces = list(traces)
    blocks = ["\n".join(_number(trace)) for trace in traces]
    runs = {run.run: run for trace in traces for run in trace.runs}
    if not runs:
        apart = "No single run of runs.csv is behind it: see the table's own page for what it was measured on."
        return "\n\n".join([*blocks, apart])
    return "\n\n".join([*blocks, *_runs(list(runs.values()))])


def as_json(traces: Iterable[Trace]) -> str:
    """The same as a JSON list."""
    said = [asdict(trace) | {"agrees": trace.agrees, "mean_agrees": trace.mean_agrees} for trace in traces]
    return json.dumps(said, indent=2, ensure_ascii=False)


def _number(trace: Trace) -> Iterable[str]:
    where = " · ".join(value for key, value in trace.row.items() if key != "scale")
    yield f"{trace.table}.csv · {where} · {trace.column} = {trace.number:.8g}"
    again = "" if trace.again is None else f"{trace.again:.8g}, "
    how = f" ({READ[trace.read]})" if trace.again is not None and trace.runs else ""
    yield f"  computed again         {again}{SAID[trace.agrees]}{how}"
    if trace.by_seed:
        values = ", ".join(f"seed {seed}: {value:.6g}" for seed, value in trace.by_seed.items())
        yield f"  each seed alone        {values}"
        yield f"  of those values        {_mean(trace)}"


def _mean(trace: Trace) -> str:
    said = f"{trace.mean[0]} = {trace.mean[1]:.8g}"
    if trace.mean_agrees is None:
        return f"{said}, but the number is over {trace.n} seeds and {len(trace.by_seed)} have a value of their own"
    return f"{said}, {SAID[trace.mean_agrees]}"


def _runs(runs: list[Run]) -> Iterable[str]:
    yield f"{len(runs)} runs behind it:"
    for run in runs:
        there = "" if run.there else " (not here; only its rows in the tables are)"
        hashes = ", ".join(f"{name} {digest[:12]}" for name, digest in run.hashes.items())
        yield (
            f"{run.run}\n  {run.task}, {run.method}, seed {run.seed}, {run.status}\n  folder   {run.folder}{there}\n"
            f"  hashes   {hashes}\n  again    {run.command}"
        )
    for name, values in (
        ("hardware", {run.hardware for run in runs}),
        ("versions", {", ".join(f"{name} {value}" for name, value in run.versions.items()) for run in runs}),
    ):
        yield f"{name}: {'; or '.join(sorted(values))}"
