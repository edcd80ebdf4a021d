"""What a run costs, line by line, and what of it a run is charged with.

Costs are in multiply-adds (MACs) and seconds, cumulative over the run. A total is training + (kernel probes +
eigen-solves, when the run is charged for them, which is when its method reads them). Evaluations and the optimizer's
elementwise work are cost lines of their own and in no total: totals count matrix products and convolutions, as the
published figures do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mat.errors import InputError

FLOPS_PER_MAC = 2
UNITS = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
LEDGERS = ("executed", "nominal")
COST_LINES = (
    *("macs_nominal", "macs_executed", "macs_nominal_probe", "macs_executed_probe", "macs_eigen"),
    *("macs_eval", "macs_optimizer", "seconds_train", "seconds_data", "seconds_probe", "seconds_eval"),
    *("seconds_cpu_train", "seconds_cpu_probe"),
)


def probe_macs(costs: Mapping[str, Any] | pd.DataFrame, ledger: str, charged: bool) -> Any:
    """MACs of probes and eigen-solves that count against the run; 0 when it is not charged.

    ``costs``: the cost lines of one evaluation, or a curve's; ``ledger``: one of ``LEDGERS``, else InputError.
    """
    cost = costs[f"macs_{_known(ledger)}_probe"] + costs["macs_eigen"]
    return cost if charged else cost * 0.0


def total_macs(costs: Mapping[str, Any] | pd.DataFrame, ledger: str, charged: bool) -> Any:
    """MACs of training in ``ledger``, charged probes and eigen-solves included."""
    return costs[f"macs_{_known(ledger)}"] + probe_macs(costs, ledger, charged)


def total_seconds(costs: Mapping[str, float], charged: bool) -> float:
    """Seconds of training, plus probes when the run is charged for them; evaluation is left out."""
    return float(costs["seconds_train"] + (costs["seconds_probe"] if charged else 0.0))


def total_cpu_seconds(costs: Mapping[str, float], charged: bool) -> float:
    """The same in CPU seconds of the process; NaN for costs that were recorded without them."""
    train, probe = (costs.get(f"seconds_cpu_{what}", float("nan")) for what in ("train", "probe"))
    return float(train + (probe if charged else 0.0))


def flop_unit(largest: float) -> tuple[float, str]:
    """The unit (factor, name) in which ``largest`` FLOP is at least 1; MFLOP for anything smaller."""
    return next(((factor, name) for factor, name in UNITS if largest >= factor), UNITS[-1])


def _known(ledger: str) -> str:
    if ledger not in LEDGERS:
        raise InputError(f"ledger must be one of {', '.join(LEDGERS)}, got '{ledger}'")
    return ledger
