"""Image classification sets of the hub: square colour images in Parquet files, decoded once into the cache."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mat.errors import InputError
from mat.experiments.tasks.base import Outline
from mat.experiments.tasks.images.augment import Augment
from mat.experiments.tasks.images.classification import ImageTask, divided, image_division, image_outline
from mat.experiments.tasks.images.decoded import Part, Pictures, read_pictures, write_pictures
from mat.experiments.tasks.storage.cache import cached
from mat.experiments.tasks.storage.hub import check_names, content_key, split_files
from mat.experiments.tasks.storage.mirror import Origin, opened, read_batches

SCHEME = 1  # raise when decoding changes: it is part of the cache's key


@dataclass(frozen=True)
class HubImages:
    """A set of the hub: its columns, the pixels of a ``side``, the number of ``classes``, and the split that serves as
    test. A mirror may hold the first few classes only where ``fewer`` is set."""

    name: str
    origin: Origin
    image: str
    label: str
    side: int
    classes: int
    test: str
    fewer: bool = False


def hub_image_task(
    source: HubImages,
    settings: Any,
    classes: int | None,
    augment: Augment | None,
    data: Path | None,
    cache: Path,
    label_noise: float = 0.0,
) -> ImageTask:
    """The task of ``source``; ``settings``: how many images to train on and to hold out (`image_division`);
    ``classes``: keep the first so many (None = all); ``label_noise`` as in `ImageTask`.

    Raises InputError: files, columns, images or labels are not as on the hub, or too few training images.
    """
    train, test = (_pictures(source, split, data, cache) for split in ("train", source.test))
    found = int(train.labels.max()) + 1
    if (classes or 1) > found:
        raise InputError(
            f"Expected at least {classes} classes in {source.origin.repo}, got {found}; lower the setting 'classes'."
        )
    if test.labels.max() >= found:
        raise InputError(
            f"Expected split '{source.test}' of {source.origin.repo} to have the labels of train, 0 to {found - 1}, "
            f"got {int(test.labels.max())} too; check the files under the setting 'data' (MAT_DATA)."
        )
    kept = classes or found
    parts = divided(source.name, train, np.flatnonzero(train.labels < kept), settings)
    parts["test"] = Part(test, np.flatnonzero(test.labels < kept))
    return ImageTask(source.name, parts, kept, augment, label_noise)


def hub_image_outline(source: HubImages, settings: Any, classes: int | None) -> Outline:
    """What is known of `hub_image_task` from published counts; all classes are equally frequent.

    Raises InputError: too few training images.
    """
    kept = classes or source.classes
    official = {split: rows * kept // source.classes for split, rows in source.origin.rows.items()}
    train, validation = image_division(source.name, official["train"], settings)
    sizes = {"train": train, "validation": validation, "test": official[source.test]}
    return image_outline((3, source.side, source.side), kept, sizes)


def _pictures(source: HubImages, split: str, data: Path | None, cache: Path) -> Pictures:
    """An official split, in file order."""

    def make(folder: Path) -> None:
        files = split_files(source.origin, split, data, cache)
        labels = _labels(source, split, files)
        shape = (3, source.side, source.side)
        write_pictures(folder, labels, shape, _encoded(source, files), lambda item: _decode(source, *item))

    key = content_key(source.origin, split, data)
    return cached(cache / source.name / f"{split}-{SCHEME}-{key}", make, read_pictures)


def _labels(source: HubImages, split: str, files: list[Path]) -> np.ndarray:
    """int64 [N]: the labels of a split, checked."""
    from pyarrow import concat_arrays, types

    origin, columns = source.origin, (source.image, source.label)
    names, count = [], 0
    for path in files:
        with opened(path) as file:
            names.append(file.schema_arrow.names)
            count += file.metadata.num_rows
    for found in names:
        check_names(found, count, origin, split, columns)
    batches = [batch for path in files for batch in read_batches(path, [source.label])]
    column = concat_arrays([batch.column(0) for batch in batches])
    if not types.is_integer(column.type) or column.null_count:
        got = f"{column.null_count} rows without any" if column.null_count else f"{column.type}"
        raise InputError(
            f"Expected whole numbers in column '{source.label}' of split '{split}' of {origin.repo}, got {got}; "
            "check the files under the setting 'data' (MAT_DATA)."
        )
    labels = column.to_numpy().astype(np.int64)
    found = set(labels.tolist())
    # a class without training images could not be learned, and would count in the outputs
    least = max(found) + 1 if source.fewer else source.classes
    wanted = set(range(min(least, source.classes)))
    if min(found) < 0 or max(found) >= source.classes or (split == "train" and found != wanted):
        raise InputError(
            f"Expected labels 0 to {max(wanted, default=0)} in split '{split}' of {origin.repo} (all of them in "
            f"train), got {_listed(sorted(found))}; check the files under the setting 'data' (MAT_DATA)."
        )
    return labels


def _listed(labels: list[int]) -> str:
    shown = ", ".join(map(str, labels[:20]))
    return f"[{shown}, …] ({len(labels)} different ones)" if len(labels) > 20 else f"[{shown}]"


def _encoded(source: HubImages, files: list[Path]) -> Iterator[tuple[Any, Path, int]]:
    """Encoded images, each with its file and row."""
    for path in files:
        rows = (image for batch in read_batches(path, [source.image]) for image in batch.column(0).to_pylist())
        for row, image in enumerate(rows):
            yield image, path, row


def _decode(source: HubImages, encoded: Any, path: Path, row: int) -> np.ndarray:
    """uint8 [3, side, side]; grey images get three equal channels."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded["bytes"])) as image:
            size = image.size  # of the header: another size is not decoded
            pixels = np.asarray(image.convert("RGB")) if size == (source.side, source.side) else None
    except Exception as error:  # damaged bytes make decoders fail in many ways
        raise InputError(
            f"Expected an image in column '{source.image}', row {row} of {path}, got "
            f"{type(error).__name__}: {error}; replace the file by a whole one."
        ) from error
    if size != (source.side, source.side):
        raise InputError(
            f"Expected images of {source.side}x{source.side} pixels in {source.origin.repo}, got {size[0]}x{size[1]} "
            f"in row {row} of {path}; check the files under the setting 'data' (MAT_DATA)."
        )
    return pixels.transpose(2, 0, 1)
