"""A part of a scale: what it has nothing of is left out or said to be absent, on figures and on pages."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mat.evidence.catalogue import figures
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.report import chapters
from mat.evidence.report import files as report_files
from mat.evidence.runs import pooled as pooled
from mat.evidence.stats.intervals import Interval
from tests.evidence.synthetic import METHODS, collected
from tests.evidence.synthetic_tables import write_branches
from tests.evidence.written import CLAIMS, REGISTER, ROOT, write
from tests.figures.drawing import SCRIPTS, drawn, script
from tests.figures.test_figures import NAMES

PART = "only/sanity,seeds-0,vanilla"


def tables_of(root: Path, method: str) -> Path:
    """Every table that is made from runs, of one method and one seed."""
    runs = collected(["digits"], {method: METHODS[method]}, [0], steps=60, selection=f"only={method} seeds=[0]")
    pooled.save(runs, root / "tables")
    made = ("results", "controls", "rivals", "learning_rate", "wall_clock", "scores", "sensitivity", "sanity")
    write(root / "tables", *made, "verdicts")
    return root / "tables"


@pytest.fixture(scope="module", params=["vanilla", "multirate"])
def part(request, tmp_path_factory):
    return tables_of(tmp_path_factory.mktemp(request.param), request.param)


def test_every_figure_of_one_method_and_seed_is_drawn(part):
    given = catalogue.load(part)
    assert "sensitivity" not in given.made
    for name in NAMES:
        assert drawn(name, given).texts[-1].get_text().startswith("scale demo (only="), name


def test_a_page_is_written_where_nothing_is_measured(part, tmp_path):
    report_files.reproducibility(part, CLAIMS, REGISTER, tmp_path)
    said = (tmp_path / "REPRODUCIBILITY.md").read_text()
    assert "A1, A2" in said.partition("not varied by the runs of this scale")[2]
    assert "unmodified" not in said
    if "multirate" in str(part):
        assert "No number that a verdict stands on was measured." in said


def test_tables_without_rows_are_none(tmp_path):
    for text in ("", "\n", "id,alternative,task\n", "task,method\n"):
        for name in catalogue.tables():
            (tmp_path / f"{name}.csv").write_text(text)
        assert catalogue.load_made(tmp_path, catalogue.tables()) == {}


def test_the_committed_part_has_a_report_whose_links_lead_to_files(tmp_path):
    """From tables, figures and record to pages, as the workflow's rules call them."""
    tables, figures = (tmp_path / name / PART for name in ("results/subset", "paper_figures/subset"))
    shutil.copytree(ROOT / "results/reference/subset" / PART, tables)
    shutil.copytree(ROOT / "paper_figures/reference/subset" / PART, figures)
    report_files.provenance(tables / "tables", figures, tmp_path)
    report_files.report(
        tables / "tables", figures, CLAIMS, ROOT / "mat/methods", ROOT / "workflows/report", tables, tmp_path
    )
    report_files.reproducibility(tables / "tables", CLAIMS, REGISTER, tables)
    said = (tables / "REPORT.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", said)
    assert any(link.endswith("sanity.png") for link in links)
    assert [link for link in links if not (tables / link).is_file()] == []
    assert (tables / "report.html").stat().st_size > 50_000
    assert report_files.check(tables / "tables", CLAIMS, tmp_path).startswith("13 tables and figures and 12 runs")


def test_captions_of_branches_have_the_n_of_their_own_tables(tmp_path):
    write_branches(tmp_path, seeds=7)
    counted = figures.known(SCRIPTS)["trainability"].counted
    given = pooled.Tables(*[pd.DataFrame()] * 3, catalogue.load_made(tmp_path, ["trainability"]))
    assert chapters.seeds(given, counted).startswith("n = 7 seeds")


def test_every_script_has_a_title_and_the_headline_comes_first():
    listed = figures.known(SCRIPTS)
    assert set(listed) == set(NAMES)
    assert next(iter(listed)) == "headline"
    assert all(figure.title and figure.about for figure in listed.values())


def test_a_family_whose_branches_all_diverged_says_so(part, tmp_path):
    write_branches(tmp_path)
    table = pd.read_csv(tmp_path / "generalisation.csv", dtype={"checkpoint": str}).fillna({"minus": ""})
    given = catalogue.load(part)
    numbers = ["mean", "low", "high"]
    one = table.assign(**{name: table[name].where(table["family"] != "bert") for name in numbers})
    titles = [ax.get_title() for ax in drawn("generalisation", replace(given, made={"generalisation": one})).axes]
    assert sum("every branch diverged" in title for title in titles) == 1
    none = table.assign(**dict.fromkeys(numbers, np.nan))
    figure = drawn("generalisation", replace(given, made={"generalisation": none}))
    assert "every one of them diverged" in figure.axes[0].texts[0].get_text()


def test_bars_of_a_marker_at_the_edge_end_where_its_interval_does():
    bars = script("wall_clock").bars
    assert bars(Interval(-300.0, -420.0, -150.0, 3), -200.0) == [[0.0], [50.0]]
    assert bars(Interval(-300.0, -420.0, -250.0, 3), -200.0) == [[0.0], [0.0]]
    assert bars(Interval(20.0, -260.0, 120.0, 3), -200.0) == [[220.0], [80.0]]
    assert bars(Interval(20.0, np.nan, np.nan, 1), -200.0) is None
