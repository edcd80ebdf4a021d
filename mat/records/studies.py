"""Columns of the tables that studies write and evidence reads: one table per job, one row per measurement."""

from __future__ import annotations

from mat.records.columns import SPECTRUM

# what every study says of a job, in every row; ``code``, in the first at least: JSON, hash by module
JOB = (
    *("scale", "family", "task", "model", "seed", "job", "setup", "steps", "diverged"),
    *("code_hash", "code", "data_hash"),
)
# one row per checkpoint, probe set, estimator, n, normalisation and module
AGREEMENT = (
    *("step", "share", "probe_set", "n", "estimator", "directions", "positions", "normalisation"),
    *("module", "kind", "layer", "parameters", *SPECTRUM, "seconds", "macs", "macs_eigen"),
    *("epoch_seconds", "epoch_macs", "logits", "model_positions"),
    *("default_estimator", "default_directions", "default_positions", "default_normalisation", "default_n"),
)
# one row per round, mode and active share; of a probe, too
STEP_TIMES = (
    *("turn", "mode", "active_share", "active", "modules", "macs", "dense_macs", "timed"),
    *("seconds", "cpu_seconds", "dense_seconds", "dense_cpu_seconds"),
)
READ = ("train_loss", "val_loss", "val_metric", "memorised", "true")  # of a branch, before it and after
# one row per checkpoint and branch
BRANCHES = (
    *("step", "share", "part", "branch", "kind", "layer", "parameters", "trained_modules", "members"),
    *("branch_steps", *SPECTRUM, "gradient_norm", *(f"{name}_{when}" for name in READ for when in ("before", "after"))),
    *("samples", "val_samples", "set_share", "modules", "loss_unit", "metric", "noise", "corrupted"),
    *("probe_n", "estimator", "normalisation"),
)
