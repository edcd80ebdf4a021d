"""A new table is one file: command line, workflow, report and trace know of it by that file alone."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from mat.evidence.runs import pooled
from tests.evidence.synthetic import METHODS, collected
from tests.evidence.written import ROOT

NEW = '''
"""How long runs are."""

import pandas as pd

from mat.evidence.stats.intervals import mean_interval
from mat.evidence.tables.columns import spread_out
from mat.evidence.tables.record import Table, Traced


def lengths(tables):
    rows = []
    for task in tables.tasks:
        for method in tables.methods(task):
            row = {"task": task, "method": method, "n_finished": len(tables.finished(task, method))}
            rows.append(row | spread_out("length_steps", mean_interval(tables.finished(task, method)["steps"])))
    return pd.DataFrame(rows)


TABLE = Table(
    "lengths",
    "How long runs are",
    lambda given: lengths(given.tables),
    lambda frame, given: f"# Lengths\\n\\nThe longest takes {frame['length_steps_mean'].max():g} steps.",
    texts=("task", "method"),
    traced=Traced(),
    place=5,
)
'''
SMALL = """
scale: small
seeds: [0]
tasks:
  digits: {task: {name: digits}, model: {name: vgg, plan: [4, M], filter_groups: 2}}
methods:
  vanilla: {name: vanilla, observe: true}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the project with one file more, and pooled runs of the demo scale."""
    root = tmp_path_factory.mktemp("repository")
    ignored = shutil.ignore_patterns("__pycache__", "*.png", "*.pdf")
    for name in ("mat", "workflows", "paper_figures"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", root)
    (root / "mat/evidence/tables/lengths.py").write_text(NEW)
    methods = {name: METHODS[name] for name in ("vanilla", "mat")}
    pooled.save(collected(tasks=["digits"], methods=methods), root / "results/demo/tables")
    run(root, "mat", "step", "table", "lengths")
    return root


def run(root, module, *words):
    """What a command prints in the copy; a command of ``mat`` is told where the tables are."""
    where = ("--tables", "results/demo/tables") if module == "mat" else ()
    done = subprocess.run(
        [sys.executable, "-m", module, *words, *where],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_command_line_writes_it(repository):
    table = pd.read_csv(repository / "results/demo/tables/lengths.csv")
    assert list(table["method"]) == ["vanilla", "mat"]
    assert "steps." in (repository / "results/demo/tables/lengths.md").read_text()


def test_the_report_shows_it_in_its_place(repository):
    run(repository, "mat", "step", "provenance", "--figures", "paper_figures/demo")
    run(repository, "mat", "step", "report", "--figures", "paper_figures/demo", "--out", "results/demo")
    chapter = (repository / "results/demo/REPORT.md").read_text().partition("\n## Tables\n")[2]
    assert chapter.lstrip().startswith("### How long runs are\n")
    assert "The longest takes" in chapter


def test_a_number_of_it_leads_to_its_runs(repository):
    said = run(repository, "mat", "trace", "lengths", "digits", "mat", "length_steps")
    assert "agrees" in said and "DIFFERS" not in said
    assert "3 runs behind it" in said


def test_the_workflow_makes_it_from_the_pooled_runs(repository):
    (repository / "workflows/config/small.yaml").write_text(SMALL)
    said = run(repository, "snakemake", "-n", "results/small/tables/lengths.md", "--config", "scale=small")
    assert "wildcards: table=lengths" in said
    rule = said.partition("wildcards: table=lengths")[0].rpartition("rule ")[2]
    assert "results/small/tables/runs.csv" in rule
