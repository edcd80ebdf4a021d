"""The committed reference results: vanilla has learned, every table stands on one code version, links work."""

import re
from pathlib import Path

import pandas as pd
import pytest

from mat.experiments.cli import report

ROOT = Path(__file__).parents[2]
SCALES = sorted(path.parent.name for path in (ROOT / "results").glob("*/tables"))


def row(task, method):
    table = pd.read_csv(ROOT / "results/demo/tables/results.csv")
    return table[(table["task"] == task) & (table["method"] == method)].iloc[0]


def test_vanilla_learns_the_digits():
    assert row("digits", "vanilla")["test_metric_mean"] >= 0.97


def test_vanilla_closes_most_of_the_gap_between_unigram_and_best_possible_loss():
    assert row("hmm", "vanilla")["bound_gap_closed_percent_mean"] >= 60


def test_no_method_crosses_the_best_possible_loss():
    runs = pd.read_csv(ROOT / "results/demo/tables/runs.csv")
    text = runs[runs["task"] == "hmm"]
    assert len(text) >= 12
    assert (text["test_loss"] > text["bound_floor_test"]).all()


@pytest.mark.parametrize("scale", SCALES)
def test_the_tables_of_a_scale_stand_on_one_code_and_one_data_version(scale):
    runs = pd.read_csv(ROOT / f"results/{scale}/tables/runs.csv")
    assert runs["code_hash"].nunique() == 1
    assert (runs.groupby("task")["data_hash"].nunique() == 1).all()
    assert runs.groupby(["task", "method"])["seed"].nunique().min() >= 3
    for figure in ("dynamics", "loss_vs_compute", "active_map"):
        assert (ROOT / f"paper_figures/{scale}/{figure}.png").stat().st_size > 20_000


SANITY = [
    *(ROOT / "results").glob("*/tables/sanity.csv"),
    *(ROOT / "results").glob("*/only/*/tables/sanity.csv"),
]


# by part of a scale
MISSED = {
    "sanity,seeds-0,vanilla": {"cifar10"}
}  # by 0.65 points in 10 epochs; the level was fixed before the run and stays


@pytest.mark.parametrize("path", SANITY, ids=lambda path: path.parent.parent.name)
def test_vanilla_reaches_every_level_that_is_stated(path):
    table = pd.read_csv(path)
    missed = set(table[table["verdict"] == "not reached"]["task"])
    assert missed == MISSED.get(path.parent.parent.name, set()), "say so in the README, and why"
    assert (table["verdict"] == "reached").sum() >= 3
    assert (table["n_diverged"] == 0).all()
    assert pd.read_csv(path.with_name("runs.csv"))["code_hash"].nunique() == 1


CROWDED = {
    "evidence"
}  # the machine did other work beside these runs, so a single one may have waited for its thread


def test_steps_hardly_wait_for_their_batches():
    for path in SANITY:
        if "only" not in path.parts:  # the demo's steps of some milliseconds are no measure
            continue
        runs = pd.read_csv(path.with_name("runs.csv"))
        assert runs["seconds_data"].sum() < 0.02 * runs["seconds_train"].sum(), path
        if path.parent.parent.name not in CROWDED:
            assert (runs["seconds_data"] < 0.02 * runs["seconds_train"]).all(), path


RECORDED = [path.parent for path in (ROOT / "results").rglob("provenance.json")]


@pytest.mark.parametrize("tables", RECORDED, ids=lambda path: str(path.parent.relative_to(ROOT / "results")))
def test_the_committed_files_are_what_they_say(tables):
    """Their hashes are the recorded ones, and the pooled runs give their numbers again."""
    assert "as recorded" in report.check(tables, ROOT / "workflows/claims.yaml", ROOT)
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (tables.parent / "REPORT.md").read_text())
    assert links
    for link in links:
        assert (tables.parent / link).exists(), link


def test_links_in_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
