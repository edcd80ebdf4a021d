"""A cache of made things: each is made once, by one process at a time, and there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock

from mat.records.files import remove
from mat.regular import opened

T = TypeVar("T")


def cached(path: Path, make: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    """``read(path)``; a file or folder ``path`` that is missing, or that ``read`` fails on, is made before.

    ``make`` writes to the path it is given, which is renamed to ``path`` when it is done. Whoever asks meanwhile waits
    instead of making it too. The name of ``path`` must say all that its content depends on.
    """
    with suppress(Exception):  # missing, half written by a crash, damaged: whatever it is, it is made again
        return read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        with suppress(Exception):
            return read(path)  # made by another process while this one waited
        remove(path)
        partial = path.with_name(f"{path.name}.partial")
        remove(partial)  # a killed process left it
        try:
            make(partial)
            partial.replace(path)
        finally:
            remove(partial)
        return read(path)


def cached_arrays(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of the .npz file ``path``, made by ``make`` and stored there if they cannot be read from it."""

    def write(partial: Path) -> None:
        arrays = make()
        with partial.open("wb") as file:  # given a path, savez would append .npz to its name
            np.savez(file, **arrays)

    return cached(path, write, read_arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file; its checksums are checked."""
    with opened(path) as file, np.load(file) as stored:
        return {name: stored[name] for name in stored.files}
