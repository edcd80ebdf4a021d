"""Tables of branches in the real format with invented results, for tests of their tables, rules and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

# what training a set does to the validation loss, and the share of the wrong labels it memorises
SETS = {"top": (-0.30, 0.2), "bottom": (-0.10, 0.5), "random": (-0.2, 0.3), "all": (-0.4, 0.4), "none": (-0.2, 0.1)}


def branches(
    families: Iterable[str] = ("bert", "vgg"), seeds: Iterable[int] = (0, 1, 2), **how: Any
) -> list[pd.DataFrame]:
    """One table per family and seed, trained as ``how`` says (``_table``)."""
    return [_table(family, seed, **how) for family in families for seed in seeds]


def _table(
    family: str,
    seed: int,
    shares: Sequence[float] = (0.1, 0.5),
    modules: int = 12,
    weights: Mapping[str, float] | None = None,
    sets: Mapping[str, tuple[float, float]] = SETS,
    noise: float = 0.2,
    spread: float = 0.01,
) -> pd.DataFrame:
    """A module's loss decrease is the weighted sum of the logarithms of its quantities (``weights``, λ_max alone by
    default), a set's losses are those of ``sets``; both with noise of size ``spread``."""
    draw = np.random.default_rng([seed, *family.encode()])
    rows = []
    for step, share in enumerate(shares):
        base = {"step": step, "share": share, "train_loss_before": 2.0, "val_loss_before": 2.2}
        single = pd.DataFrame(
            {name: np.exp(draw.standard_normal(modules)) for name in
             ("lambda_max", "gradient_norm", "trace", "effective_rank", "parameters")}
        ).assign(layer=np.arange(modules) // 2)  # fmt: skip
        gain = sum(weight * np.log(single[name]) for name, weight in (weights or {"lambda_max": 1.0}).items())
        gain = 0.1 * gain + 0.1 * spread * draw.standard_normal(modules)
        for i, row in single.iterrows():
            rows.append(
                {**base, **row, "part": "module", "branch": f"head.{i}", "kind": "head", "trained_modules": 1,
                 "members": "", "train_loss_after": 1.9 - gain[i], "val_loss_after": 2.1 - gain[i]}
            )  # fmt: skip
        idle = {"kind": "", "layer": -1, "parameters": 0, "trained_modules": 0, "members": ""}
        rows.append(
            {**base, **idle, "part": "module", "branch": "none", "train_loss_after": 1.9, "val_loss_after": 2.1}
        )
        for name, (change, memorised) in sets.items():
            own = spread * draw.standard_normal()
            rows.append(
                {**base, **idle, "part": "set", "branch": name, "trained_modules": 4, "members": "a b",
                 "train_loss_after": 1.7 + change / 2, "val_loss_after": 2.2 + change + own,
                 "val_metric_before": 0.5, "val_metric_after": 0.6,
                 "memorised_before": 0.1 if noise else np.nan,
                 "memorised_after": memorised + own if noise else np.nan,
                 "true_before": 0.5 if noise else np.nan, "true_after": 0.4 if noise else np.nan}
            )  # fmt: skip
    return pd.DataFrame(rows).assign(
        scale="demo", family=family, task="digits", model="vgg", seed=seed, job=f"{family}-s{seed}", setup=family,
        branch_steps=10, samples=64, val_samples=64, set_share=0.34, steps=100, modules=modules, diverged=False,
        loss_unit="nats", metric="accuracy", noise=noise, corrupted=40 if noise else 0, probe_n=64,
        estimator="projected", normalisation="raw", code_hash="c0de", data_hash="da7a",
        code='{"mat.controller": "c0de"}',
    )  # fmt: skip
