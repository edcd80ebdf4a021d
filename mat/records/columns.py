"""Columns and keys of what a run writes.

``run.json``: what was run, by what and on what; ``curve.csv``: one row per evaluation, ascending in ``step``;
``probes.csv.gz``: one row per probe and module; ``spectra.csv.gz``: rows of the sums of the modules' kernels
(``mat.methods.history``); ``final.json``: how it ended.
"""

from __future__ import annotations

from typing import Any

from mat.records.costs import COST_LINES
from mat.records.shape import MAPPING, NOTHING, NUMBER, TEXT, TRUTH, WHOLE

FINISHED, DIVERGED = "finished", "diverged"
STATUSES = (FINISHED, DIVERGED)

METRIC_PREFIX = "val_"  # a curve has a column of each of its task's metrics, too
CURVE_COLUMNS = ("step", "epoch", "train_loss", "val_loss", "val_metric", *COST_LINES, "active_share", "reached_share")

SPECTRUM = ("lambda_max", "trace", "effective_rank")
CHOICES = ("estimator", "normalisation", "n", "way")  # behind a kernel
# one row of what a controller records; a run's table says the epoch, too
PROBE_RECORD = (
    *("interval", "step", "module", "kind", "layer", "parameters", *SPECTRUM, *CHOICES),
    *("gradient_norm", "tau", "active", "frozen", "reached"),
)
EPOCH_PLACE = 2
NEWER = ("reached_share", "reached")  # what records were once written without: NaN there
# what is pooled of them: a method that measures no kernel makes no choices
PROBE_COLUMNS = tuple(
    name for name in (*PROBE_RECORD[:EPOCH_PLACE], "epoch", *PROBE_RECORD[EPOCH_PLACE:]) if name not in CHOICES
)
SPECTRA_COLUMNS = ("interval", "step", "scope", "of", "rank", "value")

# by key the shape of what it holds (``mat.records.shape``)
RUN_KEYS: dict[str, Any] = {
    **dict.fromkeys(("name", "code_hash", "data_hash", "loss_unit", "mode"), TEXT),
    **dict.fromkeys(("seed", "threads", "remainder_parameters", "interval", "probe_n", "probe_directions"), WHOLE),
    "labels": dict.fromkeys(("scale", "task", "method"), TEXT),
    "spec": {"task": MAPPING, "method": MAPPING, "seed": WHOLE},
    "code": {str: TEXT},
    "start_hash": TEXT + NOTHING,
    "versions": {str: TEXT},
    "hardware": MAPPING,
    "charges_probe": TRUTH,
    "metrics": [{"name": TEXT, "higher_is_better": TRUTH}],
    "bounds": {str: NUMBER},
    "sizes": {str: WHOLE},
    "modules": [MAPPING],
}
FINAL_KEYS: dict[str, Any] = {
    "status": TEXT,
    "steps": WHOLE,
    **dict.fromkeys(("test_loss", "test_metric", "best_val_loss"), NUMBER + NOTHING),
    "test_metrics": {str: NUMBER + NOTHING},
    "best_step": WHOLE + NOTHING,
}

# columns that hold texts, in tables of runs and of studies: what they hold may look like a number, or like none
_TEXTS = frozenset(
    (
        *("module", "kind", "estimator", "normalisation", "way", "default_estimator", "default_normalisation"),
        *("scale", "family", "task", "model", "job", "setup", "code_hash", "code", "data_hash", "device", "cpu"),
        *("part", "branch", "members", "loss_unit", "metric", "mode", "scope", "of"),
    )
)
_VERSION = "version_"


def is_text(column: str) -> bool:
    """Whether a column of a record holds texts; the others hold numbers, or true and false."""
    return column in _TEXTS or column.startswith(_VERSION)
