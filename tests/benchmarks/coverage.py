"""How often 95 % intervals over few seeds hold the true mean: ``python -m tests.benchmarks.coverage``.

Seeds are drawn from distributions of known mean; for each number of seeds the share of t intervals and of percentile
bootstrap intervals that hold it. Then ratios of which some are censored, and effects pooled over tasks of three seeds
each. ``COVERAGE`` in ``mat.evidence.stats.bootstrap``, ``censored`` and ``random_effects`` states some of them.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from mat.evidence.stats.bootstrap import stream
from mat.evidence.stats.censored import censored_interval
from mat.evidence.stats.intervals import CONFIDENCE, half_width, mean_interval
from mat.evidence.stats.random_effects import over_tasks

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


def censored(n: int, share: float, samples: int) -> tuple[float, float]:
    """(held, given): of ``samples`` samples of ``n`` log ratios of two computes, both normal and correlated with 0.5,
    the first censored at a budget that it exceeds with probability ``share``: the share of intervals that hold the
    mean, of those that exist, and the share of samples that have one."""
    draw, found = stream("censored coverage", n, str(share)), []
    budget = stats.norm.ppf(1 - share)
    for _ in range(samples):
        theirs = draw.standard_normal(n)
        mine = (theirs + 3**0.5 * draw.standard_normal(n)) / 2
        value = censored_interval(np.exp(0.3 * (np.minimum(mine, budget) - theirs)), mine <= budget)
        found += [value.low <= 1 <= value.high] if np.isfinite(value.low) else []
    return float(np.mean(found)), len(found) / samples


def pooled(tasks: int, between: float, samples: int, seeds: int = 3) -> float:
    """Share of ``samples`` pooled intervals that hold the mean over tasks: their effects spread by ``between`` times
    what seeds do, which differs by task up to threefold."""
    draw, held = stream("pooled coverage", tasks, str(between)), 0
    for _ in range(samples):
        spread, own = draw.uniform(0.5, 1.5, tasks), between * draw.standard_normal(tasks)
        value = over_tasks([mean_interval(own[i] + spread[i] * draw.standard_normal(seeds)) for i in range(tasks)])
        held += value.effect.low <= 0 <= value.effect.high
    return held / samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    samples = parser.parse_args().samples
    print("| values | n | t interval | percentile bootstrap |\n| --- | --- | --- | --- |")
    for shape in SHAPES:
        for n in (3, 5, 10, 20):
            t, percentile = coverage(n, samples, shape)
            print(f"| {shape} | {n} | {100 * t:.1f} % | {100 * percentile:.1f} % |")
    print("\n| n | censored | held | given |\n| --- | --- | --- | --- |")
    for n, share in ((n, share) for n in (3, 5, 10) for share in (0.0, 0.25, 0.5)):
        held, given = censored(n, share, samples // 5)
        print(f"| {n} | {100 * share:g} % | {100 * held:.1f} % | {100 * given:.1f} % |")
    print("\n| tasks | spread between tasks / seeds | held |\n| --- | --- | --- |")
    for tasks, between in ((tasks, between) for tasks in (3, 5, 10) for between in (0.0, 0.5, 2.0)):
        print(f"| {tasks} | {between:g} | {100 * pooled(tasks, between, samples // 5):.1f} % |")


if __name__ == "__main__":
    main()
