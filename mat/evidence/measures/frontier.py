"""Quality against compute at the ends of schedules: a run is one point, its whole compute and its last loss.

The frontier is a line through runs that were given less and less of the same training, each with its schedule gone
through: their losses on the logarithm of compute, fitted so that more compute is never worse (isotonic regression,
least squares), linear between them. More compute than the line's dearest run buys nothing on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mat.evidence.measures.over_seeds import final_losses, whole_run_macs
from mat.evidence.runs.pooled import Tables


def line_at(macs: Sequence[float], losses: Sequence[float], wanted: float) -> float:
    """The loss on the line through these runs at the compute ``wanted``; NaN where that is less than the cheapest's."""
    from scipy import optimize

    order = np.argsort(macs)
    log, loss = np.log(np.asarray(macs, dtype=float)[order]), np.asarray(losses, dtype=float)[order]
    fit = optimize.isotonic_regression(loss, increasing=False).x
    return float(np.interp(math.log(wanted), log, fit, left=math.nan))


def below_line(tables: Tables, task: str, method: str, line: Sequence[str], ledger: str) -> pd.Series:
    """Loss of the ``line``'s frontier minus that of ``method`` at its compute, charged probes included, by seed:
    positive where the method is better than its compute buys there. NaN for a seed whose run costs less than the
    line's cheapest; only seeds that all of them finished are in the series."""
    labels = [method, *line]
    macs = pd.DataFrame({label: whole_run_macs(tables, task, label, ledger) for label in labels}).dropna()
    losses = pd.DataFrame({label: final_losses(tables, task, label) for label in labels}).dropna()
    found = {
        seed: line_at(macs.loc[seed, list(line)], losses.loc[seed, list(line)], macs.loc[seed, method])
        - losses.loc[seed, method]
        for seed in macs.index.intersection(losses.index)
    }
    return pd.Series(found, dtype=float)
