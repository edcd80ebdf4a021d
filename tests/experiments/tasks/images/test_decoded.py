"""Decoded images in the cache: memory-mapped, checked, with sums and hashes that any part's follow from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from mat.errors import InputError
from mat.experiments.tasks.images.decoded import (
    CHUNK,
    Part,
    channel_statistics,
    pictures_of,
    read_pictures,
    write_pictures,
)

COUNT = 30
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 4, 5), dtype=np.uint8)
LABELS = np.arange(COUNT) % 3


def written(folder: Path) -> Path:
    write_pictures(folder, LABELS, (3, 4, 5), range(COUNT), lambda i: PIXELS[i])
    return folder


def test_what_is_written_is_read_memory_mapped(tmp_path: Path) -> None:
    found = read_pictures(written(tmp_path / "entry"))
    in_memory = pictures_of(PIXELS, LABELS)
    for name in found._fields[:-1]:
        np.testing.assert_array_equal(getattr(found, name), getattr(in_memory, name))
    assert isinstance(found.pixels.base, np.memmap)
    assert not found.pixels.flags.writeable
    assert [bytes(row) for row in found.digests] == [hashlib.sha256(p.tobytes()).digest() for p in PIXELS]


def test_a_parts_pixels_are_copies_in_its_order(tmp_path: Path) -> None:
    part = Part(read_pictures(written(tmp_path / "entry")), np.array([5, 2, 9]))
    assert part.pixels(slice(0, 2)).numpy().tolist() == PIXELS[[5, 2]].tolist()
    assert part.pixels(np.array([2, 2])).numpy().tolist() == PIXELS[[9, 9]].tolist()
    assert part.labels.tolist() == [2, 2, 0]
    part.pixels(slice(None)).fill_(0)
    assert part.pixels(slice(None)).numpy().tolist() == PIXELS[[5, 2, 9]].tolist()


@pytest.mark.parametrize("held", ["memory", "cache"])
def test_statistics_of_a_part_equal_the_plain_formula(tmp_path: Path, held: str) -> None:
    pixels = PIXELS.copy()
    pixels[:, 2] = 7
    if held == "cache":
        write_pictures(tmp_path / "entry", LABELS, (3, 4, 5), pixels, lambda image: image)
        pictures = read_pictures(tmp_path / "entry")
    else:
        pictures = pictures_of(pixels, LABELS)
    rows = np.array([3, 1, 4, 15, 9])
    mean, scale = channel_statistics(Part(pictures, rows))
    plain = pixels[rows].astype(np.float64)
    np.testing.assert_allclose(mean, plain.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(scale, [*plain.std((0, 2, 3))[:2], 1.0], rtol=1e-6)


def zeros_at_the_end(folder: Path) -> None:
    path = folder / "pixels.npy"
    path.write_bytes(path.read_bytes()[:-100] + bytes(100))


def other_count(folder: Path) -> None:
    np.save(folder / "pixels.npy", PIXELS[:-1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "pixels.npy").write_bytes((folder / "pixels.npy").read_bytes()[:-1]),
        lambda folder: (folder / "facts.npz").write_bytes((folder / "facts.npz").read_bytes()[:-40]),
        lambda folder: (folder / "facts.npz").unlink(),
        zeros_at_the_end,
        other_count,
    ],
)
def test_a_damaged_entry_is_not_read(tmp_path: Path, damage) -> None:
    folder = written(tmp_path / "entry")
    read_pictures(folder)
    damage(folder)
    with pytest.raises(Exception, match=r".") as caught:
        read_pictures(folder)
    assert not isinstance(caught.value, AssertionError)


def test_the_first_image_that_fails_is_the_one_reported(tmp_path: Path) -> None:
    count = CHUNK + 50

    def decode(i: int) -> np.ndarray:
        if i in (CHUNK + 20, CHUNK + 3):
            raise ValueError(f"image {i}")
        return PIXELS[i % COUNT]

    with pytest.raises(ValueError, match=f"image {CHUNK + 3}$"):
        write_pictures(tmp_path / "entry", np.zeros(count, int), (3, 4, 5), range(count), decode)


def test_any_flipped_bit_of_an_image_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "entry") / "pixels.npy"
    content = bytearray(path.read_bytes())
    content[-PIXELS[0].size * 4 + 7] ^= 4  # in the fourth from the end
    path.write_bytes(content)
    part = Part(read_pictures(tmp_path / "entry"), np.arange(COUNT))
    assert part.pixels(slice(0, COUNT - 4)).numpy().tolist() == PIXELS[:-4].tolist()
    with pytest.raises(InputError, match=f"image {COUNT - 4} of .*entry is not the one that was decoded; remove it"):
        part.pixels(np.array([0, COUNT - 4]))
