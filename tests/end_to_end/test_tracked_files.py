"""What the pipeline makes is one's own: no tracked file changes, and `make clean` takes away what can be made again."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = (
    "results/reference/demo/runs.zip",
    "results/reference/demo/tables/runs.csv",
    "paper_figures/reference/demo/a.png",
)
TRAINED = ("results/demo/runs/a/final.json", "results/demo/branches/a.csv.gz", "results/demo/data/digits.json")
MADE = (
    *("results/demo/tables/runs.csv", "results/demo/REPORT.md", "results/subset/only/glue/tables/runs.csv"),
    *("paper_figures/demo/a.png", "paper_figures/subset/only/glue/a.png", "results/demo/logs/a.log"),
)


@pytest.fixture
def clone(tmp_path):
    for name in (".gitignore", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    write(tmp_path, TRACKED)
    git(tmp_path, "init", "-q", ".")
    git(tmp_path, "add", "-A")
    return tmp_path


def write(root: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def git(root: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True).stdout


def test_the_reference_is_tracked_and_what_the_pipeline_makes_is_not(clone):
    before = git(clone, "status", "--porcelain", "-uall")
    assert all(f"A  {name}\n" in before for name in TRACKED)
    write(clone, TRAINED + MADE)
    assert git(clone, "status", "--porcelain", "-uall") == before


def test_clean_keeps_what_was_trained_and_what_is_tracked(clone):
    write(clone, TRAINED + MADE)
    subprocess.run(["make", "clean", "VENV=absent"], cwd=clone, check=True, capture_output=True)
    assert [name for name in TRAINED + TRACKED if not (clone / name).is_file()] == []
    assert [name for name in MADE if (clone / name).exists()] == []
