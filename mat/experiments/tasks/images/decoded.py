"""Decoded images in the cache: memory-mapped, so that a large set needs no memory, with what is asked of them often.

Channel statistics and the hash of any part of a set follow from sums and hashes of the single images, which are
taken once, when an image is decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from mat.errors import InputError
from mat.experiments.tasks.storage.cache import read_arrays

T = TypeVar("T")
CHUNK = 1024


class Pictures(NamedTuple):
    """Images of one size and their labels.

    ``pixels``: uint8 [N, C, H, W], possibly memory-mapped; ``labels``: int64 [N]; ``digests``: SHA-256 of each image's
    bytes, uint8 [N, 32]; ``moments``: sum and sum of squares of each image's pixels, int64 [N, 2, C]; ``place``: where
    they are kept.
    """

    pixels: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    moments: np.ndarray
    place: str = "memory"


class Part(NamedTuple):
    """The images ``rows`` [n] of ``pictures``, in that order."""

    pictures: Pictures
    rows: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """int64 [n]."""
        return self.pictures.labels[self.rows]

    def pixels(self, index: np.ndarray | slice) -> Tensor:
        """A copy of the images ``index`` of the part, uint8 [n, C, H, W]. Raises InputError where one is not the image
        that the data's hash stands for."""
        rows = self.rows[index]
        found = self.pictures.pixels[rows]
        for row, image in zip(rows, found, strict=True):
            if hashlib.sha256(image.data).digest() != self.pictures.digests[row].tobytes():
                raise InputError(
                    f"image {row} of {self.pictures.place} is not the one that was decoded; remove it, and the same "
                    "command decodes it again"
                )
        return torch.from_numpy(found)


def pictures_of(pixels: np.ndarray, labels: np.ndarray) -> Pictures:
    """Images that are in memory: ``pixels`` uint8 [N, C, H, W], ``labels`` int64 [N]."""
    digests, moments = zip(*(_facts(image) for image in pixels), strict=True)
    return Pictures(np.ascontiguousarray(pixels), labels, np.stack(digests), np.stack(moments))


def _facts(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Digest uint8 [32] and moments int64 [2, C] of one image uint8 [C, H, W]."""
    digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()
    values = image.reshape(len(image), -1).astype(np.int64)
    return np.frombuffer(digest, np.uint8), np.stack([values.sum(1), (values**2).sum(1)])


def write_pictures(
    folder: Path, labels: np.ndarray, shape: tuple[int, int, int], items: Iterable[T], decode: Callable[[T], np.ndarray]
) -> None:
    """Write ``decode(item)``, uint8 of ``shape`` (C, H, W), for one item per label [N] to a new ``folder``.

    It decodes in as many threads as torch uses, which changes no result; the first item's error that comes up ends it.
    """
    folder.mkdir()
    count, row = len(labels), 0
    digests, moments = np.empty((count, 32), np.uint8), np.empty((count, 2, shape[0]), np.int64)

    def made(item: T) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image = np.ascontiguousarray(decode(item))
        return image, *_facts(image)

    items = iter(items)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool, (folder / "pixels.npy").open("wb") as file:
        about = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(file, about)
        while chunk := list(islice(items, CHUNK)):
            for image, digests[row], moments[row] in pool.map(made, chunk):
                file.write(image.data)  # not through a memory map, which dies of a full disk without a word
                row += 1
    np.savez(folder / "facts.npz", labels=labels, digests=digests, moments=moments)


def read_pictures(folder: Path) -> Pictures:
    """What `write_pictures` wrote, memory-mapped. Raises ValueError or OSError where it is damaged."""
    facts = read_arrays(folder / "facts.npz")
    mapped = np.load(folder / "pixels.npy", mmap_mode="r")
    found = Pictures(np.asarray(mapped), facts["labels"], facts["digests"], facts["moments"], str(folder))
    if len(found.pixels) != len(found.labels):
        raise ValueError(f"{len(found.pixels)} images with {len(found.labels)} labels")
    for row in (0, -1):  # what a crash leaves unwritten is zeros, most likely at the end
        if not np.array_equal(_facts(found.pixels[row])[0], found.digests[row]):
            raise ValueError(f"image {row} is not the one that was written")
    return found


def channel_statistics(part: Part) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of a part's pixels, each float32 [C].

    From sums of integers, so that no order of summation matters; a constant channel gets scale 1.
    """
    _, _, height, width = part.pictures.pixels.shape
    total, squares = part.pictures.moments[part.rows].sum(0)
    count = len(part.rows) * height * width
    mean = total / count
    variance = squares / count - mean**2
    scale = np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0)
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(scale, dtype=torch.float32)
