"""What is read off one run's curve; every function is pure and knows one run only.

A curve is the frame of ``curve.csv``: one row per evaluation, ascending in ``step``. Costs are in MACs, by the
charging rule of ``mat.records.costs``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mat.errors import InputError
from mat.records.costs import probe_macs, total_cpu_seconds, total_macs, total_seconds

LAST = 0.2  # of the steps: the end of a run, in which a converged one improves no more
Charged = tuple[pd.DataFrame, bool]  # a curve, and whether its run is charged for its probes


@dataclass(frozen=True)
class Convergence:
    """When a run has converged (register entry A11).

    The first evaluation whose smoothed validation loss is within ``epsilon`` (relative) of that run's
    best smoothed loss. Smoothing is the trailing mean of ``window`` evaluations, of fewer at the start.
    ``last``: an alternative of A11, the last evaluation whatever the loss; its loss is then the run's best.
    """

    epsilon: float = 0.005
    window: int = 3
    last: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < 1:
            raise InputError(f"convergence epsilon must be in [0, 1), got {self.epsilon}; 0.005 is the default")
        if self.window < 1:
            raise InputError(f"convergence window must be at least 1 evaluation, got {self.window}")


_KNOWN: dict[int, tuple[weakref.ref[pd.DataFrame], dict[Hashable, np.ndarray]]] = {}


def _once(curve: pd.DataFrame, what: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What most measures start from, made once for each curve, which is read and never changed, as long as that is
    there."""
    key = id(curve)
    if key not in _KNOWN or _KNOWN[key][0]() is not curve:
        _KNOWN[key] = weakref.ref(curve, lambda _: _KNOWN.pop(key, None)), {}
    known = _KNOWN[key][1]
    if what not in known:
        known[what] = make()
        known[what].flags.writeable = False
    return known[what]


def smoothed_loss(curve: pd.DataFrame, rule: Convergence) -> np.ndarray:
    """(evaluations,): trailing mean of the validation loss over ``rule.window`` evaluations."""
    return _once(
        curve,
        rule.window,
        lambda: curve["val_loss"].rolling(rule.window, min_periods=1).mean().to_numpy(dtype=float, copy=True),
    )


def totals(curve: pd.DataFrame, ledger: str, charged: bool) -> np.ndarray:
    """(evaluations,): ``total_macs`` of the curve."""
    return _once(curve, (ledger, charged), lambda: np.array(total_macs(_Arrays(curve), ledger, charged), dtype=float))


class _Arrays(dict):
    """Columns of a curve as arrays, whose sums take a fraction of the time of a frame's columns."""

    def __init__(self, curve: pd.DataFrame) -> None:
        self.curve = curve

    def __missing__(self, name: str) -> np.ndarray:
        return self.curve[name].to_numpy()


def target_loss(curve: pd.DataFrame, rule: Convergence) -> float:
    """The loss at which this run counts as converged: (1 + ε) × its best smoothed validation loss."""
    smoothed = smoothed_loss(curve, rule)
    return float((smoothed[-1] if rule.last else np.fmin.reduce(smoothed)) * (1 + rule.epsilon))


def convergence_row(curve: pd.DataFrame, rule: Convergence) -> int | None:
    """Row position of the evaluation at which the run has converged; None for a curve without a finite loss."""
    return len(curve) - 1 if rule.last else first_reaching(curve, target_loss(curve, rule), rule)


def first_reaching(curve: pd.DataFrame, target: float, rule: Convergence) -> int | None:
    """Row position of the first evaluation whose smoothed loss is at most ``target``; None if none is."""
    reached = np.flatnonzero(smoothed_loss(curve, rule) <= target)
    return int(reached[0]) if len(reached) else None


def macs_to_reach(
    curve: pd.DataFrame, targets: npt.ArrayLike, ledger: str, rule: Convergence, charged: bool
) -> np.ndarray:
    """For each of ``targets`` total MACs at the first evaluation whose smoothed loss is at most that; NaN if never
    reached. In the shape of ``targets``."""
    lowest = np.fmin.accumulate(smoothed_loss(curve, rule))
    # so ascending; what is not known comes first, and nothing reaches what is not known
    rows = np.searchsorted(-np.where(np.isnan(lowest), np.inf, lowest), -np.asarray(targets, dtype=float))
    return np.append(totals(curve, ledger, charged), np.nan)[rows]


def macs_to_convergence(curve: pd.DataFrame, ledger: str, rule: Convergence, charged: bool) -> float:
    """Total MACs at convergence, as ``Convergence`` defines it."""
    row = convergence_row(curve, rule)
    return float("nan") if row is None else float(totals(curve, ledger, charged)[row])


def converged_at_end(curve: pd.DataFrame, rule: Convergence) -> bool:
    """True when convergence falls within the last ``rule.window`` evaluations.

    Such a run was still improving when its budget ended: the budget set its compute to convergence.
    """
    row = convergence_row(curve, rule)
    return row is not None and row >= len(curve) - rule.window


def late_improvement(curve: pd.DataFrame, rule: Convergence) -> float:
    """How far the smoothed loss at the end is below its best before the ``LAST`` share of steps, as a share of that.

    Not above 0 where the loss has passed its minimum; NaN where one of these losses is not known.
    """
    smoothed = smoothed_loss(curve, rule)
    steps = curve["step"].to_numpy()
    return float(1 - smoothed[-1] / smoothed[steps <= (1 - LAST) * steps[-1]].min())


def minimum_row(curve: pd.DataFrame, rule: Convergence) -> int | None:
    """Row position of the lowest smoothed validation loss; None for a curve without a finite one."""
    smoothed = smoothed_loss(curve, rule)
    return int(np.nanargmin(smoothed)) if np.isfinite(smoothed).any() else None


def final_macs(curve: pd.DataFrame, ledger: str, charged: bool) -> float:
    """Total MACs of the whole run."""
    return float(totals(curve, ledger, charged)[-1])


def loss_at(curve: pd.DataFrame, macs: npt.ArrayLike, ledger: str, charged: bool) -> np.ndarray:
    """Validation loss after each of ``macs`` of total compute, linear between evaluations; NaN outside the run. In the
    shape of ``macs``."""
    total = totals(curve, ledger, charged)
    return np.interp(macs, total, curve["val_loss"].to_numpy(dtype=float), left=np.nan, right=np.nan)


def losses_at_equal_compute(first: Charged, second: Charged, ledger: str) -> tuple[float, float]:
    """Validation losses of two runs at the smaller of their final computes."""
    budget = min(final_macs(curve, ledger, charged) for curve, charged in (first, second))
    return tuple(float(loss_at(curve, budget, ledger, charged)) for curve, charged in (first, second))


def value_at(curve: pd.DataFrame, column: str, row: int) -> float:
    """A column's value at one evaluation, the last one at −1."""
    return float(curve[column].iloc[row])


def best_loss(curve: pd.DataFrame) -> float:
    """The lowest validation loss of the run (not smoothed)."""
    return float(curve["val_loss"].min())


def mean_share(curve: pd.DataFrame, column: str) -> float:
    """Mean over training steps, in [0, 1], of the share of modules that were active (``active_share``), or that were
    and that a gradient reached (``reached_share``); NaN for a curve recorded without it."""
    steps = curve["step"].diff().to_numpy(dtype=float)
    share = curve[column].to_numpy(dtype=float)
    known = np.isfinite(steps) & np.isfinite(share) & (steps > 0)
    return float(np.average(share[known], weights=steps[known])) if known.any() else float("nan")


def probe_share(curve: pd.DataFrame, ledger: str, charged: bool) -> float:
    """Charged probes and eigen-solves as a share of the run's total MACs, in [0, 1]."""
    total = final_macs(curve, ledger, charged)
    return float(probe_macs(_Arrays(curve), ledger, charged)[-1]) / total if total > 0 else float("nan")


def wall_clock(curve: pd.DataFrame, charged: bool) -> float:
    """Seconds of training, plus probes when the run is charged for them; evaluation is left out."""
    return total_seconds(curve.iloc[-1], charged)


def cpu_seconds(curve: pd.DataFrame, charged: bool) -> float:
    """The same in CPU seconds; NaN for a curve that was recorded without them."""
    return total_cpu_seconds(curve.iloc[-1], charged)


def wall_clock_to_convergence(curve: pd.DataFrame, rule: Convergence, charged: bool) -> float:
    """The same seconds at convergence."""
    row = convergence_row(curve, rule)
    return float("nan") if row is None else total_seconds(curve.iloc[row], charged)
