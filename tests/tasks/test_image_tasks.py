"""Digits and CIFAR-10: splits, normalisation, augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mat.errors import InputError
from mat.tasks import cifar10, digits
from mat.tasks.images import channel_statistics, random_flip, random_shift


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_digits_are_split_evenly_by_class() -> None:
    labels = load_digits().target
    index = digits.stratified_sixths(labels)
    assert [len(i) for i in index.values()] == [1197, 300, 300]
    assert sorted(np.concatenate(list(index.values()))) == list(range(1797))
    share = np.bincount(labels) / 6
    for split, expected in (("validation", share), ("test", share), ("train", 4 * share)):
        assert (np.abs(np.bincount(labels[index[split]]) - expected) <= 1).all()


def test_digits_are_normalised_by_the_training_split() -> None:
    task = digits.load(digits.Settings(), None, Path())
    train = torch.cat([batch.inputs["x"] for batch in task.batches("train", 500)])
    assert train.mean().item() == pytest.approx(0, abs=1e-5)
    assert train.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_statistics_equal_the_plain_formula() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 5), dtype=np.uint8)
    images[:, 2] = 7
    mean, scale = channel_statistics(images)
    plain = images.astype(np.float64)
    np.testing.assert_allclose(mean.flatten(), plain.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(scale.flatten(), [*plain.std((0, 2, 3))[:2], 1.0], rtol=1e-6)


def test_shift_equals_cropping_one_image_at_a_time() -> None:
    images = torch.randint(1, 256, (50, 3, 6, 5), generator=draws(), dtype=torch.uint8)
    moved = random_shift(images, 2, draws(1))
    offsets = torch.randint(0, 5, (2, 50, 1), generator=draws(1))
    for i, image in enumerate(images):
        canvas = torch.zeros(3, 10, 9, dtype=torch.uint8)
        canvas[:, 2:8, 2:7] = image
        top, left = offsets[:, i, 0].tolist()
        assert torch.equal(moved[i], canvas[:, top : top + 6, left : left + 5])
    assert len({tuple(pair) for pair in offsets[:, :, 0].T.tolist()}) > 10


def test_flip_mirrors_about_half() -> None:
    images = torch.arange(400 * 4).reshape(400, 1, 2, 2)
    flipped = random_flip(images, draws())
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert ((flipped == images).flatten(1).all(1) ^ mirrored).all()
    assert 140 < mirrored.sum() < 260


def test_augmentation_is_only_in_training(mirror: Path, tmp_path: Path) -> None:
    task = cifar10.load(cifar10.Settings(validation_examples=20), mirror, tmp_path)
    fixed = torch.cat([batch.inputs["x"] for batch in task.batches("train", 32)])
    originals = {row.numpy().tobytes() for row in fixed}
    assert {row.numpy().tobytes() for row in task.probe(0, 20).inputs["x"]} <= originals
    trained = {row.numpy().tobytes() for row in task.batch(0, 0, 0, 40).inputs["x"]}
    assert len(trained - originals) > 20


def test_a_smaller_training_set_is_part_of_the_larger(mirror: Path, tmp_path: Path) -> None:
    sets = []
    for count in (10, 40, None):
        settings = cifar10.Settings(train_examples=count, validation_examples=20)
        task = cifar10.load(settings, mirror, tmp_path)
        assert task.sizes == {"train": count or 60, "validation": 20, "test": 20}
        sets.append({row.numpy().tobytes() for row in task._images["train"]})
    assert sets[0] < sets[1] < sets[2]


def test_too_many_images_asked_for_is_refused(mirror: Path, tmp_path: Path) -> None:
    for settings in (
        cifar10.Settings(validation_examples=80),
        cifar10.Settings(train_examples=61, validation_examples=20),
    ):
        with pytest.raises(InputError, match="'train_examples' or 'validation_examples'"):
            cifar10.load(settings, mirror, tmp_path)


def test_labels_of_another_data_set_are_refused(tmp_path: Path, image_writer) -> None:
    image_writer(tmp_path / "uoft-cs/cifar10/plain_text", "train", 12, 0, labels=[0, 1, 2] * 4)
    with pytest.raises(InputError, match=r"labels 0 to 9.*got \[0, 1, 2\]"):
        cifar10.load(cifar10.Settings(), tmp_path, tmp_path / "cache")
