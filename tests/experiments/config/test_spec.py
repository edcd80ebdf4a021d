"""Specifications and configs: names, round trips, and one clear error for everything that cannot be used."""

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments.config import runs
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.config.spec import Spec

CONFIG = {
    "scale": "mini",
    "seeds": [0, 1],
    "tasks": {
        "digits": {"task": {"name": "digits"}, "model": {"name": "vgg"}, "recipe": {"epochs": 2}},
        "hmm": {"task": {"name": "hmm"}, "model": {"name": "bert"}, "probe": {"n": 8}},
    },
    "methods": {"random": {"name": "random", "match": "mat"}, "vanilla": {"name": "vanilla"}, "mat": {"name": "mat"}},
}


def expand(config):
    return runs.expand(ScaleConfig.of(config))


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    block = config
    *parents, last = path.split(".")
    for name in parents:
        block = block[name]
    if value is None:
        del block[last]
    else:
        block[last] = value
    return config


def test_a_config_expands_to_every_combination():
    runs = expand(CONFIG)
    assert len({run.spec.name for run in runs}) == len(runs) == 2 * 3 * 2
    assert {(r.task, r.method, r.spec.seed) for r in runs} == {
        (t, m, s) for t in ("digits", "hmm") for m in ("vanilla", "mat", "random") for s in (0, 1)
    }


def test_random_follows_the_run_of_the_same_task_and_seed():
    runs = {run.spec.name: run for run in expand(CONFIG)}
    for run in runs.values():
        if run.method == "random":
            other = runs[run.follows]
            assert (other.method, other.task, other.spec.seed) == ("mat", run.task, run.spec.seed)


def test_a_method_follows_the_run_whose_compute_it_is_given_and_nothing_off_names_a_run():
    config = copy.deepcopy(CONFIG)
    config["methods"]["short"] = {"name": "random", "match": "mat", "recipe": {"match_compute": "mat"}}
    config["methods"]["equal"] = {"name": "vanilla", "recipe": {"match_compute": "mat"}}
    runs = {run.spec.name: run for run in expand(config)}
    for run in (run for run in runs.values() if run.method in ("short", "equal")):
        other = runs[run.follows]
        assert (other.method, other.task, other.spec.seed) == ("mat", run.task, run.spec.seed)
        assert (
            run.spec.recipe.match_compute
            == other.spec.name
            == (run.spec.follows if run.method == "equal" else other.spec.name)
        )
        assert Spec.of(json.loads(run.spec.json)) == run.spec
        assert not {"budget", "match_compute"} & set(other.spec.identity["recipe"])


START = {
    "cola": {
        "task": {"name": "hmm", "train": 64},
        "start": {"task": "hmm", "method": "mat"},
        "methods": ["vanilla"],
        "tags": ["glue"],
    }
}


def test_a_task_starts_from_the_run_of_another_with_the_same_seed_and_has_its_model():
    runs = expand({**CONFIG, "tasks": {**START, **CONFIG["tasks"]}})  # whatever the order in the config
    started = [run for run in runs if run.task == "cola"]
    assert [(run.method, run.spec.seed, run.tags) for run in started] == [
        ("vanilla", seed, ("glue",)) for seed in CONFIG["seeds"]
    ]
    for run in started:
        earlier = next(other for other in runs if other.spec.name == run.starts_from)
        assert (earlier.task, earlier.method, earlier.spec.seed) == ("hmm", "mat", run.spec.seed)
        assert run.spec.model == earlier.spec.model
        assert runs.index(earlier) < runs.index(run)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            {"task": "wikitext", "method": "mat"},
            r"tasks\.cola\.start: expected one of cola, digits, hmm, got 'wikitext'",
        ),
        ({"task": "cola", "method": "mat"}, r"tasks\.cola\.start leads back to itself over cola"),
        (
            {"task": "hmm", "method": "adam"},
            r"start: expected a method that hmm is trained by .*one of vanilla, mat, random, got 'adam'",
        ),
        ({"task": "digits", "method": "mat"}, r"only runs of the model bert can be started from, digits trains vgg"),
        (
            {"hub": "google-bert/bert-base-uncased"},
            r"start: expected task and method .*, or hub and revision .*, got hub",
        ),
        ({"hub": "google-bert/bert-base-uncased", "revision": "main"}, r"revision must be a commit"),
        ({"task": ["hmm"], "method": "mat"}, r"start\.task: expected a text, got \['hmm'\]"),
        ({"task": "hmm", "method": ["mat"]}, r"start\.method: expected a text"),
        ([], r"start: expected a mapping"),
        ({}, r"start: expected task and method .*, got nothing"),
        ({"run": "hmm-bert"}, r"tasks\.cola\.start: unknown key 'run'; known: task, method"),
    ],
)
def test_bad_starts_are_refused(start, message):
    tasks = {"cola": {**START["cola"], "start": start, "model": {"name": "bert"}}, **CONFIG["tasks"]}
    with pytest.raises(InputError, match=message):
        expand({**CONFIG, "tasks": tasks})


@given(
    seed=st.integers(0, 10**6),
    alpha=st.floats(0.001, 1),
    lr=st.floats(1e-5, 1),
    n=st.integers(2, 256),
    method=st.sampled_from(["mat", "vanilla", "multirate"]),
)
def test_a_specification_survives_json_and_names_itself(seed, alpha, lr, n, method):
    settings = {"alpha": alpha} if method == "mat" else {}
    made = Spec.of(
        {
            "task": {"name": "digits"},
            "model": {"name": "vgg"},
            "method": {"name": method, **settings},
            "recipe": {"lr": lr},
            "probe": {"n": n},
            "seed": seed,
        }
    )
    again = Spec.of(json.loads(made.json))
    assert again == made
    assert again.name == made.name
    assert Spec.of({**json.loads(made.json), "seed": seed + 1}).name != made.name
    assert made.method.settings == again.method.settings


def test_a_name_stays_as_it_is():
    """A new name would leave every run that there is behind: it is changed on purpose or not at all."""
    given = {"task": {"name": "digits"}, "model": {"name": "vgg"}, "method": {"name": "mat"}, "seed": 3}
    made = Spec.of({**given, "recipe": {"epochs": 2}, "probe": {"n": 8, "directions": 2}})
    assert made.name == "digits-vgg-mat-s3-7585d5caff19"


def test_a_setting_that_is_none_names_nothing():
    def named(**probe):
        given = {"task": {"name": "digits"}, "model": {"name": "vgg"}, "method": {"name": "mat"}, "probe": probe}
        return Spec.of(given)

    plain, budgeted = named(), named(budget=0.1)
    assert json.loads(plain.json)["probe"]["budget"] is None
    assert "budget" not in plain.identity["probe"] and "start" not in plain.identity
    assert budgeted.identity["probe"] == {**plain.identity["probe"], "budget": 0.1}
    assert budgeted.name != plain.name


def test_a_default_that_is_written_out_is_the_same_run():
    short = expand(CONFIG)
    long = expand(changed("methods.mat", {"name": "mat", "alpha": 0.1, "beta": 1e-3, "mode": "detach"}))
    assert [r.spec.name for r in short] == [r.spec.name for r in long]


def _matched(name, other, **settings):
    return {"name": name, **settings, "recipe": {"match_compute": other}}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sacle", "demo", "unknown key 'sacle'; known: scale, seeds"),
        ("seeds", [], "seeds: expected 1 at least"),
        ("seeds", [0, 0], "seeds: expected different ones"),
        ("seeds", [-1], "seeds.0: expected a number ≥ 0, got -1"),
        ("seeds", 3, "seeds: expected a list, got 3"),
        ("threads", -1, "threads: expected a number ≥ 1, got -1"),
        ("methods", {}, "methods: expected 1 at least"),
        ("tasks", None, "'tasks' is missing"),
        ("tasks", ["digits"], "tasks: expected a mapping"),
        ("methods", ["mat"], "methods: expected a mapping"),
        ("tasks.digits.tsak", {}, "tasks.digits: unknown key 'tsak'; known: task"),
        ("tasks.digits.task", {"name": "mnist"}, "unknown task 'mnist'; known: acceptability, cifar10"),
        ("tasks.digits.task", {"name": "digits", "size": 3}, "task: unknown key 'size'; known: shift, label_noise"),
        ("tasks.digits.model", {"name": "alexnet"}, "unknown model 'alexnet'; known: bert, resnet, switch"),
        ("tasks.digits.model", {"name": "vgg", "plan": ["M"]}, "plan must hold widths"),
        ("tasks.digits.model", {"name": "vgg", "filter_groups": 3}, "does not divide the width 16"),
        ("tasks.hmm.model", {"name": "bert", "heads": 5}, "a width that heads divide"),
        ("tasks.digits.recipe", {"lr": -1.0}, "digits.recipe.lr: expected a number > 0, got -1.0"),
        ("tasks.digits.recipe", {"epochs": 0}, "recipe.epochs: expected a number ≥ 1, got 0"),
        ("tasks.digits.recipe", {"optimizer": "lion"}, "optimizer: expected 'adamw' or 'sgd', got 'lion'"),
        ("tasks.digits.recipe", {"learning_rate": 1}, "recipe: unknown key 'learning_rate'; known: optimizer, lr"),
        ("tasks.hmm.probe", {"n": 1}, "hmm.probe.n: expected a number ≥ 2, got 1"),
        ("tasks.hmm.probe", {"positions": -1}, "positions: expected a number ≥ 0"),
        ("tasks.hmm.probe", {"estimator": "trace", "positions": 2}, "'trace' is of all positions, got positions = 2"),
        ("tasks.hmm.probe", {"estimator": "step", "positions": 2}, "'step' is of all positions, got positions = 2"),
        ("tasks.hmm.probe", {"estimator": "exact"}, "estimator: expected 'sum_of_logits', 'projected'"),
        ("methods.mat", {"name": "mat", "alpha": 1.2}, r"methods\.mat\.alpha: expected a number ≤ 1, got 1\.2"),
        ("methods.mat", {"name": "adamat"}, "unknown method 'adamat'"),
        ("methods.mat", "mat", "methods.mat: expected a mapping"),
        ("methods.random", {"name": "random", "match": "mta"}, "must be one of vanilla, mat"),
        ("methods.again", {"name": "mat"}, "repeats another entry"),
        ("methods.again", {"name": "mat", "probe": {"n": 1}}, "methods.again.probe.n: expected a number ≥ 2"),
        ("methods.again", {"name": "mat", "recipe": "lr"}, "methods.again.recipe: expected a mapping"),
        ("methods.again", {"name": "mat", "lr_factor": 0}, "lr_factor: expected a number > 0, got 0"),
        ("tasks.hmm.methods", ["adam"], r"tasks\.hmm\.methods: expected some of random, vanilla, mat, got 'adam'"),
        ("tasks.hmm.tags", "text", r"tasks\.hmm\.tags: expected a list"),
        ("tasks.hmm.tags", ["mat"], r"tasks\.hmm\.tags: mat is the label of a method"),
        ("tasks.hmm.methods", [], r"tasks\.hmm\.methods: expected 1 at least"),
        ("tasks.a/b", {}, r"tasks\.a/b: expected a name that matches .*, got 'a/b'"),
        ("tasks.hmm.recipe", ["lr"], r"recipe: expected a mapping, got \['lr'\]"),
        ("tasks.hmm.recipe", {"budget": 0}, r"recipe.budget: expected a number > 0, got 0"),
        ("tasks.hmm.recipe", {"budget": 0.5, "match_compute": "mat"}, "recipe: a run has budget, .* give one of them"),
        (
            "tasks.hmm.recipe",
            {"match_compute": "mat"},
            "match_compute 'mat' cannot be: random .* another|must be one of none",
        ),
        ("methods.again", _matched("vanilla", "mta"), r"methods.again: .* must be one of vanilla, mat, got 'mta'"),
        ("methods.again", _matched("vanilla", "random"), "must be one of vanilla, mat, got 'random'"),
        (
            "methods.again",
            _matched("random", "vanilla", match="mat"),
            "'vanilla' cannot be: random matches another run",
        ),
        (
            "methods.again",
            _matched("early_stop", "mat", match="mat"),
            "early_stop matches the compute of a run by itself",
        ),
        ("methods.again", _matched("freezeout", "mat"), "freezeout must know the number of its steps"),
        ("tasks.hmm.recipe", {"nudge": 1e-9}, "nudge: expected a number ≥ 1e-07"),
        ("tasks.hmm.recipe", {"nudge": 1e-7, "precision": "bfloat16"}, "nudge: bfloat16 rounds it away"),
        ("tasks.hmm.recipe", {"precision": "half"}, "precision: expected 'float32' or 'bfloat16', got 'half'"),
    ],
)
def test_bad_configs_are_refused(path, value, message):
    with pytest.raises(InputError, match=message):
        expand(changed(path, value))


def test_a_method_changes_the_settings_of_its_task():
    config = changed("methods.again", {"name": "mat", "lr_factor": 2, "probe": {"n": 4}, "recipe": {"batch": 7}})
    runs = {(run.task, run.method): run.spec for run in expand(config)}
    plain, other = runs["digits", "mat"], runs["digits", "again"]
    assert other.recipe == replace(plain.recipe, lr=2 * plain.recipe.lr, batch=7)
    assert other.probe == replace(plain.probe, n=4)
    assert (other.task, other.model, other.method) == (plain.task, plain.model, plain.method)


def test_tasks_and_methods_may_be_run_with_some_of_the_seeds():
    config = {**CONFIG, "seeds": [0, 1, 2, 3]}
    config["methods"] = {**config["methods"], "again": {"name": "mat", "alpha": 0.5, "seeds": [0, 2, 9]}}
    config["tasks"] = {**config["tasks"], "hmm": {**config["tasks"]["hmm"], "seeds": [1, 2]}}
    found = {}
    for run in expand(config):
        found.setdefault((run.task, run.method), []).append(run.spec.seed)
    assert found["digits", "mat"] == [0, 1, 2, 3] and found["digits", "again"] == [0, 2]
    assert found["hmm", "mat"] == [1, 2] and found["hmm", "again"] == [2]
    config["methods"]["mat"] = {**config["methods"]["mat"], "seeds": [0]}
    with pytest.raises(InputError, match=r"methods.random: .* must be one of .*, got 'mat'"):
        expand(config)  # the run that it follows is not there for every seed
