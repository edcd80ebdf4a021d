"""The geometric mean of ratios of which some are only known from below: what was not reached within its budget.

Log ratios are taken as normal; a censored one says P(log r > c) (Tobin, Econometrica 1958). The mean is the maximum of
the likelihood. Its standard error, from the observed information, is multiplied by √(n/(n − 1)), as the t interval has
it, and by Student's t with one degree of freedom fewer than ratios are known: without censoring this is the t interval.
``COVERAGE`` says how often it holds the true mean over few seeds, ``python -m tests.benchmarks.coverage`` measures it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mat.evidence.stats.intervals import LINKS, Interval, interval_of

LEAST = 2  # known ratios: fewer have no spread
# n → expected share of censored ratios → share of 95 % intervals that hold the true mean, of those that exist
COVERAGE = {3: {0.0: 0.95, 0.25: 0.95, 0.5: 0.94}, 5: {0.0: 0.95, 0.25: 0.96, 0.5: 0.97}}


def censored_interval(ratios: npt.ArrayLike, known: npt.ArrayLike, link: str = "ratio") -> Interval:
    """The interval of the geometric mean of ``ratios`` (n,), in the unit of ``link``: ratio, or saving in percent.

    Where ``known`` (n,) is False, the ratio is larger than the one given. ``n`` counts the known ones: so many give the
    degrees of freedom. With fewer than ``LEAST`` of them, or none that differ, mean and bounds are NaN and ``n`` counts
    all that were asked.
    """
    ratios, known = np.asarray(ratios, dtype=float), np.asarray(known, dtype=bool)
    back = LINKS[link].back
    if known.all():
        return interval_of((back(log) for log in np.log(ratios)), link)
    logs, count = np.log(ratios), int(known.sum())
    if count < LEAST or not np.ptp(logs[known]):
        return Interval(np.nan, n=len(ratios), link=link)
    mean, error = _estimate(logs, known)
    deviation = error * np.sqrt(len(logs) / (len(logs) - 1)) * np.sqrt(count)
    return Interval(back(mean), n=count, deviation=float(deviation), link=link).at()


def _estimate(logs: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """The mean of the maximum of the likelihood, and its standard error."""
    from scipy import optimize, stats

    def standard(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = (logs - at[0]) / np.exp(at[1])
        return z, np.exp(stats.norm.logpdf(z) - stats.norm.logsf(z))  # with its hazard

    def loss(at: np.ndarray) -> float:
        z, _ = standard(at)
        return float(np.where(known, at[1] + z**2 / 2, -stats.norm.logsf(z)).sum())

    def slope(at: np.ndarray) -> np.ndarray:
        z, hazard = standard(at)
        by_z = np.where(known, z, hazard)
        return np.array([(-by_z / np.exp(at[1])).sum(), (known - z * by_z).sum()])

    start = np.array([logs.mean(), np.log(logs.std())])
    found = optimize.minimize(loss, start, jac=slope, method="BFGS", options={"gtol": 1e-9}).x
    z, hazard = standard(found)
    by_z, by_zz = np.where(known, z, hazard), np.where(known, 1.0, hazard * (hazard - z))
    mixed = (by_z + z * by_zz).sum()  # of μ/σ and log σ, as are the others
    own, width = by_zz.sum(), (z * by_z + z**2 * by_zz).sum()
    return float(found[0]), float(np.exp(found[1]) / np.sqrt(own - mixed**2 / width))
