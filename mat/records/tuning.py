"""The log of a search of settings: one row per configuration, rung and seed, as `mat tune` writes it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mat.errors import InputError
from mat.regular import opened

REFERENCE = "vanilla"  # the method whose default says what a rung costs
START = "(start)"  # in place of a method: runs that a task's runs start from
# ``share``: of a training's compute; ``competes``: whether the configuration was in the rung, or is only its measure;
# ``loss``: the lowest on the validation split, inf for a run that diverged; ``macs``: executed, charged probes included
LOG = (
    *("scale", "task", "method", "rung", "share", "configuration", "competes", "seed", "run", "status", "loss"),
    *("macs", "cpu_seconds", "code_hash", "settings"),
)
TEXTS = ("scale", "task", "method", "run", "status", "code_hash", "settings")


def read_log(path: Path) -> pd.DataFrame:
    """The log. Raises InputError where it cannot be read or lacks a column."""
    try:
        with opened(path) as file:
            found = pd.read_csv(file, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise InputError(f"{path} is no log of `mat tune` ({error}); move it away and tune again") from None
    lacking = [name for name in LOG if name not in found]
    if lacking:
        raise InputError(f"{path} lacks the columns {', '.join(lacking)}; move it away and tune again")
    return found
