"""Image files that are not what is published: each is one clear error that names the place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from mat.errors import InputError
from mat.experiments.tasks import cifar10, imagenet, tiny_imagenet
from tests.experiments.tasks.made_images import write_folders, write_images

FOLDER = "uoft-cs/cifar10/plain_text"
TINY = {"columns": ("image", "label"), "classes": 7, "side": 64}


def load(data: Path):
    return cifar10.load(cifar10.Settings(validation_examples=5), data, data / "cache")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """CIFAR-10 with 30 + 10 images, the training images in two files."""
    write_images(tmp_path / FOLDER, "train", 20, 0, part="00000-of-00002")
    write_images(tmp_path / FOLDER, "train", 10, 1, part="00001-of-00002")
    write_images(tmp_path / FOLDER, "test", 10, 2)
    return tmp_path


def rewrite(path: Path, change) -> None:
    """Replace the columns of a Parquet file by what ``change`` makes of them."""
    table = parquet.read_table(path)
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    change(columns)
    parquet.write_table(pyarrow.table(columns), path)


def test_whole_files_load(data: Path) -> None:
    assert load(data).sizes == {"train": 25, "validation": 5, "test": 10}


def test_row_groups_do_not_matter(data: Path) -> None:
    before = load(data).data_hash
    path = data / FOLDER / "train-00000-of-00002.parquet"
    parquet.write_table(parquet.read_table(path), path, row_group_size=6)
    assert parquet.ParquetFile(path).num_row_groups == 4
    assert load(data).data_hash == before


def test_a_corrupt_image_is_named_by_file_and_row(data: Path) -> None:
    def corrupt(columns: dict) -> None:
        columns["img"][3]["bytes"] = columns["img"][3]["bytes"][:500]
        columns["img"][7]["bytes"] = b"no image"

    rewrite(data / FOLDER / "train-00001-of-00002.parquet", corrupt)
    with pytest.raises(InputError, match=r"Expected an image in column 'img', row 3 of .*train-00001-of-00002"):
        load(data)


def test_a_missing_image_is_named_by_file_and_row(data: Path) -> None:
    def drop(columns: dict) -> None:
        columns["img"][4] = None

    rewrite(data / FOLDER / "test-00000-of-00001.parquet", drop)
    with pytest.raises(InputError, match=r"row 4 of .*test-00000-of-00001"):
        load(data)


def test_a_wrong_size_is_named_by_file_and_row(data: Path) -> None:
    write_images(data / FOLDER, "test", 10, 2, side=31)
    with pytest.raises(InputError, match=r"32x32 pixels in uoft-cs/cifar10, got 31x31 in row 0 of .*test-00000"):
        load(data)


def test_a_truncated_file_is_named(data: Path) -> None:
    path = data / FOLDER / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"complete Parquet file at .*train-00001-of-00002"):
        load(data)


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        ([0, 1, 2] * 10, r"\[0, 1, 2\]"),
        ([*range(10), *range(10), *range(9), 10], r"\[0, .*9, 10\]"),
        ([*range(10), *range(10), *range(9), -1], r"\[-1, 0, "),
    ],
)
def test_wrong_labels_in_train_are_refused(tmp_path: Path, labels, got: str) -> None:
    write_images(tmp_path / FOLDER, "train", 30, 0, labels, classes=20)
    write_images(tmp_path / FOLDER, "test", 10, 1)
    with pytest.raises(InputError, match=rf"labels 0 to 9 in split 'train'.*got {got}"):
        load(tmp_path)


def test_an_unknown_label_in_test_is_refused(data: Path) -> None:
    write_images(data / FOLDER, "test", 4, 1, [3, 3, 10, 3], classes=20)
    with pytest.raises(InputError, match=r"labels 0 to 9 in split 'test'.*got \[3, 10\]"):
        load(data)


@pytest.mark.parametrize(("value", "got"), [(None, "1 rows without any"), ("cat", "string")])
def test_labels_that_are_no_numbers_are_refused(data: Path, value, got: str) -> None:
    def change(columns: dict) -> None:
        columns["label"][0] = value
        if value is not None:
            columns["label"] = [str(label) for label in columns["label"]]

    rewrite(data / FOLDER / "test-00000-of-00001.parquet", change)
    with pytest.raises(InputError, match=f"whole numbers in column 'label' of split 'test'.*got {got}"):
        load(data)


def test_no_rows_are_refused(data: Path) -> None:
    path = data / FOLDER / "test-00000-of-00001.parquet"
    parquet.write_table(parquet.read_table(path).slice(0, 0), path)
    with pytest.raises(InputError, match="got 0 rows with img, label"):
        load(data)


def test_a_column_missing_in_one_of_two_files_is_named(data: Path) -> None:
    rewrite(data / FOLDER / "train-00001-of-00002.parquet", lambda columns: columns.pop("label"))
    with pytest.raises(InputError, match=r"columns img, label in split 'train'.*got 30 rows with img;"):
        load(data)


def test_a_class_between_others_must_not_be_empty(tmp_path: Path) -> None:
    folder = tmp_path / "zh-plus/tiny-imagenet/data"
    write_images(folder, "train", 30, 0, [0, 1, 3] * 10, **TINY)
    write_images(folder, "valid", 10, 1, [0] * 10, **TINY)
    with pytest.raises(InputError, match=r"labels 0 to 3 in split 'train'.*got \[0, 1, 3\]"):
        tiny_imagenet.load(tiny_imagenet.Settings(), tmp_path, tmp_path / "cache")


def test_test_labels_that_train_lacks_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "zh-plus/tiny-imagenet/data"
    write_images(folder, "train", 30, 0, [0, 1, 2] * 10, **TINY)
    write_images(folder, "valid", 10, 1, [4] * 10, **TINY)
    with pytest.raises(InputError, match=r"'valid' .* 0 to 2, got 4 too"):
        tiny_imagenet.load(tiny_imagenet.Settings(), tmp_path, tmp_path / "cache")


def test_a_damaged_cache_is_made_again(data: Path, monkeypatch) -> None:
    before = load(data).data_hash
    (entry,) = (data / "cache/cifar10").glob("test-*/pixels.npy")
    entry.write_bytes(entry.read_bytes()[:-5])
    assert load(data).data_hash == before
    monkeypatch.setattr("mat.experiments.tasks.images.hub.write_pictures", lambda *_: pytest.fail("decoded again"))
    assert load(data).data_hash == before


def test_another_way_of_decoding_is_another_entry(data: Path, monkeypatch) -> None:
    before = load(data).data_hash
    monkeypatch.setattr("mat.experiments.tasks.images.hub.SCHEME", -1)
    decode = "mat.experiments.tasks.images.hub._decode"
    monkeypatch.setattr(decode, lambda *_: np.zeros((3, 32, 32), np.uint8))
    assert load(data).data_hash != before


FEW = imagenet.Settings(side=8, validation_examples=2)


def test_a_folder_of_images_that_is_not_whole_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Expected two or more folders.*imagenet/train, got 0.*'data'"):
        imagenet.load(FEW, tmp_path, tmp_path / "cache")
    write_folders(tmp_path, "train", 5, 0, ("a", "b"))
    write_folders(tmp_path, "val", 2, 1, ("a",))
    with pytest.raises(InputError, match=r"Expected images in the folder .*imagenet/val/b"):
        imagenet.load(FEW, tmp_path, tmp_path / "cache")
    with pytest.raises(InputError, match=r"imagenet/train/c, found none.*'classes'"):
        imagenet.load(replace(FEW, classes=("a", "c")), tmp_path, tmp_path / "cache")
    with pytest.raises(InputError, match="Expected the setting 'data'"):
        imagenet.load(FEW, None, tmp_path / "cache")


def test_a_corrupt_file_of_a_folder_is_named(tmp_path: Path) -> None:
    write_folders(tmp_path, "train", 5, 0, ("a", "b"))
    write_folders(tmp_path, "val", 2, 1, ("a", "b"))
    path = tmp_path / "imagenet/train/b/b_3.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"Expected an image in .*train/b/b_3\.JPEG, got OSError"):
        imagenet.load(FEW, tmp_path, tmp_path / "cache")
