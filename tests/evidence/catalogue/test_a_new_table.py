"""A new table, figure or rule is one file: command line, workflow, report and trace know of it by that file alone."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from mat.evidence.runs import pooled
from tests.evidence.synthetic import METHODS, collected
from tests.evidence.written import ROOT

EXAMPLES = ROOT / "docs/examples"
PLACES = {
    "lengths.py": "mat/evidence/tables",
    "length_bars.py": "paper_figures",
    "as_long.py": "mat/evidence/claims/rules",
}
TABLES = "results/demo/tables"
COMMANDS = (
    "step table lengths", "step provenance --figures paper_figures/demo",
    "step report --figures paper_figures/demo --out results/demo", "trace lengths digits mat length_steps",
    "step draw paper_figures/length_bars.py --out paper_figures/demo", "step table verdicts",
)  # fmt: skip
ALL = f"""
from mat.experiments.cli.main import main
from snakemake import cli
for command in {COMMANDS!r}:
    assert main([*command.split(), "--tables", {TABLES!r}]) == 0, command
cli.main(["-n", "-f", "{TABLES}/lengths.md", "--config", "scale=demo"])
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy of the project with the examples of the docs, and what its commands and Snakemake print on pooled runs of
    its demo."""
    root = tmp_path_factory.mktemp("repository")
    ignored = shutil.ignore_patterns("__pycache__", "*.png", "*.pdf")
    for name in ("mat", "workflows", "paper_figures"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", root)
    for name, place in PLACES.items():
        shutil.copy(EXAMPLES / name, root / place)
    claims = root / "workflows/claims.yaml"
    top, _, _ = claims.read_text().partition("\nclaims:\n")
    claims.write_text(f"{top}\nclaims:\n{(EXAMPLES / 'as_long.yaml').read_text()}")
    methods = {name: METHODS[name] for name in ("vanilla", "mat")}
    pooled.save(collected(tasks=["digits"], methods=methods), root / TABLES)
    done = subprocess.run(
        [sys.executable, "-c", ALL],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return root, done.stdout + done.stderr


@pytest.fixture
def repository(made):
    return made[0]


def test_the_command_line_writes_it(repository):
    table = pd.read_csv(repository / "results/demo/tables/lengths.csv")
    assert list(table["method"]) == ["vanilla", "mat"]
    assert "steps." in (repository / "results/demo/tables/lengths.md").read_text()


def test_the_report_shows_it_in_its_place(repository):
    chapter = (repository / "results/demo/REPORT.md").read_text().partition("\n## Tables\n")[2]
    assert chapter.lstrip().startswith("### How long runs are\n")
    assert "The longest takes" in chapter


def test_a_number_of_it_leads_to_its_runs(made):
    said = made[1]
    assert "agrees" in said and "DIFFERS" not in said
    assert "3 runs behind it" in said


def test_the_workflow_makes_it_from_the_pooled_runs(made):
    said = made[1]
    assert "wildcards: table=lengths" in said
    rule = said.partition("wildcards: table=lengths")[0].rpartition("rule ")[2]
    assert "results/demo/tables/runs.csv" in rule


def test_a_figure_is_drawn_of_it(repository):
    assert (repository / "paper_figures/demo/length_bars.png").stat().st_size > 5_000


def test_a_claim_is_judged_by_a_new_rule(repository):
    judged = pd.read_csv(repository / "results/demo/tables/verdicts.csv")
    assert judged[["claim", "task", "verdict", "part", "effect"]].values.tolist()[1] == [
        *("L1", "digits", "supported", "difference in steps", 0.0)
    ]
