"""ImageNet (ILSVRC 2012), whole or in part, from a local folder in torchvision's ImageFolder layout."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from mat.errors import InputError
from mat.experiments.tasks.base import Count, Outline, fixed_order
from mat.experiments.tasks.images.augment import AUGMENTATIONS, augmentation
from mat.experiments.tasks.images.classification import ImageTask, divided, image_division, image_outline
from mat.experiments.tasks.images.decoded import Part, Pictures, read_pictures, write_pictures
from mat.experiments.tasks.storage.cache import cached
from mat.experiments.tasks.storage.mirror import Source
from mat.limits import Range, check_limits
from mat.regular import opened

SCHEME = 1  # raise when decoding changes: it is part of the cache's key
PIXELS = 2**26  # of an image, at most; ImageNet's largest has 61 million
CLASSES = 1000
TRAIN = 1_281_167  # 732 to 1300 of a class
VAL = 50_000


@dataclass(frozen=True)
class Settings:
    """Which part of ImageNet, at what size, and how training images are augmented.

    The whole set takes 16 GB of cache at 64 pixels, 193 GB at 224; it is memory-mapped. The test labels are secret, so
    the official validation images are the test, read once at the end.
    """

    classes: tuple[str, ...] | None = None
    """Names of class folders; none: all."""
    images_per_class: Count | None = None
    """Training images of each class: the first so many in a fixed random order; none: all."""
    side: Annotated[int, Range(ge=8, le=1024)] = 64
    """Of the square images, in pixels."""
    train_examples: Count | None = None
    """Images trained on: the first so many in a fixed random order; none: all."""
    validation_examples: Count | None = None
    """Images of the training split that are held out, always the same ones; none: one in twenty."""
    augment: Literal[AUGMENTATIONS] = "resized_crop"
    """Of training images: resized_crop or crop, both with flips, or none."""

    def __post_init__(self) -> None:
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))
            named = all(map(_is_folder_name, self.classes))
            if not named or len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
                raise InputError(f"classes must be two or more different names of folders, got {list(self.classes)}")
        check_limits(self)


def load(settings: Settings, data: Path | None, cache: Path) -> ImageTask:
    """The task, from ``<data>/imagenet/{train,val}/<class>/*.JPEG``; labels are the classes' places in sorted order.

    Images are resized once (the shorter side to ``side``, antialiased), centre-cropped and kept in ``cache``, whose key
    is of names, sizes and times of the files: 150 GB are not read again at every start. Raises InputError: no ``data``,
    a folder or images are missing, an image is damaged, or too few training images.
    """
    if data is None:
        raise InputError(
            "Expected the setting 'data' (MAT_DATA) to name a folder with imagenet/{train,val}/<class>/*.JPEG, got "
            "none; ImageNet cannot be downloaded without registration."
        )
    names = sorted(settings.classes or _classes(data / "imagenet" / "train"))
    train = _pictures(data / "imagenet" / "train", names, settings.images_per_class, settings.side, cache)
    test = _pictures(data / "imagenet" / "val", names, None, settings.side, cache)
    parts = divided("imagenet", train, np.arange(len(train.labels)), settings)
    parts["test"] = Part(test, np.arange(len(test.labels)))
    augment = augmentation(settings.augment, settings.side)
    return ImageTask("imagenet", parts, len(names), augment)


def outline(settings: Settings) -> Outline:
    """The task's signature, and its sizes by the published counts; of training images, whose number differs from class
    to class, an estimate."""
    classes = CLASSES if settings.classes is None else len(settings.classes)
    count = round(TRAIN * classes / CLASSES)
    if settings.images_per_class is not None:
        count = min(count, settings.images_per_class * classes)
    train, validation = image_division("imagenet", count, settings)
    sizes = {"train": train, "validation": validation, "test": VAL * classes // CLASSES}
    return image_outline((3, settings.side, settings.side), classes, sizes)


def sources(settings: Settings) -> tuple[Source, ...]:
    """Nothing: ImageNet is not on the hub without registration."""
    return ()


def _is_folder_name(name: object) -> bool:
    """Whether ``name`` is one part of a path, so that it leads nowhere else."""
    return isinstance(name, str) and name not in ("", "..") and Path(name).name == name and "\0" not in name


def _classes(folder: Path) -> list[str]:
    """Names of the class folders."""
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    if len(names) < 2:
        raise InputError(
            f"Expected two or more folders, one per class, in {folder}, got {len(names)}; the setting 'data' "
            "(MAT_DATA) must name the folder that holds imagenet/{train,val}."
        )
    return names


def _pictures(folder: Path, names: list[str], most: int | None, side: int, cache: Path) -> Pictures:
    """At most ``most`` images of each class of ``names``, class by class, at ``side`` x ``side`` pixels."""
    files = [_files(folder, name, most) for name in names]
    labels = np.repeat(np.arange(len(names)), [len(found) for found in files])
    paths = [path for found in files for path in found]
    digest = hashlib.sha256()
    for path in paths:
        facts = path.stat()
        digest.update(f"{path.relative_to(folder)} {facts.st_size} {facts.st_mtime_ns}\n".encode())

    def make(entry: Path) -> None:
        write_pictures(entry, labels, (3, side, side), paths, partial(_decode, side=side))

    name = f"{folder.name}-{side}-{SCHEME}-{digest.hexdigest()[:16]}"
    return cached(cache / "imagenet" / name, make, read_pictures)


def _files(folder: Path, name: str, most: int | None) -> list[Path]:
    """The first ``most`` images of a class in a fixed random order (None = all), sorted."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    try:
        found = make_dataset(folder, {name: 0}, IMG_EXTENSIONS)
    except FileNotFoundError:
        raise InputError(
            f"Expected images in the folder {folder / name}, found none; complete the folder that the setting 'data' "
            "(MAT_DATA) names, or leave the class out of the imagenet setting 'classes'."
        ) from None
    return [Path(found[i][0]) for i in np.sort(fixed_order(len(found), "imagenet", name)[:most])]


def _decode(path: Path, side: int) -> np.ndarray:
    """uint8 [3, side, side] of an image of any size."""
    from PIL import Image
    from torchvision.transforms.v2 import functional

    try:
        with opened(path) as file, Image.open(file) as image:
            if image.width * image.height > PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, more than {PIXELS:,}")
            whole = image.convert("RGB")
    except Exception as error:  # damaged bytes make decoders fail in many ways
        raise InputError(
            f"Expected an image in {path}, got {type(error).__name__}: {error}; replace it by a whole one."
        ) from error
    # as an image of Pillow, whose resizing gives the same bytes on every machine
    square = functional.center_crop(functional.resize(whole, [side], antialias=True), [side, side])
    return np.asarray(square).transpose(2, 0, 1)
