"""The command line through real processes: help, one run, resuming after a kill, and bad input."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from mat.experiments.cli.main import main

SPEC = {
    "task": {"name": "digits"},
    "model": {"name": "vgg", "plan": [4, "M", 4, "M"], "filter_groups": 2},
    "method": {"name": "mat"},
    "recipe": {"optimizer": "sgd", "lr": 0.05, "batch": 100, "epochs": 4, "evaluate_every": 10},
    "probe": {"n": 8},
}


def command(*args):
    return [sys.executable, "-m", "mat", *map(str, args)]


def mat(*args, **environment):
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=120, env=env)


def test_help_names_every_command():
    text = mat("--help").stdout
    for name in (
        "train",
        "list",
        "show",
        "collect",
        "agreement",
        "agreement-table",
        "branches",
        "branches-table",
        "ceiling",
        "plan",
        "results",
        "sanity",
        "scores",
        "controls",
        "rivals",
        "learning-rate",
        "wall-clock",
        "sensitivity",
        "verdicts",
        "examples:",
    ):
        assert name in text


def test_list_shows_what_there_is_with_its_settings():
    text = mat("list").stdout
    for name in (
        "digits",
        "hmm",
        "cifar10",
        "wikitext",
        "vgg",
        "bert",
        "switch",
        "vanilla",
        "multirate",
        "method.alpha = 0.1",
    ):
        assert name in text


def test_a_killed_run_resumes_to_the_same_numbers(tmp_path):
    spec = json.dumps(SPEC)
    process = subprocess.Popen(
        command("train", "--spec", spec, "--out", tmp_path / "a", "--save-every", 0), stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob(".state/*.pt")):
        assert process.poll() is None, "it ended before a state was saved"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "a/final.json").exists()
    for name in "ab":
        done = mat("train", "--spec", spec, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    a, b = (pd.read_parquet(tmp_path / name / "curve.parquet") for name in "ab")
    clocks = [c for c in a if c.startswith("seconds")]
    pd.testing.assert_frame_equal(a.drop(columns=clocks), b.drop(columns=clocks), check_exact=True)
    shown = mat("show", tmp_path / "a").stdout
    assert "digits-vgg-mat-s0" in shown
    assert "finished" in shown


def test_flags_make_the_same_run_as_a_specification(tmp_path):
    from mat.experiments.config.spec import Spec

    path = tmp_path / "spec.json"
    path.write_text(json.dumps({**SPEC, "recipe": {**SPEC["recipe"], "epochs": 1}, "seed": 3}))
    given = ["--seed", 3]
    for block in ("model", "recipe", "probe"):
        for key, value in SPEC[block].items():
            if key != "name":
                given += ["--set", f"{block}.{key}={json.dumps(value)}"]
    given += ["--set", "recipe.epochs=1"]
    flags = ["--task", "digits", "--model", "vgg", "--method", "mat"]
    one, two = (tmp_path / name for name in ("one", "two"))
    assert mat("train", "--spec", path, "--out", one).returncode == 0
    assert mat("train", *flags, *given, "--out", two).returncode == 0
    names = {json.loads((folder / "run.json").read_text())["name"] for folder in (one, two)}
    assert names == {Spec.of(json.loads(path.read_text())).name}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--spec", "{", "--out", "x"], "--spec is not JSON"),
        (["train", "--spec", "nowhere.json", "--out", "x"], "cannot read nowhere.json"),
        (["train", "--out", "x"], "needs task, model and method; 'task' is missing"),
        (["train", "--task", "mnist", "--out", "x"], "is missing"),
        (["train", "--spec", json.dumps({**SPEC, "sead": 1}), "--out", "x"], "unknown key 'sead'"),
        (
            ["train", "--spec", json.dumps(SPEC), "--set", "alpha=1", "--out", "x"],
            "--set expects BLOCK.KEY=VALUE",
        ),
        (
            ["train", "--spec", json.dumps(SPEC), "--set", "method.alpha=2", "--out", "x"],
            "alpha must be in (0, 1]",
        ),
        (["train", "--spec", json.dumps(SPEC), "--seed", "-1", "--out", "x"], "seed must be a whole number"),
        (
            ["train", "--spec", json.dumps(SPEC), "--data", "nowhere", "--out", "x"],
            "data folder nowhere does not exist",
        ),
        (
            [
                "prepare",
                "--spec",
                json.dumps({**SPEC, "task": {"name": "cifar10"}}),
                "--data",
                ".",
                "--out",
                "x",
            ],
            "MAT_DATA",
        ),
        (["prepare", "--spec", json.dumps({**SPEC, "probe": {"n": 5000}}), "--out", "x"], "probe size"),
        (["prepare", "--spec", "[]", "--out", "x"], "cannot read []"),
        (
            ["train", "--spec", '{"task": "digits"}', "--set", "task.shift=0", "--out", "x"],
            "task must be a mapping",
        ),
        (["show", "nowhere"], "nowhere"),
        (["collect", "nowhere", "--tables", "t"], "nowhere"),
        (["agreement-table", "nowhere", "--tables", "t", "--claims", "c"], "c, found none"),
        (["branches-table", "nowhere", "--tables", "t"], "nowhere is not a readable Parquet file"),
    ],
)
def test_bad_input_is_one_line(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAT_DATA", raising=False)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("mat: error: ")
    assert not (tmp_path / "x").exists()


def test_the_process_exits_with_2_on_bad_input(tmp_path):
    done = mat("show", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
