"""Seconds and peak memory of every step of the evidence as runs grow, on made-up runs: ``python -m
tests.benchmarks.size [RUNS ...] [--methods few|many] [--steps NAME ...]``.

The steps are the commands of the workflow and of a reader, each in a process of its own with one thread, its start and
imports included. The runs are folders of small files, two tasks by few or by many methods; what grows is the number of
seeds. It prints a row per step, each cell processor seconds and peak memory, and how large the pages are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mat.evidence.catalogue import figures, tables
from mat.evidence.tables.record import Table
from tests.evidence.synthetic import MANY, METHODS, TASKS, write_runs

ROOT = Path(__file__).parents[2]
SIZES = (125, 250, 500, 1000, 2000, 4000)
SCALE = "demo"
TABLES, FIGURES = f"results/{SCALE}/tables", f"paper_figures/{SCALE}"
PAGES = ("REPORT.md", "report.html", "REPRODUCIBILITY.md")


def steps(runs: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """Every step by name, with its command line, in the order of the workflow."""
    of = ["--tables", TABLES]
    drawn, out = ["--figures", FIGURES], ["--out", f"results/{SCALE}"]
    yield "collect", ["step", "collect", *map(str, runs), *of]
    made = [one for one in tables.tables().values() if one.compute and not one.measured and _has_sources(one)]
    for one in sorted(made, key=lambda one: one.name == "verdicts"):  # after those that it reads
        yield f"table {one.name}", ["step", "table", one.name, *of]
    for name in figures.known(ROOT / "paper_figures"):
        yield f"figure {name}", ["step", "draw", f"paper_figures/{name}.py", *of, "--out", FIGURES]
    yield "provenance", ["step", "provenance", *of, *drawn]
    yield "report", ["step", "report", *of, *drawn, *out]
    yield "reproducibility", ["step", "reproducibility", *of, *out]
    yield "trace --check", ["trace", *of, "--check"]
    yield "trace results", ["trace", *of, "results", "digits", "mat", "saving_executed_percent"]
    yield "summary", ["summary", *of]
    yield "compare", ["compare", TABLES, f"{TABLES}.copy"]


def _has_sources(table: Table) -> bool:
    """Whether what a table reads beside the pooled runs is there, such as the log of a scale's tuning."""
    return all(any(ROOT.glob(name)) for name in tables.sources(table, SCALE) if name.startswith("workflows/"))


def measure(work: Path, runs: Sequence[Path], wanted: Sequence[str]) -> Iterator[tuple[str, float, float]]:
    """(step, processor seconds, peak MiB) of every step on these runs."""
    for name, command in steps([path.relative_to(work) for path in runs]):
        if wanted and name not in wanted and name != "collect":
            continue
        if name == "compare":
            shutil.copytree(work / TABLES, work / f"{TABLES}.copy", dirs_exist_ok=True)
        yield name, *_run(work, command)


def _run(work: Path, command: Sequence[str]) -> tuple[float, float]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (work / "log").open("w") as log:
        done = subprocess.Popen(
            [sys.executable, "-m", "mat", *command], cwd=work, env=environment, stdout=log, stderr=log
        )
        _, status, used = os.wait4(done.pid, 0)
        done.returncode = os.waitstatus_to_exitcode(status)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} failed:\n{(work / 'log').read_text()[-2000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Measure every size and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=int, default=SIZES)
    parser.add_argument("--methods", choices=("few", "many"), default="few")
    parser.add_argument("--steps", nargs="*", default=(), help="these alone, after collect")
    options = parser.parse_args()
    methods = METHODS if options.methods == "few" else MANY
    with TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("workflows", "mat"):
            (work / name).symlink_to(ROOT / name)
        (work / "paper_figures").mkdir()
        for script in (ROOT / "paper_figures").glob("*.*"):
            (work / "paper_figures" / script.name).symlink_to(script)
        each = len(methods) * len(TASKS)
        place = work / f"results/{SCALE}/runs"
        rows: dict[str, list[str]] = {}
        counts, begun = [], 0
        for size in sorted(options.runs):
            write_runs(place, TASKS, methods, range(begun, size // each))
            begun = size // each
            runs = sorted(place.iterdir())
            counts.append(len(runs))
            for name, seconds, peak in measure(work, runs, options.steps):
                rows.setdefault(name, []).append(f"{seconds:.1f} s, {peak:.0f} MiB")
                print(f"{len(runs):>5} runs, {name:<24} {rows[name][-1]}", file=sys.stderr, flush=True)
            for page in PAGES if not options.steps else ():
                rows.setdefault(page, []).append(f"{(work / f'results/{SCALE}' / page).stat().st_size / 1000:.0f} kB")
    print("| step | " + " | ".join(f"{count} runs" for count in counts) + " |")
    print("|---" * (len(counts) + 1) + "|")
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
