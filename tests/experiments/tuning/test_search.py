"""The search: equal compute, seeds of its own, the same again, and what it chose as a scale reads it."""

import copy
import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mat.errors import InputError
from mat.evidence.tables import tuning as evidence
from mat.experiments.cli.commands import tune
from mat.experiments.cli.main import main
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.planning.report import left_out
from mat.experiments.training.machine import Machine
from mat.experiments.training.run import train
from mat.experiments.tuning.search import Search
from mat.experiments.tuning.space import Space, drawn, read_tuning
from mat.records.tuning import read_log
from mat.settings.strict import validate

SCALE = {
    "scale": "small",
    "seeds": [0],
    "tasks": {
        "digits": {
            "task": {"name": "digits"},
            "model": {"name": "vgg", "plan": [4, "M", 4, "M"], "filter_groups": 2},
            "recipe": {"optimizer": "sgd", "lr": 0.05, "batch": 100, "evaluate_every": 5},
            "probe": {"n": 6},
            "tags": ["pictures"],
        },
        "hmm": {
            "task": {"name": "hmm", "length": 8, "train": 64, "validation": 16, "test": 16},
            "model": {"name": "bert", "width": 8, "heads": 2},
            "recipe": {"batch": 8},
            "probe": {"n": 8},
            "methods": ["vanilla", "mat"],
        },
        "tuned_on_hmm": {
            "task": {"name": "hmm", "length": 8, "train": 32, "validation": 16, "test": 16},
            "recipe": {"batch": 8},
            "probe": {"n": 8},
            "start": {"task": "hmm", "method": "vanilla"},
        },
    },
    "methods": {
        "vanilla": {"name": "vanilla", "observe": True},
        "mat": {"name": "mat", "alpha": 0.3},
        "random": {"name": "random", "match": "mat"},
        "freezeout": {"name": "freezeout"},
        "vanilla_best": {"tuned": "vanilla"},
        "mat_best": {"tuned": "mat", "seeds": [0]},
        "mat_best_rare": {"tuned": "mat", "probe": {"every": 9}},
        "random_best": {"tuned": "random"},
    },
}
RATES = {"low": 0.5, "high": 4, "log": True}
SPACES = {
    "seeds": [100],
    "least": 0.5,
    "methods": {
        "vanilla": {"observe": [False], "lr_factor": RATES, "recipe": {"budget": [0.5, 1]}},
        "mat": {"alpha": {"low": 0.05, "high": 0.9}, "mode": ["exact"], "probe": {"every": {"times": [0.25, 0.5]}}},
        "random": {"match": [None], "share": {"low": 0.1, "high": 0.9}, "mode": ["exact", "detach"]},
        "freezeout": {"t0": {"low": 0.2, "high": 1.0}, "probe": {"every": {"of_steps": [0.1, 0.2]}}},
        "misa": {"eta": [1, 2]},
    },
}


def placed(folder, scale=SCALE, spaces=SPACES):
    """The config and the spaces as files."""
    (folder / "small.yaml").write_text(yaml.safe_dump(scale, sort_keys=False))
    (folder / "tuning.yaml").write_text(yaml.safe_dump(spaces, sort_keys=False))
    return folder


def search(folder, only=("digits",), budget=4):
    return Search.of(read_scale(folder / "small.yaml"), read_tuning(folder / "tuning.yaml"), budget, only)


class Trainer:
    """In this process; ends like a killed one once it has trained ``left`` runs."""

    def __init__(self, folder, left=10**9):
        self.folder, self.left, self.trained = folder, left, []

    def train(self, runs):
        for wave in tune.waves(runs):
            for run, keep in wave:
                if not (self.folder / run.spec.name / "final.json").is_file():
                    if len(self.trained) == self.left:
                        raise KeyboardInterrupt
                    self.trained.append(run.spec.name)
                train(run.spec, self.folder / run.spec.name, Machine(cache=self.folder), keep=keep)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder in which the command has tuned digits, after it was killed once."""
    folder = placed(tmp_path_factory.mktemp("tuned"))
    trainers = [Trainer(folder / "runs", 5), Trainer(folder / "runs")]
    given = ["tune", "--config", str(folder / "small.yaml"), "--space", str(folder / "tuning.yaml"), "--budget", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "_served", nullcontext)
        for trainer, status in zip(trainers, (130, 0), strict=True):
            patch.setattr(tune.Trainer, "train", lambda self, runs, trainer=trainer: trainer.train(runs))
            assert (
                main([*given, "--only", "digits,mat", "--cache", str(folder), "--runs", str(folder / "runs")]) == status
            )
    assert len(trainers[0].trained) == 5 and not {*trainers[0].trained} & {*trainers[1].trained}, "nothing is lost"
    return folder


@pytest.fixture(scope="module")
def log(done):
    return pd.read_csv(done / "tuned/small.csv", keep_default_na=False)


def test_every_run_of_a_rung_spends_the_compute_of_vanillas_default(log):
    """Within a step and a probe above it; vanilla, which goes by steps, stays within it."""
    for _, rung in log.groupby("rung"):
        [most] = rung.loc[(rung["method"] == "vanilla") & (rung["configuration"] == 0), "macs"]
        step = most / round(14 * rung["share"].iloc[0])  # digits has 14 batches
        paid = rung[rung["method"] == "mat"]
        assert (paid["macs"] >= most).all() and (paid["macs"] < most + 4 * step).all()
        assert (rung.loc[rung["method"] == "vanilla", "macs"] <= most).all()


def test_every_method_has_as_many_configurations_on_the_tunings_seeds(log):
    asked = log[log["competes"]].groupby(["method", "rung"])["configuration"].nunique()
    assert asked.unstack().to_numpy().tolist() == [[4, 2]] * 2
    assert set(log["seed"]) == {100}
    best = (
        log[log["competes"] & (log["rung"] == 0)]
        .groupby("method")
        .apply(lambda one: set(one.nsmallest(2, "loss")["configuration"]))
    )
    went_on = log[log["competes"] & (log["rung"] == 1)].groupby("method")["configuration"].agg(set)
    assert went_on.to_dict() == best.to_dict()


def test_the_same_search_again_trains_nothing_and_says_the_same(done, log):
    trainer = Trainer(done / "runs")
    chosen, rows = search(done, ["digits", "mat"]).carry_out(trainer.train, done / "runs", "again")
    assert trainer.trained == []
    assert {row["run"]: row["loss"] for row in rows} == dict(zip(log["run"], log["loss"], strict=True))
    kept = read_scale(done / "small.yaml").tuned["digits"]
    assert {method: one.settings for (_, method), one in chosen.items()} == {m: one.settings for m, one in kept.items()}
    for (_, method), one in chosen.items():
        last = log[(log["method"] == method) & (log["rung"] == 1) & log["competes"]]
        assert one.loss == last["loss"].min()
        assert one.macs == log.loc[log["method"] == method, "macs"].sum()


def test_a_scale_takes_what_was_tuned_as_plain_settings_and_leaves_the_rest_out(done):
    scale = read_scale(done / "small.yaml")
    runs = {(run.task, run.method): run for run in expand(scale)}
    chosen = scale.tuned["digits"]["mat"].settings
    spec = runs["digits", "mat_best"].spec
    assert spec.method.settings.alpha == chosen["alpha"] and spec.probe.every == chosen["probe"].get("every", 14)
    assert spec.recipe.match_compute == runs["digits", "vanilla"].spec.name == runs["digits", "mat_best"].follows
    assert runs["digits", "mat_best_rare"].spec.probe.every == 9, "what a label says itself comes on top"
    assert runs["digits", "vanilla_best"].spec.recipe.budget in (0.5, 1.0)
    assert {task for task, method in runs if method.endswith("_best")} == {"digits"}
    assert scale.untuned()["tuned_on_hmm"] == ["vanilla_best", "mat_best", "mat_best_rare", "random_best"]
    assert "hmm" not in scale.untuned(), "its methods are others"
    assert scale.untuned()["digits"] == ["random_best"]
    first, second = [line for line in left_out(scale, scale.tasks) if line]
    assert first.startswith("digits: random_best left out") and "mat tune --config" in second


def test_editing_what_was_tuned_renames_the_runs_that_it_touches(done, tmp_path):
    place = placed(tmp_path)
    (place / "tuned").mkdir()
    content = yaml.safe_load((done / "tuned/small.yaml").read_text())
    names = []
    for alpha in (0.5, 0.6):
        content["tasks"]["digits"]["mat"]["settings"]["alpha"] = alpha
        (place / "tuned/small.yaml").write_text(yaml.safe_dump(content))
        names.append({(run.task, run.method): run.spec.name for run in expand(read_scale(place / "small.yaml"))})
    changed = {key for key in names[0] if names[0][key] != names[1][key]}
    assert changed == {("digits", "mat_best"), ("digits", "mat_best_rare")}


def edit(content, path, value):
    *parents, last = path
    for name in parents:
        content = content[name]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("digits", "mat", "settings", "alhpa"), 1, "methods.mat_best, as tuned for digits: unknown key 'alhpa'"),
        (("digits", "mat", "how", "budget"), 9, "digits: mat was tuned with budget 9, vanilla with 4"),
        (("digits", "mat", "loss"), "low", "tuned/small.yaml.tasks.digits.mat.loss: expected a number, got 'low'"),
        (("digits", "mat", "how", "seeds"), [0], "seed 0 is one of the scale's seeds"),
    ],
)
def test_what_was_tuned_is_read_strictly(done, tmp_path, path, value, said):
    place = placed(tmp_path)
    (place / "tuned").mkdir()
    content = yaml.safe_load((done / "tuned/small.yaml").read_text())
    if path[-1] == "seeds":
        for method in content["tasks"]["digits"].values():
            method["how"]["seeds"] = value
    edit(content["tasks"], path, value)
    (place / "tuned/small.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as error:
        expand(read_scale(place / "small.yaml"))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_method_that_is_tuned_later_must_be_tuned_alike(done):
    with pytest.raises(InputError, match=r"tuned settings of digits: mat was tuned with budget 4, .* with 6"):
        found = read_scale(done / "small.yaml").tuned
        Search.of(read_scale(done / "small.yaml"), read_tuning(done / "tuning.yaml"), 6, ["digits", "vanilla"], found)


def test_runs_that_others_start_from_are_made_on_the_tunings_seeds(tmp_path):
    found = search(placed(tmp_path), ["tuned_on_hmm", "mat"], 2)
    runs = found.runs(("tuned_on_hmm", "mat"), 1, found.rungs[0])
    assert {run.spec.seed for run in runs} == {100} and [run.task for run in runs] == ["hmm", *["tuned_on_hmm"] * 2]
    assert {run.starts_from for run in runs[1:]} == {runs[0].spec.name}
    first, *rest = tune.waves(reversed(runs))
    assert first == [(runs[0], True)] and [run.follows for run, _ in rest[1]] == [runs[1].spec.name]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("seeds",), [0, 100], "the tuning's seeds: seed 0 is one of the scale's seeds [0]"),
        (("eta",), 1, "tuning.yaml: eta: expected a number ≥ 2, got 1"),
        (("methods", "mat", "alpha"), [], "methods.mat.alpha: expected 1 at least, got []"),
        (("methods", "mat", "alpha"), 0.1, "methods.mat.alpha: expected a list of choices, a range"),
        (("methods", "mat", "alpha"), {"low": 1, "high": 0.5}, "methods.mat.alpha: expected low < high, got 1 and 0.5"),
        (("methods", "mat", "beta"), {"low": 0, "high": 1, "log": True}, "expected 0 < low < high, got 0 and 1"),
        (("methods", "mat", "alpha"), [2], "methods.mat for digits.alpha: expected a number ≤ 1, got 2"),
        (("methods", "mat", "alhpa"), [0.1], "methods.mat for digits: unknown key 'alhpa'"),
        (("methods", "mat", "mode"), {"times": [2]}, "mode: times needs a number to multiply, got None"),
        (("methods", "mat", "seeds"), [[1]], "methods.mat: seeds is not searched"),
        (("methods", "mat", "recipe"), {"evaluate_every": [1]}, "methods.mat: evaluate_every is not searched"),
        (("methods", "mat", "recipe"), {"budget": [0.5]}, "a run has budget, a share of its steps, or match_compute"),
        (("methods", "vanilla", "recipe"), {"epochs": [9]}, "methods.vanilla for digits: expected at most the"),
        (("methods", "vanilla"), {"lr_factor": [1, 2]}, "expected a space of 4 configurations, found 2 in it"),
        (("methods",), {"mat": {"alpha": [1]}}, "expected vanilla among the scale's methods and the spaces"),
    ],
)
def test_spaces_that_cannot_be_used_are_refused_before_anything_is_trained(tmp_path, path, value, said):
    spaces = copy.deepcopy(SPACES)
    edit(spaces, path, value)
    with pytest.raises(InputError) as error:
        search(placed(tmp_path, spaces=spaces))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_method_that_follows_another_run_has_no_default_and_spends_by_itself(tmp_path):
    found = search(placed(tmp_path), ["digits", "random"])
    specs = [run.spec for i in range(4) for run in found.runs(("digits", "random"), i, found.rungs[1])]
    own = [spec for spec in specs if spec.method.name == "random"]
    assert len({spec.name for spec in own}) == 4 and all(spec.method.settings.match is None for spec in own)
    assert {spec.recipe.match_compute for spec in own} == {spec.name for spec in specs} - {spec.name for spec in own}


def test_a_term_that_names_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to be tuned is called 'mat_best'; tasks: digits"):
        search(placed(tmp_path), ["mat_best"])


@given(st.integers(0, 99), st.floats(-5, 5), st.floats(0.01, 9), st.integers(-9, 9), st.integers(1, 9))
def test_draws_lie_in_their_ranges_are_the_same_for_a_seed_and_begin_with_the_default(seed, low, width, whole, more):
    space = validate(
        Space,
        {
            "a": {"low": low, "high": low + width},
            "b": {"low": width, "high": 3 * width, "log": True},
            "c": {"low": whole, "high": whole + more},
            "probe": {"d": ["x"], "e": {"of_steps": [0.5, 1]}},
        },
    )
    stream, again = (drawn(space, "mat", seed, True) for _ in range(2))
    first = next(stream)
    assert [(one.place, one.value) for one in first] == [(("probe", "d"), "x")] and next(again) == first
    for one, same in zip([next(stream) for _ in range(5)], again, strict=False):
        assert one == same
        value = {".".join(setting.place): setting.value for setting in one}
        assert low <= value["a"] <= low + width and width <= value["b"] <= 3 * width
        assert whole <= value["c"] <= whole + more and isinstance(value["c"], int)


def test_the_table_says_what_tuning_cost_and_chose(done, log):
    frame = evidence.tuning(read_log(done / "tuned/small.csv")).set_index("method")
    assert frame.loc["mat", "macs"] == log.loc[log["method"] == "mat", "macs"].sum()
    [whole] = log.loc[(log["method"] == "vanilla") & (log["configuration"] == 0) & (log["share"] == 1), "macs"]
    assert frame.loc["mat", "trainings"] == pytest.approx(frame.loc["mat", "macs"] / whole)
    kept = read_scale(done / "small.yaml").tuned["digits"]
    for method, one in kept.items():
        assert json.loads(frame.loc[method, "settings"]) == one.settings
        assert frame.loc[method, "best_validation_loss"] == one.loss and frame.loc[method, "configurations"] == 4
    page = evidence.markdown(frame.reset_index())
    assert "## digits, small VGG (`digits`)" in page and "| MAT | 4 | 100 | 6 |" in page
    assert np.isfinite(frame["trainings"]).all()


def test_what_was_tuned_in_the_repository_is_run_with_it():
    labels = {run.method: run.spec for run in expand(read_scale("subset")) if run.task == "experts_converged"}
    assert labels["mat_best"].method != labels["mat"].method
    assert labels["vanilla_best"].recipe.budget == 0.75
