"""Measurement tables in the real format with invented rankings, for tests of agreement and its figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

# estimator, directions, standard deviation of the noise on log λ_max, backward passes
ESTIMATORS = (
    ("full", 0, 0.0, 10), ("trace", 0, 0.01, 10), ("sum_of_logits", 0, 0.3, 1), ("projected", 8, 0.1, 8),
    ("loss", 0, 1.5, 1),
)  # fmt: skip
NORMALISATIONS = {"raw": 0.0, "cosine": 0.3, "per_parameter": 0.02}


def measurements(
    families: Iterable[str] = ("bert", "switch", "vgg"), seeds: Iterable[int] = (0, 1, 2), **how: Any
) -> list[pd.DataFrame]:
    """One table per family and seed, measured as ``how`` says (``_table``)."""
    return [_table(family, seed, **how) for family in families for seed in seeds]


def _table(
    family: str,
    seed: int,
    estimators: Sequence[tuple[str, int, float, int]] = ESTIMATORS,
    shares: Sequence[float] = (0, 1),
    sizes: Sequence[int] = (16, 64, 128),
    modules: int = 12,
    normalisations: Mapping[str, float] = NORMALISATIONS,
    sample_noise: float = 0.3,
    positions: Sequence[int] = (0,),
    default_positions: int = 0,
) -> pd.DataFrame:
    """log λ_max is the module's number plus noise of estimator, normalisation and n (``sample_noise``/√n per probe
    set), so that less noise means more agreement. The default alone has every normalisation. A model has 9 positions
    where some of them are asked for."""
    draw = np.random.default_rng([seed, *family.encode()])
    base, cells, values = 0.3 * draw.permutation(modules), [], []
    for (step, share), probe_set, n in product(enumerate(shares), range(2), sizes):
        sample = sample_noise / n**0.5 * draw.standard_normal(modules)
        for (estimator, directions, noise, passes), some in product(estimators, positions):
            own = noise * draw.standard_normal(modules)
            default = (estimator, some, n) == ("sum_of_logits", 0, 64)
            for normalisation, shift in normalisations.items() if default else [("raw", normalisations["raw"])]:
                values.append(np.exp(base + sample + own + shift * draw.standard_normal(modules)))
                cells.append({
                    "step": step, "share": float(share), "probe_set": probe_set, "n": n, "estimator": estimator,
                    "directions": directions, "positions": some, "normalisation": normalisation,
                    "seconds": 0.01 * passes, "macs": 1e6 * passes * n, "macs_eigen": 1e4,
                })  # fmt: skip
    frame = pd.DataFrame(cells).loc[np.repeat(np.arange(len(cells)), modules)].reset_index(drop=True)
    largest, place = np.concatenate(values), np.tile(np.arange(modules), len(cells))
    return frame.assign(
        module=[f"head.{i}" for i in place], kind="head", layer=place // 4, parameters=100,
        lambda_max=largest, trace=2 * largest, effective_rank=2.0,
        scale="demo", family=family, task="digits", model="vgg", seed=seed, job=f"{family}-s{seed}", setup=family,
        logits=10, model_positions=9 if max(positions) else 1, steps=100, diverged=False, epoch_macs=1e9,
        epoch_seconds=2.0, default_estimator="sum_of_logits", default_directions=0, default_positions=default_positions,
        default_normalisation="raw", default_n=64, code_hash="c0de", data_hash="da7a",
        code='{"mat.controller": "c0de"}',
    )  # fmt: skip
