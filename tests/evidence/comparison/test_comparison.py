"""Two runs, and two folders of tables, beside each other: what differs is said, and nothing else."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mat.errors import InputError
from mat.evidence.comparison import folders, page
from mat.evidence.comparison.curves import parting
from mat.evidence.comparison.headlines import NUMBERS, Number, numbers, verdicts
from mat.evidence.runs import pooled
from mat.evidence.stats.intervals import Interval
from tests.evidence.synthetic import METHODS, write_runs

CURVE = pd.DataFrame(
    [(0, 2.0, np.nan, 0.0), (10, 1.0, 1.1, 3.0), (20, 0.5, 0.6, 6.0)],
    columns=["step", "val_loss", "train_loss", "seconds_train"],
).assign(seed=0, run="r")
RESULTS = pd.DataFrame(
    [("digits", "vanilla", 3, 0.9, 0.8, 1.0), ("digits", "mat", 3, 0.8, 0.7, 0.9)],
    columns=["task", "method", "n_finished", "test_metric_mean", "test_metric_low", "test_metric_high"],
)
VERDICTS = pd.DataFrame(
    {"claim": ["C4", "C4", "C4"], "task": ["all", "digits", "digits"], "verdict": ["partly", "partly", "partly"]}
)


def changed(frame, row, column, value):
    other = frame.copy()
    other[column] = other[column].astype(object if isinstance(value, str) else float)
    other.loc[row, column] = value
    return other


def test_curves_that_differ_in_wall_clock_time_alone_are_the_same():
    found = parting("r", CURVE, changed(CURVE, 1, "seconds_train", 30.0))
    assert found.same
    assert (found.step, found.at, found.largest, found.steps) == (None, {}, {}, (3, 3))


def test_the_first_step_where_they_differ_is_named_with_the_least_of_differences():
    least = np.nextafter(1.0, 2.0)
    other = changed(changed(CURVE, 1, "val_loss", least), 2, "train_loss", 1.6)
    found = parting("r", CURVE, other)
    assert (found.step, found.same) == (10, False)
    assert found.at == {"val_loss": least - 1}
    assert found.largest == {"val_loss": least - 1, "train_loss": 1.0}


def test_an_evaluation_or_a_column_that_one_alone_has_is_a_difference():
    shorter = parting("r", CURVE, CURVE.iloc[:2])
    assert (shorter.step, shorter.steps) == (20, (3, 2))
    wider = parting("r", CURVE, CURVE.assign(val_accuracy=0.5))
    assert (wider.step, list(wider.at)) == (0, ["val_accuracy"])
    one_number = parting("r", CURVE, changed(CURVE, 0, "train_loss", 2.0))
    assert (one_number.step, list(one_number.at)) == (0, ["train_loss"])


def test_numbers_that_changed_are_listed_by_task_and_method_and_the_others_counted():
    found, same = numbers(RESULTS, changed(RESULTS, 1, "test_metric_mean", 0.85))
    assert [(one.task, one.method, one.measure, one.a.mean, one.b.mean) for one in found] == [
        ("digits", "mat", "test_metric", 0.8, 0.85)
    ]
    assert same == 7  # of two rows of four measures, those that neither table has included
    assert numbers(RESULTS, RESULTS.iloc[::-1]) == ([], 8)


@pytest.mark.parametrize(
    ("a", "b", "overlap"),
    [
        ((0.5, 0.4, 0.6), (0.65, 0.55, 0.75), True),
        ((0.5, 0.4, 0.6), (0.7, 0.6, 0.8), True),
        ((0.5, 0.4, 0.6), (0.71, 0.61, 0.81), False),
        ((0.71, 0.61, 0.81), (0.5, 0.4, 0.6), False),
        ((0.5, np.nan, np.nan), (0.7, 0.6, 0.8), None),
    ],
)
def test_intervals_overlap_when_they_have_a_value_in_common(a, b, overlap):
    assert Number("t", "m", "x", Interval(*a, 3), Interval(*b, 3)).overlap is overlap


@pytest.mark.parametrize(
    ("mean", "interval", "inside"),
    [(0.6, (0.5, 0.4, 0.6), True), (0.61, (0.5, 0.4, 0.6), False), (0.5, (0.5, np.nan, np.nan), None)],
)
def test_a_number_agrees_when_it_lies_in_the_interval_of_the_other(mean, interval, inside):
    assert Number("t", "m", "x", Interval(mean, 0.0, 9.0, 3), Interval(*interval, 3)).inside is inside


def test_the_last_line_says_whether_a_agrees_and_rows_that_one_alone_has_count(places, tmp_path):
    assert page.text(folders.compare(places / "a", places / "same")).splitlines()[-1] == (
        "a agrees with b: 2 verdicts are the same, 8 numbers are the same, 0 numbers are inside b's intervals"
    )
    last = page.text(folders.compare(places / "a", places / "other")).splitlines()[-1]
    assert last.startswith("a DOES NOT AGREE with b: ")
    assert last.endswith("1 verdicts differ, 2 numbers are outside")
    shutil.copytree(places / "a", tmp_path / "less")
    RESULTS.iloc[:1].to_csv(tmp_path / "less/results.csv", index=False)
    found = folders.compare(tmp_path / "less", places / "a")
    assert found.rows == ([], ["digits mat"])
    assert page.text(found).endswith("1 rows are in one alone")


def test_a_verdict_is_one_per_claim_and_task():
    found, same = verdicts(VERDICTS, changed(VERDICTS, 0, "verdict", "supported"))
    assert [(one.claim, one.task, one.a, one.b) for one in found] == [("C4", "all", "partly", "supported")]
    assert same == 1


@pytest.fixture(scope="module")
def places(tables, tmp_path_factory):
    """Two folders of the same tables, and a third: another machine, a run less, a curve, a row and a verdict."""
    root = tmp_path_factory.mktemp("compared")
    for name in ("a", "same", "other"):
        pooled.save(tables, root / name)
        RESULTS.to_csv(root / name / "results.csv", index=False)
        VERDICTS.to_csv(root / name / "verdicts.csv", index=False)
    curves = tables.curves.copy()
    run = tables.runs["run"].iloc[1]
    last = curves.index[curves["run"] == run][-1]
    curves.loc[last, "val_loss"] += 0.25
    runs = tables.runs.iloc[1:].assign(cpu="Another")
    pooled.save(replace(tables, runs=runs, curves=curves[curves["run"].isin(runs["run"])]), root / "other")
    other = RESULTS.assign(**{name: RESULTS[name] - 0.5 for name in RESULTS if name.startswith("test_")})
    other.to_csv(root / "other/results.csv", index=False)
    changed(VERDICTS, 0, "verdict", "not supported").to_csv(root / "other/verdicts.csv", index=False)
    return root


def test_a_folder_of_tables_compares_as_the_same_with_its_copy(places, tables):
    said = page.text(folders.compare(places / "a", places / "same"))
    assert "verdicts: 0 changed, 2 the same" in said
    assert "results: 0 numbers changed; 8 the same" in said
    assert f"of {len(tables.runs)} runs in both, {len(tables.runs)} are the same to the bit and 0 differ" in said
    assert "made by" not in said


def test_what_differs_between_two_folders_is_said_in_text_and_in_json(places, tables):
    found = folders.compare(places / "a", places / "other")
    said, run = page.text(found), tables.runs["run"].iloc[1]
    step = int(tables.curves.loc[tables.curves["run"] == run, "step"].iloc[-1])
    assert "other, on device cpu, cpu Another, cores 2" in said
    assert "C4   all              partly | not supported" in said
    assert "2 numbers changed, 2 of them outside b's interval; 6 the same" in said
    assert "0.900 [0.800, 1.000], n = 3 | 0.400 [0.300, 0.500], n = 3  OUTSIDE, intervals DO NOT overlap" in said
    assert f"{run}: first at step {step}, val_loss by +0.25" in said
    assert f"only in a (1): {tables.runs['run'].iloc[0]}" in said
    read = json.loads(page.as_json(found))
    assert [given["run"] for given in read["runs"] if not given["same"]] == [run]
    assert read["numbers"][0]["overlap"] is False
    assert read["numbers"][0]["a"] == {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 3}
    assert read["only"] == [[tables.runs["run"].iloc[0]], []]


def test_tables_that_one_of_them_lacks_are_left_out(places, tmp_path):
    shutil.copytree(places / "a", tmp_path / "bare")
    for name in ("results.csv", "verdicts.csv"):
        (tmp_path / "bare" / name).unlink()
    said = page.text(folders.compare(places / "a", tmp_path / "bare"))
    assert "curves: " in said
    assert "verdicts" not in said
    assert "results" not in said


def test_two_runs_are_compared_with_their_settings_whatever_they_are_called(tmp_path):
    a, b = write_runs(tmp_path, tasks=["digits"], seeds=[0, 1], steps=60)[:2]
    found = folders.compare(a, b)
    assert found.runs[0].run == f"{a.name} and {b.name}"
    assert found.made_by["spec: seed"] == ("0", "1")
    assert not found.runs[0].same
    assert folders.compare(a, a).runs[0].same


def test_places_of_two_kinds_or_of_none_are_refused(places, tmp_path):
    (run,) = write_runs(tmp_path, tasks=["digits"], methods={"vanilla": METHODS["vanilla"]}, seeds=[0], steps=60)
    with pytest.raises(InputError, match="compare two of one kind"):
        folders.compare(places / "a", run)
    with pytest.raises(InputError, match="neither a run directory"):
        folders.compare(tmp_path, run)


@pytest.mark.parametrize("name", ["results.csv", "verdicts.csv"])
@pytest.mark.parametrize("damage", ["emptied", "cut", "other columns", "a text for a number"])
def test_a_damaged_table_is_one_clear_line(name, damage, places, tmp_path):
    a, b = places / "a", tmp_path / "b"
    shutil.copytree(a, b)
    content = (b / name).read_text()
    damaged = {
        "emptied": "",
        "cut": content[: content.index("\n") + 4],
        "other columns": content.replace("task", "tusk", 1),
        "a text for a number": "claim,task,verdict,method," + ",".join(NUMBERS) + "\nC1,a,b,c" + ",x" * len(NUMBERS),
    }
    (b / name).write_text(damaged[damage] + "\n")
    with pytest.raises(InputError, match=rf"{name}.* (make it again|written by this version)") as error:
        folders.compare(a, b)
    assert "\n" not in str(error.value)
