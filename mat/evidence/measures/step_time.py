"""A run's seconds by arithmetic: from the times of steps at active shares, each taken in turn with dense ones.

Seconds that were clocked while a run trained are of the machine and of what else ran there. A step's time beside a
dense step's is of the method. Both ratios of the study (time and executed MACs, to a dense step) give a line per mode;
between two evaluations, a run's steps last what the line says at their mean executed MACs. A probe lasts what the
study's probe did, by its MACs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mat.records.costs import probe_macs

LEDGER = "executed"
DENSE, PROBE = "dense", "probe"  # of a run that skips nothing; of rows that are no steps


@dataclass(frozen=True)
class StepTimes:
    """Of one task: ``dense_seconds`` and ``dense_macs`` of a dense step, by ``mode`` the points (MACs, seconds) of a
    step as shares of these, and ``probe``, seconds of a probe per MAC (NaN where none was timed). ``clock``: which
    seconds they are, CPU seconds on a CPU. ``spread``: the largest range of a point's seconds over rounds."""

    dense_seconds: float
    dense_macs: float
    lines: dict[str, tuple[np.ndarray, np.ndarray]]
    probe: float
    clock: str
    cpu: str
    spread: float

    @classmethod
    def of(cls, rows: pd.DataFrame) -> StepTimes:
        """From the rows of the table ``step_times`` of one task: medians over rounds."""
        first, steps = rows.iloc[0], rows[rows["mode"] != PROBE].sort_values("macs_ratio")
        lines = {
            str(mode): (own["macs_ratio"].to_numpy(dtype=float), own["seconds_ratio"].to_numpy(dtype=float))
            for mode, own in steps.groupby("mode")
        }
        probe = rows[rows["mode"] == PROBE]
        return cls(
            float(first["dense_seconds"]),
            float(first["dense_macs"]),
            lines,
            float((probe["seconds_ratio"] / probe["macs_ratio"]).mean()) * first["dense_seconds"] / first["dense_macs"],
            str(first["clock"]),
            str(first["cpu"]),
            float((steps["seconds_ratio_high"] - steps["seconds_ratio_low"]).max()),
        )

    def seconds(self, curve: pd.DataFrame, mode: str, charged: bool) -> float:
        """Of training and charged probes, of a whole run with these steps; NaN for a mode
        that was not timed, and for charged probes where none was."""
        steps = np.diff(curve["step"].to_numpy(dtype=float))
        macs = np.diff(curve["macs_executed"].to_numpy(dtype=float))
        probes = float(probe_macs(curve, LEDGER, charged).iloc[-1])
        trained = self._ratios(macs[steps > 0] / steps[steps > 0] / self.dense_macs, mode) @ steps[steps > 0]
        return float(trained * self.dense_seconds + (probes * self.probe if probes else 0.0))

    def _ratios(self, macs: np.ndarray, mode: str) -> np.ndarray:
        """Seconds of steps of so many MACs, both as shares of a dense step."""
        if mode == DENSE:
            return np.ones_like(macs)
        if mode not in self.lines:
            return np.full_like(macs, np.nan)
        return np.interp(macs, *self.lines[mode])
