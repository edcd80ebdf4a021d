"""What is read off one run's probes: how modules differ in λ_max, by what, and how it goes with rank and with time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mat.ranking import kendall, signs


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
    found = _positive(probes, kind).groupby("interval")["lambda_max"]
    ratios = found.max() / found.min()
    return float(np.median(ratios)) if len(ratios) else float("nan")


def spread_within_layers(probes: pd.DataFrame, kind: str) -> float:
    """Median over probes and layers of max λ_max / min λ_max over a layer's modules of ``kind``: the same where two
    layers differ, whatever is between them. A layer with fewer than two of a positive λ_max has no ratio."""
    layers = _positive(probes, kind).groupby(["interval", "layer"])["lambda_max"].agg(["max", "min", "count"])
    ratios = (layers["max"] / layers["min"])[layers["count"] > 1]
    return float(np.median(ratios)) if len(ratios) else float("nan")


def rank_correlation(probes: pd.DataFrame, kind: str) -> float:
    """Mean over probes of Spearman's ρ between log λ_max, which is ranked as λ_max is, and effective rank over the
    modules of ``kind``.

    A probe with fewer than three modules, or with a constant column, has no ρ and is left out.
    """
    chosen = _positive(probes, kind)
    known = chosen[np.isfinite(chosen["effective_rank"].to_numpy(dtype=float))]
    groups = known.groupby("interval")
    ranks = groups[["lambda_max", "effective_rank"]].rank().to_numpy()
    pairs = [ranks[rows].T for _, rows in sorted(groups.indices.items())]
    values = [np.corrcoef(pair)[0, 1] for pair in pairs if pair.shape[1] >= 3 and np.ptp(pair, axis=1).all()]
    return float(np.mean(values)) if values else float("nan")


def _positive(probes: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The modules of ``kind`` with a positive λ_max."""
    return probes[(probes["kind"] == kind) & (probes["lambda_max"] > 0)]


def variance_parts(probes: pd.DataFrame) -> dict[str, float]:
    """Shares of the variance of log λ_max over the modules of one probe, mean over probes: between ``kind``s, between
    the ``layer``s within a kind, and of a ``module`` within both; together 1.

    Modules with λ_max = 0 are left out, and probes in which no two modules differ. Without any other, NaN.
    """
    found = probes[probes["lambda_max"] > 0]
    logs = np.log(found["lambda_max"])
    means = [logs.groupby([found[name] for name in by]).transform("mean") for by in _NESTED]
    within = [((logs - mean) ** 2).groupby(found["interval"]).sum() for mean in means]
    whole = within[0].where(within[0] > 0)
    left = [(rest / whole).mean() for rest in within]  # what is not explained by less and less of them
    return {"kind": 1 - left[1], "layer": left[1] - left[2], "module": left[2]}


def order_kept(probes: pd.DataFrame, step: int | None) -> float:
    """Kendall's τ_b between the λ_max of all modules at two probes, ``step`` apart, mean over probes, or the first and
    the last (None). NaN where there are no two, or none that orders anything."""
    values = probes.pivot(index="interval", columns="module", values="lambda_max").sort_index().to_numpy(dtype=float)
    first, second = (values[:1], values[-1:]) if step is None else (values[:-step], values[step:])
    taus = kendall(signs(first), signs(second)) if len(values) > 1 else np.empty(0)
    return float(np.nanmean(taus)) if np.isfinite(taus).any() else float("nan")


_NESTED = (["interval"], ["interval", "kind"], ["interval", "kind", "layer"])
