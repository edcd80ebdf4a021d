"""Reading from a mirror: never stale, never from the network, clear when something is missing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from mat.errors import InputError
from mat.tasks import cifar10, wikitext
from mat.tasks.hub import Origin, cached_arrays, content_key, load_split

ORIGIN = Origin("Salesforce/wikitext", "wikitext-2-raw-v1", "0" * 40)


def replace_in_place(write, folder: Path, split: str, count: int) -> None:
    """Another file under the same name, with the same number of rows and the same times."""
    path = folder / f"{split}-00000-of-00001.parquet"
    times = path.stat()
    write(folder, split, count, seed=99)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_replaced_in_place_is_read_anew(tmp_path: Path, text_writer) -> None:
    folder = tmp_path / "data" / ORIGIN.repo / ORIGIN.config
    text_writer(folder, "train", 50, seed=0)
    before = load_split(ORIGIN, "train", tmp_path / "data", tmp_path / "cache")["text"][:]
    replace_in_place(text_writer, folder, "train", 50)
    after = load_split(ORIGIN, "train", tmp_path / "data", tmp_path / "cache")["text"][:]
    assert len(before) == len(after) == 50
    assert before != after
    import pandas as pd

    assert after == pd.read_parquet(folder)["text"].tolist()


def test_two_mirrors_with_one_folder_name_are_kept_apart(tmp_path: Path, text_writer) -> None:
    texts = []
    for seed, owner in enumerate(("a", "b")):
        root = tmp_path / owner / "data"
        text_writer(root / ORIGIN.repo / ORIGIN.config, "test", 30, seed)
        texts.append(load_split(ORIGIN, "test", root, tmp_path / "cache")["text"][:])
    assert texts[0] != texts[1]


def test_tasks_see_a_replaced_file(tmp_path: Path, image_writer, text_writer) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    images = data / cifar10.ORIGIN.repo / cifar10.ORIGIN.config
    image_writer(images, "train", 30, seed=0)
    image_writer(images, "test", 10, seed=1)
    texts = data / ORIGIN.repo / ORIGIN.config
    for seed, split in enumerate(("train", "validation", "test")):
        text_writer(texts, split, 60, seed)

    def hashes() -> tuple[str, str]:
        pictures = cifar10.load(cifar10.Settings(validation_examples=10), data, cache)
        words = wikitext.Settings(config=ORIGIN.config, vocab_size=280, length=8)
        return pictures.data_hash, wikitext.load(words, data, cache).data_hash

    before = hashes()
    assert hashes() == before
    replace_in_place(image_writer, images, "test", 10)
    replace_in_place(text_writer, texts, "validation", 60)
    after = hashes()
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_mirror_is_read_without_the_network(mirror: Path, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(load_split(ORIGIN, "train", mirror, tmp_path)) > 0


def test_the_hub_is_asked_for_the_pinned_revision(tmp_path: Path, monkeypatch) -> None:
    import datasets

    asked: dict[str, object] = {}

    def fake(*names: str, **options: object) -> None:
        asked.update(options, names=names)

    monkeypatch.setattr(datasets, "load_dataset", fake)
    load_split(cifar10.ORIGIN, "test", None, tmp_path)
    assert asked["names"] == ("uoft-cs/cifar10", "plain_text")
    assert asked["revision"] == cifar10.ORIGIN.revision
    assert asked["split"] == "test"


def test_a_hub_out_of_reach_is_one_clear_error(tmp_path: Path, monkeypatch) -> None:
    import datasets

    def fake(*_: str, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fake)
    with pytest.raises(InputError, match=r"uoft-cs/cifar10.*no route.*'data'"):
        load_split(cifar10.ORIGIN, "test", None, tmp_path)


def test_a_missing_split_is_named(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wikitext-2-raw-v1/dev-\*\.parquet.*'data'"):
        load_split(ORIGIN, "dev", mirror, tmp_path)


def test_wrong_columns_are_named(tmp_path: Path, text_writer) -> None:
    text_writer(tmp_path / cifar10.ORIGIN.repo / cifar10.ORIGIN.config, "train", 10, seed=0)
    with pytest.raises(InputError, match=r"columns img, label.*got 10 rows with text"):
        cifar10.load(cifar10.Settings(), tmp_path, tmp_path / "cache")


def test_content_keys_differ_by_all_they_depend_on(mirror: Path) -> None:
    other = Origin(ORIGIN.repo, ORIGIN.config, "1" * 40)
    keys = [content_key(ORIGIN, split, None) for split in ("train", "test")]
    keys += [content_key(other, "train", None), content_key(ORIGIN, "train", mirror)]
    keys.append(content_key(ORIGIN, "test", mirror))
    assert len(set(keys)) == len(keys)
    assert content_key(other, "train", mirror) == content_key(ORIGIN, "train", mirror)


def test_two_processes_may_make_one_cache_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "arrays.npz"

    def make() -> dict[str, np.ndarray]:
        cached_arrays(path, lambda: {"a": np.arange(3)})  # the other process is done first
        return {"a": np.arange(3)}

    assert cached_arrays(path, make)["a"].tolist() == [0, 1, 2]
    assert cached_arrays(path, lambda: pytest.fail("made again"))["a"].tolist() == [0, 1, 2]
    assert [entry.name for entry in path.parent.iterdir()] == ["arrays.npz"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def broken(file, **_: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        cached_arrays(tmp_path / "arrays.npz", lambda: {"a": np.arange(3)})
    assert list(tmp_path.iterdir()) == []
