"""How fast this machine multiplies matrices."""

from __future__ import annotations

import time

import torch

from mat.errors import InputError

SIDE = 512  # of the matrices whose product is timed
SECONDS = 0.5


def rates_of(precisions: set[str], threads: int, rate: float | None) -> tuple[dict[str, float], str]:
    """GFLOP/s by precision, and what they are."""
    if rate is not None:
        if not 0 < rate < float("inf"):
            raise InputError(f"--rate must be a number of GFLOP/s above 0, got {rate}")
        return dict.fromkeys(precisions, rate), f"at {rate:g} GFLOP/s, as given"
    found = {name: measured_rate(name, threads) for name in sorted(precisions)}
    speeds = ", ".join(f"{value:.3g} GFLOP/s in {name}" for name, value in found.items())
    return found, f"at {speeds}: a {SIDE} × {SIDE} matrix product by {threads} threads here, just now"


def measured_rate(precision: str, threads: int) -> float:
    """GFLOP/s of a product of two matrices of ``SIDE`` rows and columns: the fastest within ``SECONDS``."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a = torch.ones(SIDE, SIDE, dtype=getattr(torch, precision))
        best, end = float("inf"), time.perf_counter() + SECONDS
        a @ a  # the first one also sets things up
        while time.perf_counter() < end or best == float("inf"):
            start = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * SIDE**3 / best / 1e9
