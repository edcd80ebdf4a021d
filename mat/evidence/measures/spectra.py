"""What is read off one run's probes: how modules of one kind differ in λ_max, and how it goes with rank."""

from __future__ import annotations

import numpy as np
import pandas as pd


def has_spectra(probes: pd.DataFrame) -> bool:
    """True when the run recorded any λ_max."""
    return bool(np.isfinite(probes["lambda_max"].to_numpy(dtype=float)).any())


def kind_present(probes: pd.DataFrame, kinds: list[str]) -> str | None:
    """The first of ``kinds`` that has modules in ``probes``; None when none has."""
    present = set(probes["kind"])
    return next((kind for kind in kinds if kind in present), None)


def spread(probes: pd.DataFrame, kind: str) -> float:
    """Median over probes of max λ_max / min λ_max over all modules of ``kind``.

    Modules with λ_max = 0 (the output does not depend on them) have no ratio and are left out.
    """
    ratios = [group["lambda_max"].max() / group["lambda_max"].min() for group in _by_probe(probes, kind)]
    return float(np.median(ratios)) if ratios else float("nan")


def spread_within_layers(probes: pd.DataFrame, kind: str) -> float:
    """Median over probes and layers of max λ_max / min λ_max over a layer's modules of ``kind``: the same where two
    layers differ, whatever is between them. A layer with fewer than two of a positive λ_max has no ratio."""
    layers = [layer for group in _by_probe(probes, kind) for _, layer in group.groupby("layer") if len(layer) > 1]
    ratios = [layer["lambda_max"].max() / layer["lambda_max"].min() for layer in layers]
    return float(np.median(ratios)) if ratios else float("nan")


def rank_correlation(probes: pd.DataFrame, kind: str) -> float:
    """Mean over probes of Spearman's ρ between log λ_max and effective rank over the modules of ``kind``.

    A probe with fewer than three modules, or with a constant column, has no ρ and is left out.
    """
    from scipy import stats

    values = []
    for group in _by_probe(probes, kind):
        known = group[np.isfinite(group["effective_rank"].to_numpy(dtype=float))]
        if len(known) >= 3 and known["lambda_max"].nunique() > 1 and known["effective_rank"].nunique() > 1:
            values.append(stats.spearmanr(np.log(known["lambda_max"]), known["effective_rank"]).statistic)
    return float(np.mean(values)) if values else float("nan")


def _by_probe(probes: pd.DataFrame, kind: str) -> list[pd.DataFrame]:
    """The modules of ``kind`` with a positive λ_max, one frame per probe."""
    chosen = probes[(probes["kind"] == kind) & (probes["lambda_max"] > 0)]
    return [group for _, group in chosen.groupby("interval", sort=True)]
