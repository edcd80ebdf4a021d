"""Random streams named by what they are for, so that runs of one seed are paired by construction.

Every stream is derived from ``(seed, *names)`` by SHA-256: two methods trained with one seed see the
same initial weights, batches, masks and probe set because they ask for streams of the same names, and
no stream moves when another is drawn from more often.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream ``names`` of run seed ``seed``; the same on every machine."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU ``torch.Generator`` for the stream ``names`` of run seed ``seed``."""
    return torch.Generator().manual_seed(stream_seed(seed, *names))
