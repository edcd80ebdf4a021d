"""Wrong training labels: a share of them replaced once and for all, so that memorising them can be told from learning.

What is replaced, and by what, is fixed by names alone: no run seed and no method moves it, and it is the same on
every machine, because it comes from raw PCG64 output (as `mat.experiments.tasks.base.fixed_order`).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from mat.experiments.tasks.base import fixed_order
from mat.limits import Range
from mat.seeds import stream_seed

NoiseShare = Annotated[float, Range(ge=0, lt=1)]  # of labels or words that are replaced
SHOWN = 512  # corrupted samples that `Task.corrupted` gives at most


def replaced(true: np.ndarray, values: int, share: float, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """A copy of ``true`` (integers in 0 … values - 1) where round(share · size) entries hold a different value, and the
    flat indices [k] of those, in a fixed random order.

    Each other value is as likely as the next, to 2^-50. A larger share keeps what a smaller one replaced.
    """
    count = round(share * true.size)
    places = fixed_order(true.size, *names, "places")[:count]
    given = true.copy()
    if count:
        raw = np.random.PCG64(stream_seed(0, *names, "values")).random_raw(true.size)[places]
        moved = 1 + (raw % np.uint64(values - 1)).astype(np.int64)
        given.flat[places] = (true.flat[places] + moved) % values
    return given, places
