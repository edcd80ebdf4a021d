"""Has vanilla learned? The levels' file, and what is said of runs that reach them or do not."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.report import terminal
from mat.evidence.runs import pooled as pooled
from mat.evidence.tables.sanity import PLATEAU, Level, Levels, levels_of, load_levels, sanity
from tests.evidence.synthetic import METHODS, TASKS, collected
from tests.evidence.written import CLAIMS, LEVELS, ROOT, write

VANILLA = {"vanilla": METHODS["vanilla"]}
ENTRY = {"metric": "accuracy", "direction": "at_least", "level": 0.97, "source": "a citation"}


LATE = {"metric": "late_improvement", "direction": "at_most", "level": 0.005, "source": "a reason"}
PLAIN = {"metric": "gap_closed", "direction": "at_least", "level": 0.25, "source": "a reason"}
CURVES = {"converged": LATE, "left_plateau": PLAIN}


def one(tables, task, *stated):
    frame = sanity(tables, {task: Level(*stated)} if stated else {}, Levels(Level(**LATE), Level(**PLAIN), {}))
    return frame[frame["task"] == task].iloc[0]


@pytest.mark.parametrize(
    ("stated", "verdict"),
    [
        (("accuracy", "at_least", 0.9), "reached"),
        (("accuracy", "at_least", 0.99), "not reached"),
        (("loss", "at_most", 0.1), "reached"),
        (("loss", "at_most", 0.05), "not reached"),
        (("accuracy", "at_least", None), "no level stated"),
    ],
)
def test_a_level_is_reached_or_not(tables, stated, verdict):
    row = one(tables, "digits", *stated, "why")
    assert (row["verdict"], row["source"], row["n"]) == (verdict, "why", 3)
    assert np.isfinite(row["reached_mean"])


def test_what_was_reached_is_the_test_mean_over_finished_vanilla_runs():
    tables = collected(["digits"], diverged=[("digits", "vanilla", 1)])
    row = one(tables, "digits", "accuracy", "at_least", 0.9, "why")
    done = tables.runs[(tables.runs["method"] == "vanilla") & (tables.runs["status"] == "finished")]
    assert row["reached_mean"] == pytest.approx(100 * done["test_metric"].mean())
    assert (row["n"], row["n_diverged"], row["unit"], row["level"]) == (2, 1, "%", 90)
    assert (row["steps"], row["epochs"]) == (600, 10)
    assert row["minutes"] == pytest.approx(done["seconds_train"].mean() / 60)


def test_the_gap_between_unigram_and_floor(tables):
    row = one(tables, "hmm", "gap_closed", "at_least", 0.6, "why")
    closed = 100 * (3.31 - tables.finished("hmm", "vanilla")["test_loss"].mean()) / (3.31 - 2.21)
    assert row["reached_mean"] == pytest.approx(closed)
    assert (row["level"], row["unit"], row["verdict"]) == (60, "%", "reached")
    assert row["baselines"] == "floor loss 2.2100 nats; unigram loss 3.3100 nats"


def test_known_values_are_in_their_own_units():
    bounds = {"majority_accuracy_test": 0.688, "prior_test": 0.62, "majority_accuracy_validation": 0.1}
    shapes = {"cola": replace(TASKS["digits"], metric="matthews_correlation", bounds=bounds)}
    row = one(collected(shapes, VANILLA, shapes=shapes), "cola")
    assert row["baselines"] == "majority accuracy 68.8 %; prior loss 0.6200 nats"


def test_a_task_without_an_entry_shows_what_it_is_judged_by(tables):
    row = one(tables, "hmm")
    assert (row["metric"], row["direction"], row["verdict"]) == ("log_perplexity", "at_most", "no level stated")
    assert np.isnan(row["level"])


def test_a_task_without_vanilla_is_said_to_have_none():
    tables = collected(["digits"], {"mat": METHODS["mat"]})
    row = one(tables, "digits", "accuracy", "at_least", 0.9, "why")
    assert (row["verdict"], row["n"]) == ("no vanilla runs", 0)


def test_runs_that_all_diverged_reach_nothing():
    tables = collected(["digits"], VANILLA, [0], [("digits", "vanilla", 0)])
    assert one(tables, "digits", "accuracy", "at_least", 0.0, "why")["verdict"] == "not reached"


@pytest.mark.parametrize(("metric", "task"), [("f1", "digits"), ("gap_closed", "digits")])
def test_a_metric_that_the_task_does_not_have_is_refused(tables, metric, task):
    with pytest.raises(InputError, match=rf"{metric}.*{task}|{task}.*{metric}"):
        one(tables, task, metric, "at_least", 0.5, "why")


def test_the_levels_in_the_repository_are_of_tasks_in_its_configs():
    scales = load_levels(LEVELS).scales
    assert "demo" in scales
    for scale, levels in scales.items():
        config = yaml.safe_load((ROOT / f"workflows/config/{scale}.yaml").read_text())
        assert levels_of(LEVELS, scale, config["tasks"]) == levels
        for label, level in levels.items():
            assert len(level.source) > 40, label


def written(tmp_path, content, **curves):
    path = tmp_path / "sanity.yaml"
    path.write_text(yaml.safe_dump({**CURVES, **curves, **content}))
    return path


def ending(tables, losses):
    """``tables`` whose curves end in these validation losses, of 100, 99 and so on before."""
    rows = tables.curves.sort_values(["run", "step"])
    place, size = rows.groupby("run").cumcount(), rows.groupby("run")["step"].transform("size")
    back = (size - 1 - place).to_numpy()
    last = np.asarray(losses)[::-1]
    rows["val_loss"] = np.where(back < len(last), last[np.minimum(back, len(last) - 1)], 100.0 - place)
    return replace(tables, curves=rows)


@pytest.mark.parametrize(
    ("losses", "fell", "verdict"),
    [
        ([1.0] * 12, 0, "converged"),
        ([1.0] * 5 + [1.2] * 9, -20, "converged"),  # it has passed its minimum
        ([1.0] * 9 + [0.99] * 3, 1, "still improving"),
        ([1.0] * 9 + [0.996] * 3, 0.4, "converged"),
    ],
)
def test_vanilla_has_converged_where_its_loss_hardly_falls_in_the_last_fifth(losses, fell, verdict):
    row = one(ending(collected(tasks=["digits"], methods=VANILLA), losses), "digits")
    assert row["converged"] == verdict
    assert (row["minimum"] < 80) == (fell <= 0)
    assert row["late_improvement_mean"] == pytest.approx(fell, abs=1e-6)


def test_a_task_of_which_a_run_diverged_or_that_has_none_has_not_converged():
    lost = collected(tasks=["digits"], methods=VANILLA, diverged=[("digits", "vanilla", 1)])
    assert one(ending(lost, [1.0] * 12), "digits")["converged"] == "still improving"
    none = collected(["digits"], {"mat": METHODS["mat"]})
    assert one(none, "digits")["converged"] == "no vanilla runs"


@pytest.mark.parametrize(
    ("objective", "floor", "lowest", "verdict"),
    [
        ("masked_lm", True, 3.04, PLATEAU),  # 0.26 of the 1.1 nats from 3.3 to 2.2 are 24 %
        ("masked_lm", True, 3.02, "converged"),
        ("masked_lm", False, 2.48, PLATEAU),  # to 0, where the best possible loss is not known
        ("masked_lm", False, 2.47, "converged"),
        ("causal_lm", False, 3.2, "converged"),
        (None, True, 3.04, PLATEAU),  # runs that did not record it
    ],
)
def test_a_loss_that_stands_still_on_the_plateau_of_the_unigram_loss_has_not_converged(
    objective, floor, lowest, verdict
):
    tables = ending(collected(tasks=["hmm"], methods=VANILLA), [lowest] * 12)
    runs = tables.runs.drop(columns=["objective"] + ([] if floor else ["bound_floor_validation"]))
    row = one(replace(tables, runs=runs if objective is None else runs.assign(objective=objective)), "hmm")
    assert row["converged"] == verdict
    closed = 100 * (3.3 - lowest) / (3.3 - 2.2 * floor)
    assert row["gap_closed"] == pytest.approx(closed if objective != "causal_lm" else np.nan, nan_ok=True)
    assert (row["lowest_loss"], row["end_loss"]) == pytest.approx((lowest, lowest))
    assert np.isnan(one(collected(tasks=["digits"], methods=VANILLA), "digits")["gap_closed"])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("converged", {"metric": "loss"}, "converged: expected metric late_improvement"),
        ("converged", {"direction": "at_least"}, "expected metric late_improvement, direction at_most"),
        ("converged", {"level": None}, "a number as level"),
        ("converged", {"levle": 1}, r"converged: unknown key 'levle'"),
        ("converged", {"source": " "}, "expected a citation"),
        ("left_plateau", {"metric": "loss"}, "left_plateau: expected metric gap_closed, direction at_least"),
    ],
)
def test_a_wrong_level_of_curves_is_refused(tmp_path, name, change, message):
    with pytest.raises(InputError, match=message):
        load_levels(written(tmp_path, {"demo": {"digits": ENTRY}}, **{name: CURVES[name] | change}))
    path = tmp_path / "without.yaml"
    path.write_text(yaml.safe_dump({"demo": {"digits": ENTRY}, **{k: v for k, v in CURVES.items() if k != name}}))
    with pytest.raises(InputError, match=f"'{name}' is missing"):
        load_levels(path)


def test_a_label_that_the_config_lacks_is_refused(tmp_path):
    path = written(tmp_path, {"demo": {"digits": ENTRY, "digit": ENTRY}})
    with pytest.raises(InputError, match=r"demo\.digit is no task of that scale's config; expected one of digits"):
        levels_of(path, "demo", ["digits", "hmm"])
    assert levels_of(path, "subset", ["cifar10"]) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"demo": [ENTRY]}, "mapping from scales"),
        ({"demo": {"digits": {**ENTRY, "levle": 1}}}, r"demo\.digits: unknown key 'levle'"),
        ({"demo": {"digits": {"metric": "accuracy"}}}, "'direction' is missing"),
        ({"demo": {"digits": {**ENTRY, "direction": "up"}}}, "expected 'at_least' or 'at_most'"),
        ({"demo": {"digits": {**ENTRY, "level": "97 %"}}}, "level: expected a number"),
        ({"demo": {"digits": {**ENTRY, "source": ""}}}, "source: expected a citation"),
    ],
)
def test_a_wrong_file_is_refused_by_its_place(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        load_levels(written(tmp_path, content))


def test_files_are_written_and_read_back(tables, tmp_path):
    pooled.save(tables, tmp_path)
    entries = {"digits": {**ENTRY, "level": None, "source": "Nobody has published one."},
               "hmm": {**ENTRY, "metric": "gap_closed", "level": 0.99, "source": "a reason"}}  # fmt: skip
    write(tmp_path, "sanity", levels=written(tmp_path, {"demo": entries}))
    page = (tmp_path / "sanity.md").read_text(encoding="utf-8")
    for part in (
        "**no level stated**",
        "**not reached**",
        "≥ 99.00",
        "Nobody has published one.",
        "unigram loss 3.31",
        "## Has it converged?",
        "**converged**",
        "with torch 2.11.0.",
    ):
        assert part in page
    assert "nan" not in page
    found = catalogue.load(tmp_path).made["sanity"].set_index("task")
    assert found["verdict"].to_dict() == {"digits": "no level stated", "hmm": "not reached"}
    assert "vanilla on Markov text, small BERT: not reached" in terminal.scale(tmp_path, CLAIMS)


def test_a_scale_without_an_entry_has_no_table(tables, tmp_path):
    pooled.save(tables, tmp_path)
    with pytest.raises(InputError, match="no entry for the scale demo"):
        write(tmp_path, "sanity", levels=written(tmp_path, {"subset": {"cifar10": ENTRY}}))
