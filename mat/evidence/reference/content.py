"""Whether two files say the same, whatever packed them: another zlib writes other bytes of the same picture."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)


def same(a: Path, b: Path) -> bool:
    """Whether both are there with the same bytes, or as tables, pictures or drawings the same rows, pixels or
    strokes."""
    if not (a.is_file() and b.is_file()) or a.suffix != b.suffix:
        return False
    if a.read_bytes() == b.read_bytes():
        return True
    read = {".parquet": _rows, ".png": _pixels, ".pdf": _strokes}.get(a.suffix)
    return read is not None and read(a, b)


def _rows(a: Path, b: Path) -> bool:
    return pd.read_parquet(a).equals(pd.read_parquet(b))


def _pixels(a: Path, b: Path) -> bool:
    from PIL import Image

    with Image.open(a) as one, Image.open(b) as two:
        return one.mode == two.mode and np.array_equal(np.asarray(one), np.asarray(two))


def _strokes(a: Path, b: Path) -> bool:
    one, two = ([_inflated(stream) for stream in STREAM.findall(path.read_bytes())] for path in (a, b))
    return bool(one) and one == two


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream
