"""The log of a search of settings: one row per configuration, rung and seed, as `mat tune` writes it."""

from __future__ import annotations

REFERENCE = "vanilla"  # the method whose default says what a rung costs
START = "(start)"  # in place of a method: runs that a task's runs start from
# ``share``: of a training's compute; ``competes``: whether the configuration was in the rung, or is only its measure;
# ``loss``: the lowest on the validation split, inf for a run that diverged; ``macs``: executed, charged probes included
LOG = (
    *("scale", "task", "method", "rung", "share", "configuration", "competes", "seed", "run", "status", "loss"),
    *("macs", "cpu_seconds", "code_hash", "settings"),
)
TEXTS = ("scale", "task", "method", "run", "status", "code_hash", "settings")
