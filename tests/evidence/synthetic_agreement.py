"""Measurement tables in the real format with invented rankings, for tests of agreement and its figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
) -> pd.DataFrame:
    """log λ_max is the module's number plus noise of estimator, normalisation and n (``sample_noise``/√n per probe
    set), so that less noise means more agreement."""
    draw = np.random.default_rng([seed, *family.encode()])
    base, rows = 0.3 * draw.permutation(modules), []
    for step, share in enumerate(shares):
        for probe_set in range(2):
            for n in sizes:
                sample = sample_noise / n**0.5 * draw.standard_normal(modules)
                for estimator, directions, noise, passes in estimators:
                    own = noise * draw.standard_normal(modules)
                    for normalisation, shift in normalisations.items():
                        value = np.exp(base + sample + own + shift * draw.standard_normal(modules))
                        about = {
                            "step": step, "share": share, "probe_set": probe_set, "n": n,
                            "estimator": estimator, "directions": directions, "normalisation": normalisation,
                            "seconds": 0.01 * passes, "macs": 1e6 * passes * n, "macs_eigen": 1e4,
                        }  # fmt: skip
                        rows += [
                            {**about, "module": f"head.{i}", "kind": "head", "layer": i // 4, "parameters": 100,
                             "lambda_max": value[i], "trace": 2 * value[i], "effective_rank": 2.0}
                            for i in range(modules)
                        ]  # fmt: skip
    return pd.DataFrame(rows).assign(
        scale="demo", family=family, task="digits", model="vgg", seed=seed, job=f"{family}-s{seed}", setup=family,
        logits=10, steps=100, diverged=False, default_estimator="sum_of_logits", default_directions=0,
        default_normalisation="raw", default_n=64, code_hash="c0de", data_hash="da7a",
        code='{"mat.controller": "c0de"}',
    )  # fmt: skip
