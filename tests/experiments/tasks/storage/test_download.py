"""Downloading, with the hub's client replaced by copies of made files: pinned, checked, gone on with, kept."""

from __future__ import annotations

import fnmatch
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mat.errors import InputError
from mat.experiments.cli.main import main
from mat.experiments.tasks import cifar, cifar10, cifar100
from mat.experiments.tasks.storage.hub import fetch, hub_file, load_split
from mat.experiments.tasks.storage.mirror import PlainFile

ROWS = {"train": 80, "test": 20}
ORIGIN = replace(cifar10.ORIGIN, rows=ROWS)
VOCABULARY = PlainFile("google-bert/bert-base-uncased", "vocab.txt", "8" * 40)


@pytest.fixture
def hub(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A hub that has the made mirror's files, one by one. ``asked``: what it was asked for; ``fail_after``: so many
    files, then no connection, once; ``damage``: a function of each file that has been copied."""
    served = tmp_path / "served"
    shutil.copytree(mirror / "uoft-cs", served / "uoft-cs")
    folder = served / VOCABULARY.repo
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("[PAD]\nthe\n")
    (folder / "weights.bin").write_text("large")
    state = SimpleNamespace(root=served, asked=[], copied=[], fail_after=None, damage=lambda path: None)

    def snapshot_download(repo_id: str, *, repo_type, revision, allow_patterns, local_dir) -> str:
        state.asked.append((repo_id, repo_type, revision, tuple(allow_patterns)))
        for path in sorted((served / repo_id).rglob("*")):
            name = path.relative_to(served / repo_id).as_posix()
            target = Path(local_dir) / name
            wanted = any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            if not path.is_file() or not wanted or target.exists():  # as the client: whole files are kept
                continue
            if state.fail_after is not None and len(state.copied) >= state.fail_after:
                state.fail_after = None
                raise ConnectionError("the line was\ncut")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            state.copied.append(name)
            state.damage(target)
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return state


def test_the_pinned_revision_is_asked_for_once(hub, tmp_path: Path) -> None:
    rows = load_split(ORIGIN, "test", None, tmp_path / "cache")
    assert len(rows) == 20
    assert len(load_split(ORIGIN, "train", None, tmp_path / "cache")) == 80
    fetch(ORIGIN, None, tmp_path / "cache")
    assert hub.asked == [("uoft-cs/cifar10", "dataset", ORIGIN.revision, ("plain_text/*",))]


def test_the_hub_and_a_mirror_give_the_same_task(hub, mirror: Path, tmp_path: Path) -> None:
    images = replace(cifar10.IMAGES, origin=ORIGIN)
    settings = cifar10.Settings(validation_examples=20)
    ours = cifar.load(images, settings, None, tmp_path / "one")
    theirs = cifar.load(images, settings, mirror, tmp_path / "two")
    assert ours.data_hash == theirs.data_hash
    assert ours.sizes == cifar.outline(images, settings).sizes


def test_what_is_fetched_is_said(hub, mirror: Path, tmp_path: Path) -> None:
    found = fetch(ORIGIN, None, tmp_path)
    assert found.pop("from") == "hub"
    assert (found["rows"], found["official_rows"], found["complete"]) == (ROWS, ROWS, True)
    names = [file["name"] for file in found["files"]]
    assert names == [f"uoft-cs/cifar10/plain_text/{split}-00000-of-00001.parquet" for split in ROWS]
    assert [file["rows"] for file in found["files"]] == [80, 20]
    assert [file["bytes"] for file in found["files"]] == [(mirror / name).stat().st_size for name in names]
    assert all(len(bytes.fromhex(file["sha256"])) == 32 for file in found["files"])
    same = fetch(ORIGIN, mirror, tmp_path)
    assert same.pop("from") == "mirror"
    assert same == found


def test_a_mirror_may_hold_a_part(mirror: Path, tmp_path: Path) -> None:
    found = fetch(cifar10.ORIGIN, mirror, tmp_path)
    assert (found["rows"], found["complete"]) == (ROWS, False)
    assert found["official_rows"] == {"train": 50_000, "test": 10_000}
    assert fetch(replace(ORIGIN, rows={}), mirror, tmp_path)["complete"] is None


def test_from_the_hub_all_rows_must_come(hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"50000.*plain_text of uoft-cs/cifar10.*'train': 80.*removed"):
        load_split(cifar10.ORIGIN, "test", None, tmp_path)
    assert not list(tmp_path.rglob("cache/**/*.parquet"))


def test_an_interrupted_download_goes_on(hub, tmp_path: Path) -> None:
    hub.fail_after = 1
    with pytest.raises(InputError, match=r"uoft-cs/cifar10 at revision.*line was cut.*ask again.*'data'"):
        fetch(ORIGIN, None, tmp_path / "cache")
    assert len(hub.copied) == 1
    assert fetch(ORIGIN, None, tmp_path / "cache")["complete"]
    assert len(hub.copied) == len(set(hub.copied)) == 2


def test_a_truncated_file_is_named_and_comes_anew(hub, tmp_path: Path) -> None:
    def truncate(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-100])

    hub.damage = truncate
    with pytest.raises(InputError, match=r"complete Parquet file at .*train-00000-of-00001\.parquet.*removed"):
        fetch(ORIGIN, None, tmp_path / "cache")
    hub.damage = lambda path: None
    assert fetch(ORIGIN, None, tmp_path / "cache")["complete"]


def test_a_file_that_is_gone_from_the_cache_comes_anew(hub, tmp_path: Path) -> None:
    fetch(ORIGIN, None, tmp_path / "cache")
    (gone,) = (tmp_path / "cache").rglob("test-*.parquet")
    gone.unlink()
    assert len(load_split(ORIGIN, "test", None, tmp_path / "cache")) == 20
    assert len(hub.asked) == 2


def test_a_split_that_the_hub_lacks_is_named(hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"validation-\*\.parquet"):
        fetch(replace(ORIGIN, rows={**ROWS, "validation": 3}), None, tmp_path / "cache")


def test_configurations_of_one_repository_are_kept_apart(hub, tmp_path: Path) -> None:
    shutil.copytree(hub.root / "uoft-cs/cifar10/plain_text", hub.root / "uoft-cs/cifar10/other")
    for config in ("plain_text", "other"):
        assert len(load_split(replace(ORIGIN, part=config), "test", None, tmp_path / "cache")) == 20
    assert [patterns for *_, patterns in hub.asked] == [("plain_text/*",), ("other/*",)]


def test_a_single_file_of_a_model(hub, tmp_path: Path) -> None:
    path = hub_file(VOCABULARY, None, tmp_path / "cache")
    assert path.read_text() == "[PAD]\nthe\n"
    assert hub_file(VOCABULARY, None, tmp_path / "cache") == path
    assert hub.asked == [(VOCABULARY.repo, "model", VOCABULARY.revision, ("vocab.txt",))]
    assert not list((tmp_path / "cache").rglob("weights.bin"))
    assert hub_file(VOCABULARY, hub.root, tmp_path / "cache") == hub.root / VOCABULARY.repo / "vocab.txt"
    found = fetch(VOCABULARY, None, tmp_path / "cache")
    assert (found["files"][0]["bytes"], found["complete"]) == (10, True)
    gone = replace(VOCABULARY, part="missing.txt")
    with pytest.raises(InputError, match=r"missing\.txt.*'data'"):
        hub_file(gone, hub.root, tmp_path / "cache")
    with pytest.raises(InputError, match=r"missing\.txt"):
        hub_file(gone, None, tmp_path / "cache")


def test_a_mirror_that_is_given_is_never_completed_from_the_hub(hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Expected a folder at"):
        load_split(ORIGIN, "test", tmp_path / "nowhere", tmp_path / "cache")
    assert hub.asked == []


def spec(task: str) -> str:
    return json.dumps({"task": {"name": task}, "model": {"name": "vgg"}, "method": {"name": "vanilla"}})


def test_the_command_writes_what_there_is(mirror: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "fetched.json"
    given = ["--data", str(mirror), "--cache", str(tmp_path / "cache"), "--out", str(out)]
    assert main(["step", "fetch", "--spec", spec("cifar100"), *given]) == 0
    (found,) = json.loads(out.read_text())
    assert (found["repo"], found["rows"]) == (cifar100.ORIGIN.repo, {"train": 130, "test": 20})
    assert main(["step", "fetch", "--spec", spec("digits"), *given]) == 0
    assert json.loads(out.read_text()) == []


def test_the_command_fails_in_one_line(hub, tmp_path: Path, monkeypatch, capsys) -> None:
    hub.fail_after = 0
    given = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out.json")]
    monkeypatch.delenv("MAT_DATA", raising=False)
    assert main(["step", "fetch", "--spec", spec("cifar10"), *given]) == 2
    assert "the line was cut" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
