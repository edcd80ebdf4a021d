"""The bootstrap: over the seeds of one task, and stratified over tasks × seeds for aggregates.

Over 3 to 5 seeds the percentile bootstrap is too narrow: the variance of the resampled mean is s²(n − 1)/n², and no
resample reaches beyond the values seen. ``COVERAGE`` says how much too narrow, and ``python -m
tests.benchmarks.coverage`` measures it again. So t intervals decide per task and the bootstrap is printed beside;
over tasks, where there are more runs, the stratified bootstrap of Agarwal et al. ("Deep reinforcement learning at the
edge of the statistical precipice", NeurIPS 2021) serves the interquartile mean and the probability of improvement.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mat.evidence.stats.intervals import CONFIDENCE, LINKS, Interval

DRAWS = 10_000
# shape of the values → n → share of 95 % intervals that hold their true mean: t, percentile bootstrap
COVERAGE = {
    "normal": {3: (0.95, 0.75), 5: (0.95, 0.83), 10: (0.95, 0.90)},
    "skewed (exponential)": {3: (0.88, 0.70), 5: (0.88, 0.79), 10: (0.91, 0.87)},
}


def stream(*names: str | int) -> np.random.Generator:
    """The generator of the stream ``names``: the same draws on every machine, and no stream moves another."""
    text = "\x1f".join(("bootstrap", *map(str, names)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def bootstrap_bounds(value: Interval, *names: str | int) -> tuple[float, float]:
    """Percentile bootstrap bounds of ``value``'s mean over its seeds, on its own scale, cut to its limits; NaN with
    fewer than two values. ``names`` is the stream."""
    if len(value.values) < 2:
        return np.nan, np.nan
    link = LINKS[value.link]
    means = _resampled(np.array([link.to(each) for each in value.values]), stream(*names)).mean(axis=1)
    bounds = sorted(link.back(float(bound)) for bound in _percentiles(means))
    low, high = np.clip(bounds, *value.limits)
    return float(low), float(high)


def interquartile_mean(values: np.ndarray, repeats: Sequence[int] = ()) -> np.ndarray:
    """Mean of the middle half along the last axis: of N values ⌊N/4⌋ smallest and largest are left out. ``repeats``:
    how often each place of that axis counts (default: once)."""
    repeats = list(repeats) or [1] * values.shape[-1]
    counted, unit = sum(repeats), max(repeats)  # Python's integers: a common multiple of many numbers is large
    low, high = counted // 4 / unit, (counted - counted // 4) / unit
    order = np.argsort(values, axis=-1, kind="stable")
    weights = np.array([count / unit for count in repeats])[order]
    ends = np.cumsum(weights, axis=-1)
    kept = np.clip(ends, low, high) - np.clip(ends - weights, low, high)
    return (np.take_along_axis(values, order, axis=-1) * kept).sum(axis=-1) / (high - low)


def probability_of_improvement(wins: np.ndarray) -> float:
    """Mean of a (runs of X) × (runs of Y) matrix of 1 where X is better, ½ where they are equal, 0 where it is worse:
    the Mann–Whitney estimate of P(X > Y) + ½ P(X = Y)."""
    return float(np.mean(wins)) if wins.size else float("nan")


def comparison(first: Sequence[float], second: Sequence[float], higher_is_better: bool) -> np.ndarray:
    """The matrix of ``probability_of_improvement`` of two samples of runs; a NaN loses, two NaN are equal."""
    sign = 1.0 if higher_is_better else -1.0
    x, y = (sign * np.asarray(v, dtype=float) for v in (first, second))
    return wins(x[:, None], y[None, :])


def wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 where ``x`` is larger, ½ where both are equal, 0 where it is smaller; a NaN is smaller than any number."""
    x, y = (np.where(np.isnan(v), -np.inf, v) for v in (x, y))
    return np.where(x == y, 0.5, (x > y).astype(float))


def stratified(
    groups: Mapping[str, np.ndarray],
    statistic: Callable[[np.ndarray, list[int]], np.ndarray],
    *names: str | int,
    references: Mapping[str, np.ndarray] | None = None,
) -> Interval:
    """``statistic`` of all values pooled, with percentile bounds: runs are resampled within each task, tasks are kept.

    ``groups``: task → (runs,) values; ``statistic`` of (…, all runs) values, and of how often each place counts,
    reduces the last axis. A task weighs as much as another, however many runs it has: the runs of each are repeated
    up to the least common multiple. ``references``: task → (runs,) values of the reference on the same scale, whose
    mean is 1: its runs are resampled too, and values divided by the mean of the resample. ``n`` is the number of runs.
    Bounds are NaN where no task has two runs.
    """
    kept = {task: np.asarray(values, dtype=float) for task, values in sorted(groups.items()) if len(values)}
    if not kept:
        return Interval(np.nan)
    n, wide = sum(map(len, kept.values())), math.lcm(*map(len, kept.values()))
    repeats = [wide // len(values) for values in kept.values() for _ in values]
    point = float(statistic(np.concatenate(list(kept.values())), repeats))
    if max(map(len, kept.values())) < 2:
        return Interval(point, n=n)
    draw, sampled = stream(*names), []
    for task, values in kept.items():
        own = _resampled(values, draw)
        if references is not None:
            own = own / _resampled(np.asarray(references[task], dtype=float), draw).mean(axis=1, keepdims=True)
        sampled.append(own)
    found = [statistic(np.concatenate(rows, axis=1), repeats) for rows in zip(*map(_blocks, sampled), strict=True)]
    return Interval(point, *_percentiles(np.concatenate(found)), n)


def _blocks(draws: np.ndarray) -> list[np.ndarray]:
    """Resamples some at a time, so that what is computed of them takes little beside them."""
    return np.array_split(draws, DRAWS // 500)


def _resampled(values: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """(DRAWS, n): as many resamples of (n,) values."""
    return values[draw.integers(len(values), size=(DRAWS, len(values)))]


def _counts(size: int, draw: np.random.Generator) -> np.ndarray:
    """(DRAWS, size): how often each of ``size`` runs is in each of as many resamples."""
    places = draw.integers(size, size=(DRAWS, size)) + size * np.arange(DRAWS)[:, None]
    return np.bincount(places.ravel(), minlength=DRAWS * size).reshape(DRAWS, size).astype(float)


def stratified_improvement(wins: Mapping[str, np.ndarray], *names: str | int) -> Interval:
    """Mean over tasks of the probability of improvement, with percentile bounds: the runs of both methods are
    resampled within each task. ``wins``: task → matrix of ``comparison``; ``n`` is the number of the method's runs."""
    kept = {task: matrix for task, matrix in sorted(wins.items()) if matrix.size}
    if not kept:
        return Interval(np.nan)
    n = sum(len(matrix) for matrix in kept.values())
    point = float(np.mean([matrix.mean() for matrix in kept.values()]))
    if max(min(matrix.shape) for matrix in kept.values()) < 2:
        return Interval(point, n=n)
    draw, total = stream(*names), np.zeros(DRAWS)
    for matrix in kept.values():
        rows, columns = (_counts(size, draw) for size in matrix.shape)
        total += ((rows @ matrix) * columns).sum(axis=1) / matrix.size
    return Interval(point, *_percentiles(total / len(kept)), n)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
