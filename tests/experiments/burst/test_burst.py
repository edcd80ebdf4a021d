"""A burst as it is used: packed here, unpacked and run where packages and data are missing, gone on with later."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mat.errors import InputError
from mat.experiments.burst import beside, burst, pack, plan
from mat.experiments.cli.main import main
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.training.machine import HERE, Machine
from mat.experiments.training.run import train
from mat.records.files import CURVE, PROBES, read_whole
from mat.records.run import FILES, read_run
from tests.experiments.burst.test_plan import RUNS, TINY
from tests.experiments.tasks.made_text import write_text

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("packed")
    for seed, (split, lines) in enumerate((("train", 200), ("validation", 60), ("test", 60))):
        write_text(place / "data/Salesforce/wikitext/wikitext-2-v1", split, lines, seed)
    given = ["--config", str(TINY), "--task", "text", "--data", str(place / "data"), "--cache", str(place / "cache")]
    (place / "wheels").mkdir()
    with zipfile.ZipFile(place / "wheels/a.whl", "w") as wheel:
        wheel.writestr("compiled.so", "bytes")
    assert main(["burst", "--pack", str(place / "burst.zip"), "--wheels", str(place / "wheels"), *given]) == 0
    assert (place / "burst.zip").stat().st_size < pack.LARGEST
    with zipfile.ZipFile(place / "burst.zip") as archive:
        archive.extractall(place / "burst")
    return place


def away(unpacked: Path, *given: str) -> str:
    """What a burst says on a machine that has neither data nor all packages."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAT_", "PYTHON"))}
    start = [sys.executable, "-m", "tests.experiments.burst.elsewhere", "burst"]
    where = ["--config", "tests/experiments/burst/tiny.yaml", "--task", "text", "--device", "cpu"]
    ended = subprocess.run(
        [*start, *where, *given], cwd=unpacked / "burst", env=plain, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def test_what_is_packed_runs_elsewhere_on_the_same_data(unpacked):
    out, kept = unpacked / "out", unpacked / "kept"
    runs = plan.chosen(expand(read_scale(TINY)), "text")
    said = away(unpacked, "--only", "train", "--minutes", "10", "--out", str(out), "--kept", str(kept))
    assert "2 of 2 runs are finished" in said
    about = json.loads((out / burst.SUMMARY).read_text())
    assert about["finished"] == [run.spec.name for run in runs] and about["hardware"]["device"] == "cpu"
    with zipfile.ZipFile(out / burst.ARCHIVE) as archive:
        assert {f"tiny/runs/{run.spec.name}/{name}" for run in runs for name in FILES} <= set(archive.namelist())
    assert sum(path.stat().st_size for path in out.iterdir()) < 10**6
    one = runs[0]
    train(one.spec, unpacked / "here", Machine(unpacked / "data", unpacked / "cache"))
    here, there = read_run(unpacked / "here"), read_run(kept / one.spec.name)
    assert all(here.run[key] == there.run[key] for key in ("name", "data_hash", "code_hash", "sizes", "modules"))
    for name in (CURVE, PROBES):
        ours, theirs = (read_whole(place / name) for place in (unpacked / "here", kept / one.spec.name))
        plain = [column for column in ours if not column.startswith("seconds")]
        assert ours[plain].equals(theirs[plain])


def test_tests_run_from_the_pack_and_say_how_they_ended(unpacked, monkeypatch):
    """Beside the pack's own, which wait for torch."""
    root, carried, log = unpacked / "burst", unpacked / "burst" / pack.CARRIED, unpacked / "log.txt"
    assert all((root / name).is_file() for name in (*beside.TESTS, "tests/conftest.py", "tests/benchmarks/sparse.py"))
    (root / "test_here.py").write_text("def test_on_cuda():\n    pass\n\n\ndef test_on_cpu():\n    assert False\n")
    monkeypatch.setattr(beside, "TESTS", ("test_here.py",))
    ended = beside.tests(root, carried, log, 300)
    assert ended.startswith("ended with 0: 1 passed, 1 deselected")
    assert "is its share of the time" in beside.tests(root, carried, log, 1e-3)


def test_the_benchmark_takes_what_it_is_called_with_and_its_numbers_are_read(tmp_path, monkeypatch):
    """In this process, which has imported what it needs."""

    def here(root, carried, log, seconds, what):
        monkeypatch.setattr(sys, "argv", [*what])
        runpy.run_module(what[0], run_name="__main__")
        return "ended with 0"

    monkeypatch.setattr(beside, "_run", here)
    made = tmp_path / "numbers.json"
    beside.benchmark(ROOT, ROOT, tmp_path / "log.txt", 300, "cpu", made)
    (found,) = beside.of_benchmark(made)
    assert found["dense_macs"] > 0 and found["dense_seconds"] > 0
    assert {(one["mode"], one["share"]) for one in found["sparse"]} >= {("detach", 1.0), ("exact", 0.1)}


def test_what_goes_wrong_in_a_run_leaves_a_summary(tmp_path, monkeypatch):
    def broken(*given, **more):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(burst, "train", broken)
    whole = burst.Burst(60, tmp_path / "out", tmp_path / "kept", ROOT, ROOT, HERE, lambda line: None, print)
    with pytest.raises(RuntimeError, match="out of memory"):
        whole.carry_out(plan.chosen(RUNS, "noise"), ["train"])
    assert json.loads((tmp_path / "out" / burst.SUMMARY).read_text())["finished"] == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--minutes", "1"], "give --minutes and --out, or --pack FILE"),
        (["--only", "tests,dance"], "--only: expected some of tests,benchmark,train, got 'dance'"),
        (["--task", "nothing"], "no run of 'nothing'"),
        (["--minutes", "0"], "0"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(capsys, given, message):
    assert main(["burst", "--config", str(TINY), "--task", "noise", *given]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_what_cannot_be_packed_is_named(tmp_path):
    runs = plan.chosen(RUNS, "noise")
    with pytest.raises(InputError, match="pack from a checkout"):
        pack.pack(runs, HERE, tmp_path, tmp_path / "a.zip")
    (tmp_path / "a.whl").write_text("no")
    with pytest.raises(InputError, match=r"a\.whl is no wheel"):
        pack.pack(runs, HERE, ROOT, tmp_path / "a.zip", tmp_path)
    assert not (tmp_path / "a.zip").exists()


def test_wheels_are_carried_along_and_nothing_that_is_made(unpacked):
    assert (unpacked / "burst/carried/compiled.so").read_text() == "bytes"
    with zipfile.ZipFile(unpacked / "burst.zip") as archive:
        names = archive.namelist()
    assert len(names) == len(set(names)) and not [name for name in names if "__pycache__" in name or ".git" in name]
