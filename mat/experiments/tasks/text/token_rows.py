"""Rows of tokens cut from one long stream, without a copy of it until they are taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mat.experiments.tasks.text.masking import NOT_COUNTED

AT_ONCE = 1024


@dataclass(frozen=True)
class Rows:
    """Row i is ``before``, then ``stream[starts[i] : starts[i] + width]``, then ``after``; ``stream`` [T], ids.

    What would lie past the stream's end is -100, "not counted".
    """

    stream: np.ndarray
    starts: np.ndarray
    width: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, index: np.ndarray | slice) -> np.ndarray:
        """The rows ``index`` as int64 [B, S], S = width and the ids around it."""
        place = self.starts[index][:, None] + np.arange(self.width)
        inside = place < len(self.stream)
        first, last = len(self.before), len(self.before) + self.width
        found = np.empty((len(place), last + len(self.after)), dtype=np.int64)
        found[:, :first], found[:, last:] = self.before, self.after
        body = found[:, first:last]
        body[:] = self.stream[place * inside]
        body[~inside] = NOT_COUNTED
        return found

    def parts(self) -> Iterator[np.ndarray]:
        """All rows in order, at most ``AT_ONCE`` at a time."""
        return (self.take(slice(start, start + AT_ONCE)) for start in range(0, len(self), AT_ONCE))

    def digest(self) -> np.ndarray:
        """SHA-256 of all rows as int32, uint8 [32]."""
        digest = hashlib.sha256()
        for part in self.parts():
            digest.update(part.astype("<i4").data)
        return np.frombuffer(digest.digest(), dtype=np.uint8)
