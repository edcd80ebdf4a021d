"""Active sets drawn at random, for what is timed of them."""

from __future__ import annotations

import random

from mat.partition.partition import Partition


def draw(partition: Partition, share: float, seed: int) -> set[str]:
    """Names of round(share · count) modules of every kind, at random by ``seed``."""
    kinds: dict[str, list[str]] = {}
    for module in partition.modules:
        kinds.setdefault(module.kind, []).append(module.name)
    chance = random.Random(seed)
    return {name for names in kinds.values() for name in chance.sample(names, round(share * len(names)))}
