"""Reading from a mirror: never stale, never from the network, clear when something is missing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pandas as pd
import pytest

from mat.errors import InputError
from mat.experiments.tasks import cifar10, wikitext
from mat.experiments.tasks.storage.hub import check_names, check_text, content_key, fetch, load_split
from mat.experiments.tasks.storage.mirror import Origin
from tests.experiments.tasks.made_images import write_images
from tests.experiments.tasks.made_text import write_text

ORIGIN = Origin("Salesforce/wikitext", "wikitext-2-raw-v1", "0" * 40)


def replace_in_place(write, folder: Path, split: str, count: int) -> None:
    """Another file under the same name, with the same number of rows and the same times."""
    path = folder / f"{split}-00000-of-00001.parquet"
    times = path.stat()
    write(folder, split, count, seed=99)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_replaced_in_place_is_read_anew(tmp_path: Path) -> None:
    folder = tmp_path / "data" / ORIGIN.repo / ORIGIN.part
    write_text(folder, "train", 50, seed=0)
    before = load_split(ORIGIN, "train", tmp_path / "data", tmp_path / "cache")["text"][:]
    replace_in_place(write_text, folder, "train", 50)
    after = load_split(ORIGIN, "train", tmp_path / "data", tmp_path / "cache")["text"][:]
    assert len(before) == len(after) == 50
    assert before != after
    assert after == pd.read_parquet(folder)["text"].tolist()


def test_two_mirrors_with_one_folder_name_are_kept_apart(tmp_path: Path) -> None:
    texts = []
    for seed, owner in enumerate(("a", "b")):
        root = tmp_path / owner / "data"
        write_text(root / ORIGIN.repo / ORIGIN.part, "test", 30, seed)
        texts.append(load_split(ORIGIN, "test", root, tmp_path / "cache")["text"][:])
    assert texts[0] != texts[1]


def test_tasks_see_a_replaced_file(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    images = data / cifar10.ORIGIN.repo / cifar10.ORIGIN.part
    write_images(images, "train", 30, seed=0)
    write_images(images, "test", 10, seed=1)
    texts = data / ORIGIN.repo / ORIGIN.part
    for seed, split in enumerate(("train", "validation", "test")):
        write_text(texts, split, 60, seed)

    def hashes() -> tuple[str, str]:
        pictures = cifar10.load(cifar10.Settings(validation_examples=10), data, cache)
        words = wikitext.Settings(config=ORIGIN.part, vocab_size=280, length=8)
        return pictures.data_hash, wikitext.load(words, data, cache).data_hash

    before = hashes()
    assert hashes() == before
    replace_in_place(write_images, images, "test", 10)
    replace_in_place(write_text, texts, "validation", 60)
    after = hashes()
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_mirror_is_read_without_the_network(mirror: Path, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(load_split(ORIGIN, "train", mirror, tmp_path)) > 0


def test_a_missing_split_is_named(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wikitext-2-raw-v1/dev-\*\.parquet.*'data'"):
        load_split(ORIGIN, "dev", mirror, tmp_path)


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    write_text(tmp_path / cifar10.ORIGIN.repo / cifar10.ORIGIN.part, "train", 10, seed=0)
    with pytest.raises(InputError, match=r"columns img, label.*got 10 rows with text"):
        cifar10.load(cifar10.Settings(), tmp_path, tmp_path / "cache")


def test_content_keys_differ_by_all_they_depend_on(mirror: Path) -> None:
    other = Origin(ORIGIN.repo, ORIGIN.part, "1" * 40)
    keys = [content_key(ORIGIN, split, None) for split in ("train", "test")]
    keys += [content_key(other, "train", None), content_key(ORIGIN, "train", mirror)]
    keys.append(content_key(ORIGIN, "test", mirror))
    assert len(set(keys)) == len(keys)
    assert content_key(other, "train", mirror) == content_key(ORIGIN, "train", mirror)


def test_a_column_that_is_not_text_is_named(mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / ORIGIN.repo / ORIGIN.part
    folder.mkdir(parents=True)
    for values, got in (([1, 2], "int64"), (["a", None], "1 rows without any"), ([b"a", b"b"], "binary")):
        pd.DataFrame({"text": values}).to_parquet(folder / "test-0.parquet", index=False)
        rows = load_split(ORIGIN, "test", tmp_path, tmp_path / "cache")
        check_names(rows.column_names, len(rows), ORIGIN, "test", ("text",))
        with pytest.raises(InputError, match=f"Expected text in column 'text' of split 'test'.*got {got}"):
            check_text(rows, ORIGIN, "test", "text")
    rows = load_split(ORIGIN, "test", mirror, tmp_path / "cache")
    check_text(rows, ORIGIN, "test", "text")


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: whole[:40], lambda whole: b"no Parquet"])
def test_an_unreadable_file_is_named(tmp_path: Path, damage) -> None:
    folder = tmp_path / ORIGIN.repo / ORIGIN.part
    write_text(folder, "test", 30, seed=0)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=rf"complete Parquet file at .*{path.name}, got Arrow"):
        load_split(ORIGIN, "test", tmp_path, tmp_path / "cache")


def test_damage_inside_a_file_is_found_when_it_is_fetched(tmp_path: Path) -> None:
    folder = tmp_path / ORIGIN.repo / ORIGIN.part
    write_text(folder, "test", 3000, seed=0)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + bytes(500) + whole[520:])
    with pytest.raises(InputError, match=rf"complete Parquet file at .*{path.name}"):
        fetch(ORIGIN, tmp_path, tmp_path / "cache")


def test_a_split_in_several_files_is_read_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / ORIGIN.repo / ORIGIN.part
    for part in range(2):
        write_text(folder, "test", 20 + part, seed=part)
        (folder / "test-00000-of-00001.parquet").rename(folder / f"test-0000{part}-of-00002.parquet")
    rows = load_split(ORIGIN, "test", tmp_path, tmp_path / "cache")["text"][:]
    parts = [pd.read_parquet(path)["text"].tolist() for path in sorted(folder.iterdir())]
    assert rows == [*parts[0], *parts[1]]
    assert fetch(ORIGIN, tmp_path, tmp_path / "cache")["rows"] == {"test": 41}
    (folder / "test-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"Expected 2 files .*test-\*\.parquet, as their names say, got 1"):
        load_split(ORIGIN, "test", tmp_path, tmp_path / "cache")


def test_files_of_one_split_with_different_columns_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / ORIGIN.repo / ORIGIN.part
    write_text(folder, "test", 20, seed=0)
    pd.DataFrame({"text": [1]}).to_parquet(folder / "test-1.parquet", index=False)
    with pytest.raises(InputError, match=r"test-1\.parquet, got Arrow"):
        load_split(ORIGIN, "test", tmp_path, tmp_path / "cache")
