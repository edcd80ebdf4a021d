"""How often 95 % intervals over few seeds hold the true mean: ``python -m tests.benchmarks.coverage``.

Seeds are drawn from distributions of known mean; for each number of seeds the share of t intervals and of percentile
bootstrap intervals that hold it. ``mat.evidence.stats.bootstrap.COVERAGE`` states some of them.
"""

from __future__ import annotations

import argparse

import numpy as np

from mat.evidence.stats.bootstrap import stream
from mat.evidence.stats.intervals import CONFIDENCE, half_width

DRAWS = 1000  # resamples of each sample
BLOCK = 500  # samples at once
SHAPES = {
    "normal": lambda draw, size: draw.standard_normal(size),
    "skewed (exponential)": lambda draw, size: draw.exponential(size=size) - 1,
    "heavy tails (t, 3 degrees)": lambda draw, size: draw.standard_t(3, size),
}


def coverage(n: int, samples: int, shape: str = "normal") -> tuple[float, float]:
    """(t, percentile bootstrap): share of ``samples`` samples of ``n`` seeds whose 95 % interval holds the mean."""
    draw, held = stream("coverage", shape, n), np.zeros(2)
    for _ in range(samples // BLOCK):
        values = SHAPES[shape](draw, (BLOCK, n))
        half = half_width(1.0, n) * values.std(axis=1, ddof=1)
        picked = draw.integers(n, size=(BLOCK, DRAWS, n))
        means = np.take_along_axis(values[:, None, :], picked, axis=2).mean(axis=2)
        low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1)
        held += np.sum(np.abs(values.mean(axis=1)) <= half), np.sum((low <= 0) & (high >= 0))
    t, percentile = held / (samples // BLOCK * BLOCK)
    return float(t), float(percentile)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    samples = parser.parse_args().samples
    print("| values | n | t interval | percentile bootstrap |\n| --- | --- | --- | --- |")
    for shape in SHAPES:
        for n in (3, 5, 10, 20):
            t, percentile = coverage(n, samples, shape)
            print(f"| {shape} | {n} | {100 * t:.1f} % | {100 * percentile:.1f} % |")


if __name__ == "__main__":
    main()
