"""What a method has seen, as plain values and as records, and back: rows of modules, and of the sums of their kernels.

A row of a sum is one ``value``: of the scope ``all`` an eigenvalue of the integral NTK by ``rank``, 0 the largest; of
``kind`` one of a kind's own sum (``of``: the kind), left out where it is the integral's; of ``layer`` the λ_max of a
layer's sum; of ``routed`` an expert's share of its layer's tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mat.methods.base import Observation

ALL, KIND, LAYER, ROUTED = "all", "kind", "layer", "routed"


def plain(seen: Observation) -> dict[str, Any]:
    """An observation as lists and mappings whose keys are texts, which JSON leaves as they are."""
    kinds = {kind: values.tolist() for kind, values in seen.kinds.items()}
    return {**vars(seen), "integral": seen.integral.tolist(), "kinds": kinds, "layers": list(seen.layers.items())}


def of_plain(found: Mapping[str, Any]) -> Observation:
    """The observation that ``plain`` made."""
    kinds = {kind: np.array(values) for kind, values in found["kinds"].items()}
    arrays = {"integral": np.array(found["integral"]), "kinds": kinds, "layers": dict(found["layers"])}
    return Observation(**{**found, **arrays})


def sums(seen: Observation) -> Iterator[dict[str, Any]]:
    """The rows of the sums of one probe; none where no kernel was measured."""
    kinds = {kind: own for kind, own in seen.kinds.items() if not np.array_equal(own, seen.integral)}
    found: Iterable[tuple[str, str, Iterable[float]]] = (
        (ALL, "", seen.integral),
        *((KIND, kind, values) for kind, values in kinds.items()),
        *((LAYER, str(layer), [value]) for layer, value in seen.layers.items()),
        *((ROUTED, expert, [share]) for expert, share in seen.routed.items()),
    )
    for scope, of, values in found:
        for rank, value in enumerate(values):
            yield {"scope": scope, "of": of, "rank": rank, "value": float(value)}


def observations(probes: pd.DataFrame, spectra: pd.DataFrame) -> list[Observation]:
    """What the probes saw whose rows these are, modules in the order of theirs; exactly as it was."""
    grouped = spectra.groupby(["interval", "scope", "of"], sort=False)["value"]
    values = {key: group.to_numpy(dtype=float) for key, group in grouped}
    return [_observation(rows, t, values) for t, rows in probes.groupby("interval", sort=True)]


def _observation(rows: pd.DataFrame, t: Any, values: Mapping[Any, np.ndarray]) -> Observation:
    def single(scope: str) -> dict[str, float]:
        return {of: float(found[0]) for (interval, one, of), found in values.items() if (interval, one) == (t, scope)}

    integral = values[t, ALL, ""]
    return Observation(
        _known(rows, "lambda_max"),
        integral,
        _known(rows, "gradient_norm"),
        {kind: values.get((t, KIND, kind), integral) for kind in dict.fromkeys(rows["kind"])},
        {int(layer): value for layer, value in single(LAYER).items()},
        single(ROUTED),
    )


def _known(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """By module; empty where it was not measured."""
    found = rows[column].to_numpy(dtype=float)
    return {} if np.isnan(found).all() else dict(zip(rows["module"], found.tolist(), strict=True))
