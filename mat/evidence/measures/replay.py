"""What MAT would have selected of the modules of a recorded run, by other settings: nothing is trained.

The spectra are those of the run as it was trained, so only a replay of the run's own settings is a run of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mat.evidence.measures.over_seeds import Row
from mat.evidence.runs.pooled import Tables
from mat.methods.base import Context, Observation, Selection
from mat.methods.history import observations
from mat.methods.mat import MAT


@dataclass(frozen=True)
class Trajectory:
    """What the probes of one run saw. ``modules`` from the input to the output, with their ``depth``, ``kind`` and
    ``size``; ``starts``: the step of each probe; ``steps``: of the whole run."""

    modules: tuple[str, ...]
    depth: dict[str, int]
    kind: dict[str, str]
    size: dict[str, int]
    history: tuple[Observation, ...]
    starts: tuple[int, ...]
    steps: int

    @cached_property
    def contexts(self) -> list[Context]:
        """What a controller gives a method at every probe; the same for all methods that are replayed."""
        stream = np.random.default_rng(0)  # they draw nothing
        about = {"modules": self.modules, "depth": self.depth, "kind": self.kind, "size": self.size}
        return [
            Context(interval=t, history=self.history[: t + 1], rng=stream, fixed=stream, **about)
            for t in range(len(self.history))
        ]


def trajectory(tables: Tables, run: Row) -> Trajectory | None:
    """Of a run; None where its spectra were not recorded."""
    probes, spectra = tables.recorded(run["run"])
    if spectra.empty:
        return None
    history = observations(probes, spectra)
    modules = probes.drop_duplicates("module")
    names = tuple(modules["module"])
    about: list[dict[str, Any]] = [
        dict(zip(names, modules[name].tolist(), strict=True)) for name in ("layer", "kind", "parameters")
    ]
    starts = tuple(sorted(set(probes["step"])))
    return Trajectory(names, *about, tuple(history), starts, int(run["steps"]))


def selections(seen: Trajectory, method: MAT) -> list[Selection]:
    """What ``method`` selects at every probe: its own ``select``, given what a controller gives it."""
    return list(map(method.select, seen.contexts))


def shares(seen: Trajectory, chosen: Sequence[Selection], parts: int = 1) -> list[float]:
    """The mean share of active modules over the steps of each of so many equal parts of the run, in [0, 1]; before the
    first probe all are."""
    values = np.array([1.0, *(len(one.active) / len(seen.modules) for one in chosen)])
    edges = np.array([0, *seen.starts, seen.steps], dtype=float)
    area = np.concatenate([[0.0], np.cumsum(values * np.diff(edges))])
    ends = np.linspace(0, seen.steps, parts + 1)
    return (np.diff(np.interp(ends, edges, area)) / np.diff(ends)).tolist()
