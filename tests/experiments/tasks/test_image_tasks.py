"""Image tasks: splits, normalisation, augmentation, accuracies and what they are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from mat.errors import InputError
from mat.experiments.tasks import cifar10, digits, imagenet, tiny_imagenet
from mat.experiments.tasks.base import SPLITS, Metric
from mat.experiments.tasks.images.classification import ImageTask
from mat.experiments.tasks.images.decoded import Part, pictures_of
from mat.experiments.tasks.images.hub import hub_image_outline, hub_image_task
from tests.experiments.tasks.made_images import write_folders

COMPLETE = replace(tiny_imagenet.ORIGIN, rows={"train": 90, "valid": 20})


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
        assert task.sizes["train"] == len(task._parts["train"].rows)
        sets.append({row.numpy().tobytes() for row in task._parts["train"].pixels(slice(None))})
    assert sets[0] < sets[1] < sets[2]


def test_too_many_images_asked_for_is_refused(mirror: Path, tmp_path: Path) -> None:
    for settings in (
        cifar10.Settings(validation_examples=80),
        cifar10.Settings(train_examples=61, validation_examples=20),
    ):
        with pytest.raises(InputError, match="'train_examples' or 'validation_examples'"):
            cifar10.load(settings, mirror, tmp_path)


@pytest.mark.parametrize("classes", [7, 4, None])
@pytest.mark.parametrize("examples", [(None, None), (20, 11)])
def test_the_outline_of_complete_data_is_exact(mirror: Path, tmp_path: Path, classes, examples) -> None:
    """Against a source whose published counts are those of the made files."""
    source = replace(tiny_imagenet.IMAGES, classes=7, origin=COMPLETE)
    known = tiny_imagenet.Settings(None, *examples)
    task = hub_image_task(source, known, classes, None, mirror, tmp_path)
    signature, sizes = hub_image_outline(source, known, classes)
    kept = classes or 7
    assert task.signature.outputs == signature.outputs == kept
    assert sizes.keys() == task.sizes.keys()
    for split, size in task.sizes.items():  # the made classes differ by one image
        assert abs(sizes[split] - size) <= (0 if kept == 7 else 4)


def test_published_sizes() -> None:
    tiny, image = tiny_imagenet.Settings, imagenet.Settings
    for module, settings, sizes in (
        (cifar10, cifar10.Settings(), (45_000, 5000, 10_000)),
        (cifar10, cifar10.Settings(100, 200), (100, 200, 10_000)),
        (tiny_imagenet, tiny(), (95_000, 5000, 10_000)),
        (tiny_imagenet, tiny(classes=50), (23_750, 1250, 2500)),
        (imagenet, image(), (1_217_109, 64_058, 50_000)),
        (imagenet, image(classes=tuple("ab"), images_per_class=100, validation_examples=20), (180, 20, 100)),
    ):
        assert tuple(module.outline(settings).sizes.values()) == sizes
    with pytest.raises(InputError, match="'train_examples' or 'validation_examples'"):
        tiny_imagenet.outline(tiny(classes=2, train_examples=951))


def test_fewer_classes_are_the_first(mirror: Path, tmp_path: Path) -> None:
    settings = tiny_imagenet.Settings(classes=3, validation_examples=6)
    task = tiny_imagenet.load(settings, mirror, tmp_path)
    for split in ("train", "validation", "test"):
        assert set(task._labels[split].tolist()) <= {0, 1, 2}
    assert task.sizes == {"train": 39 - 6, "validation": 6, "test": 9}
    with pytest.raises(InputError, match=r"at least 8 classes.*got 7.*'classes'"):
        tiny_imagenet.load(tiny_imagenet.Settings(classes=8), mirror, tmp_path)


def test_validation_is_one_in_twenty_unless_a_number_is_given(mirror: Path, tmp_path: Path) -> None:
    assert tiny_imagenet.load(tiny_imagenet.Settings(), mirror, tmp_path).sizes["validation"] == 4
    held_out = []
    for count in (None, 30):
        settings = tiny_imagenet.Settings(train_examples=count, validation_examples=20)
        part = tiny_imagenet.load(settings, mirror, tmp_path)._parts["validation"]
        held_out.append(part.rows.tolist())
    assert held_out[0] == held_out[1]


def test_grey_images_get_three_equal_channels(mirror: Path, tmp_path: Path) -> None:
    pictures = tiny_imagenet.load(tiny_imagenet.Settings(), mirror, tmp_path)._parts["train"].pictures
    grey = (pictures.pixels == pictures.pixels[:, :1]).all((1, 2, 3))
    assert grey.nonzero()[0].tolist() == list(range(0, 90, 5))


def test_folder_images_are_resized_and_centre_cropped(mirror: Path, tmp_path: Path) -> None:
    settings = imagenet.Settings(side=16, validation_examples=10)
    pictures = imagenet.load(settings, mirror, tmp_path)._parts["test"].pictures
    assert pictures.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    path = sorted((mirror / "imagenet/val/n02").iterdir())[3]
    with Image.open(path) as image:
        width, height = image.size
        scale = 16 / min(width, height)
        small = image.resize((int(scale * width), int(scale * height)), Image.Resampling.BILINEAR)
    left, top = round((small.width - 16) / 2), round((small.height - 16) / 2)
    expected = np.asarray(small.crop((left, top, left + 16, top + 16)))
    np.testing.assert_array_equal(pictures.pixels[8 + 3].transpose(1, 2, 0), expected)


def test_a_part_of_the_folder_images_is_fixed(mirror: Path, tmp_path: Path) -> None:
    sets = []
    for count in (12, 20, None):
        settings = imagenet.Settings(("n01", "n03"), count, side=8, validation_examples=1)
        part = imagenet.load(settings, mirror, tmp_path)._parts["train"]
        assert np.bincount(part.pictures.labels).tolist() == [count or 30] * 2
        sets.append({row.tobytes() for row in part.pictures.pixels})
    assert sets[0] < sets[1] < sets[2]
    other = imagenet.Settings(("n03", "n01"), 12, side=8, validation_examples=1)
    assert {row.tobytes() for row in imagenet.load(other, mirror, tmp_path)._parts["train"].pictures.pixels} == sets[0]


def test_replaced_folder_images_are_read_anew(tmp_path: Path) -> None:
    write_folders(tmp_path, "train", 6, 0, ("a", "b"))
    write_folders(tmp_path, "val", 2, 1, ("a", "b"))
    one, other = (tmp_path / f"imagenet/val/{name}/{name}_0.JPEG" for name in "ab")
    size = max(path.stat().st_size for path in (one, other))
    for path in (one, other):
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    settings = imagenet.Settings(side=8, validation_examples=2)
    before = imagenet.load(settings, tmp_path, tmp_path / "cache").data_hash
    assert imagenet.load(settings, tmp_path, tmp_path / "cache").data_hash == before
    other.write_bytes(one.read_bytes())  # of the same size, but later
    assert imagenet.load(settings, tmp_path, tmp_path / "cache").data_hash != before


def made_task(labels: dict[str, list[int]], classes: int) -> ImageTask:
    """A task of grey 2x2 images with these labels."""
    parts = {}
    for seed, (split, values) in enumerate(labels.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (len(values), 1, 2, 2), dtype=np.uint8)
        parts[split] = Part(pictures_of(pixels, np.array(values)), np.arange(len(values)))
    return ImageTask("made", parts, classes, None)


def test_the_majority_is_that_of_training() -> None:
    task = made_task({"train": [0, 1, 2, 2], "validation": [2, 2, 0, 2], "test": [1, 1, 1, 1, 2]}, 3)
    assert task.bounds == {"majority_accuracy_validation": 0.75, "majority_accuracy_test": 0.2}


def test_accuracies_count_the_label_among_the_highest() -> None:
    labels = torch.tensor([0, 1, 4, 5])
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3]] * 4)
    task = made_task({split: [0, 1, 4, 5] for split in SPLITS}, 7)
    assert task.metrics == (Metric("accuracy", True), Metric("top5_accuracy", True))
    assert task.score("test", [(logits, labels)]).metrics == {"accuracy": 0.25, "top5_accuracy": 0.75}
    split = task.score("test", [(logits[:1], labels[:1]), (logits[1:], labels[1:])])
    assert split.metrics == {"accuracy": 0.25, "top5_accuracy": 0.75}
    for classes, names in ((5, ["accuracy"]), (6, ["accuracy", "top5_accuracy"])):
        few = made_task({split: [0, 1] for split in SPLITS}, classes)
        assert [metric.name for metric in few.metrics] == names
        assert list(few.score("test", [(logits[:, :classes], labels[:2].repeat(2))]).metrics) == names


def test_the_hash_is_of_pixels_labels_and_division() -> None:
    labels = {"train": [0, 1, 2], "validation": [0, 1], "test": [2]}
    reference = made_task(labels, 3).data_hash
    assert made_task(labels, 3).data_hash == reference
    assert made_task({**labels, "test": [1]}, 3).data_hash != reference
    pixels = np.zeros((4, 1, 2, 2), np.uint8)
    hashes = set()
    for change in range(3):
        pixels[3, 0, 1, 1] = change
        for order in ([0, 3], [3, 0]):
            parts = dict.fromkeys(
                ("train", "validation", "test"), Part(pictures_of(pixels, np.arange(4)), np.arange(4))
            )
            parts["test"] = parts["test"]._replace(rows=np.array(order))
            hashes.add(ImageTask("made", parts, 4, None).data_hash)
    assert len(hashes) == 6
