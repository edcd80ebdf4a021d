"""Whether two files say the same, whatever packed them: another zlib writes other bytes of the same picture, and the
solver of a figure's layout does not place it to the last bit twice."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
NUMBER = re.compile(rb"(-?\d+\.\d+)")
PICTURE = re.compile(rb"data:image/png;base64,[^\"]*")
APART = 1e-6  # points, of strokes
SHADE = 3  # of 255, of pixels: 2 were seen at an edge


def same(a: Path, b: Path) -> bool:
    """Whether both are there with the same bytes, or as tables, pictures or drawings the same rows, pixels or
    strokes (but for ``SHADE`` and ``APART``)."""
    if not (a.is_file() and b.is_file()) or a.suffix != b.suffix:
        return False
    if a.read_bytes() == b.read_bytes():
        return True
    read = {".parquet": _rows, ".png": _pixels, ".pdf": _strokes, ".html": _page}.get(a.suffix)
    return read is not None and read(a, b)


def _rows(a: Path, b: Path) -> bool:
    return pd.read_parquet(a).equals(pd.read_parquet(b))


def _pixels(a: Path, b: Path) -> bool:
    from PIL import Image

    with Image.open(a) as one, Image.open(b) as two:
        if (one.mode, one.size, one.info.get("pages")) != (two.mode, two.size, two.info.get("pages")):
            return False
        left, right = (np.asarray(image).astype(int) for image in (one, two))
    return bool(np.abs(left - right).max() <= SHADE)


def _page(a: Path, b: Path) -> bool:
    """Without its pictures, which are files beside it."""
    one, two = (PICTURE.sub(b"", path.read_bytes()) for path in (a, b))
    return one == two


def _strokes(a: Path, b: Path) -> bool:
    one, two = ([_inflated(stream) for stream in STREAM.findall(path.read_bytes())] for path in (a, b))
    return bool(one) and len(one) == len(two) and all(map(_drawn_alike, one, two))


def _drawn_alike(a: bytes, b: bytes) -> bool:
    if a == b:
        return True
    one, two = NUMBER.split(a), NUMBER.split(b)
    if one[::2] != two[::2]:  # what stands between numbers
        return False
    return all(abs(float(left) - float(right)) <= APART for left, right in zip(one[1::2], two[1::2], strict=True))


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream
