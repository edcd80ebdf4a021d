"""Active sets drawn at random, for what is timed of them."""

from __future__ import annotations

import random

from mat.partition.partition import Partition, grouped


def draw(partition: Partition, share: float, seed: int) -> set[str]:
    """Names of round(share · count) modules of every kind, at random by ``seed``."""
    kinds = grouped({module.name: module.kind for module in partition.modules})
    chance = random.Random(seed)
    return {name for names in kinds.values() for name in chance.sample(names, round(share * len(names)))}
