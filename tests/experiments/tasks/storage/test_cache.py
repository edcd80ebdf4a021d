"""The cache: made once though two processes ask, whole or not there, made again when damaged."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from mat.experiments.tasks.storage.cache import cached, cached_arrays, read_arrays


def slow_make(path: Path, log: Path, start: multiprocessing.Event, results: multiprocessing.Queue) -> None:
    def make() -> dict[str, np.ndarray]:
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(0.5)
        return {"a": np.arange(3)}

    start.wait()
    results.put(cached_arrays(path, make)["a"].tolist())


def test_of_two_processes_one_makes_and_the_other_waits(tmp_path: Path) -> None:
    path, log = tmp_path / "deep" / "arrays.npz", tmp_path / "log"
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    both = [context.Process(target=slow_make, args=(path, log, start, results)) for _ in range(2)]
    for process in both:
        process.start()
    start.set()
    assert [results.get(timeout=60) for _ in both] == [[0, 1, 2], [0, 1, 2]]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert log.read_text() == "made\n"
    assert {entry.name for entry in path.parent.iterdir()} <= {"arrays.npz", "arrays.npz.lock"}


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    first = cached_arrays(path, lambda: {"a": np.arange(3), "b": np.ones((2, 2))})
    again = cached_arrays(path, lambda: pytest.fail("made again"))
    assert first.keys() == again.keys() == {"a", "b"}
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-10],
        lambda content: content.replace(bytes(range(1, 9)), bytes(8)),  # a flipped part, same length
        lambda content: b"something else",
    ],
)
def test_a_damaged_file_is_made_again(tmp_path: Path, damage) -> None:
    path = tmp_path / "arrays.npz"
    cached_arrays(path, lambda: {"a": np.arange(250, dtype=np.uint8)})
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))
    made = cached_arrays(path, lambda: {"a": np.arange(250, dtype=np.uint8)})
    assert made["a"].tolist() == list(range(250))
    assert read_arrays(path)["a"].tolist() == list(range(250))


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    def broken(file, **_: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", broken)
        with pytest.raises(OSError, match="disk full"):
            cached_arrays(tmp_path / "arrays.npz", lambda: {"a": np.arange(3)})
    assert {entry.name for entry in tmp_path.iterdir()} <= {"arrays.npz.lock"}
    assert cached_arrays(tmp_path / "arrays.npz", lambda: {"a": np.arange(3)})["a"].tolist() == [0, 1, 2]


def test_what_a_killed_process_left_does_not_get_in_the_way(tmp_path: Path) -> None:
    left = tmp_path / "entry.partial"
    left.mkdir()
    (left / "half").write_text("half")

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "whole").write_text("whole")

    def read(folder: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in folder.iterdir()}

    assert cached(tmp_path / "entry", make, read) == {"whole": "whole"}
    assert not left.exists()


def test_a_folder_in_which_a_file_is_missing_is_made_again(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        folder.mkdir()
        for name in "ab":
            (folder / name).write_text(name)

    def read(folder: Path) -> str:
        return "".join((folder / name).read_text() for name in "ab")

    assert cached(tmp_path / "entry", make, read) == "ab"
    (tmp_path / "entry" / "b").unlink()
    assert cached(tmp_path / "entry", make, read) == "ab"
