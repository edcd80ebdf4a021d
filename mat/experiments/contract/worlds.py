"""Runs as a method sees them: modules in layers, and what was measured of them, interval by interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mat.methods.base import Context, Method, Observation


@dataclass(frozen=True)
class World:
    """Modules with their ``depth``, ``kind`` and ``size``; their ``values`` at every probe; ``counts`` of a matched
    run; the ``seed`` of the method's streams."""

    depth: tuple[int, ...]
    kind: tuple[str, ...]
    size: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    counts: tuple[int, ...]
    seed: int

    def names(self, renamed: bool = False) -> tuple[str, ...]:
        """In the modules' order; ``renamed``: others, which sort the other way round."""
        n = len(self.depth)
        return tuple(f"z{n - i}" if renamed else f"m{i}" for i in range(n))

    def at(self, t: int, asked: Method, renamed: bool = False) -> Context:
        """What the method ``asked`` sees at interval t; what it does not read it is not given."""
        names = self.names(renamed)

        def named(values):
            return dict(zip(names, values, strict=True))

        def sums(of: tuple, seen: tuple[float, ...]) -> dict:
            """The values by what each module is ``of``, largest first: spectra as of kernels that are orthogonal."""
            pairs = list(zip(seen, of, strict=True))
            return {one: np.sort([v for v, other in pairs if other == one])[::-1] for one in sorted(set(of))}

        history = tuple(
            Observation(
                named(seen),
                np.sort(seen)[::-1],
                named(seen[::-1]),
                sums(self.kind, seen),
                {layer: float(values[0]) for layer, values in sums(self.depth, seen).items()},
            )
            for seen in self.values[: t + 1]
        )
        return Context(
            interval=t,
            modules=names,
            depth=named(self.depth),
            kind=named(self.kind),
            size=named(self.size),
            history=history if asked.reads else (),
            counts=self.counts,
            cost=lambda active: 2 * len(active) / len(names),
            rng=np.random.default_rng(self.seed + t),
            fixed=np.random.default_rng(self.seed),
            progress=t / len(self.values),
        )


def worlds(count: int) -> Iterator[World]:
    """Always the same ones. Few values, so that many are equal, zero among them; the first module is a head."""
    rng = np.random.default_rng(0)
    for seed in range(count):
        n, probes = int(rng.integers(1, 9)), int(rng.integers(1, 7))
        yield World(
            depth=tuple(sorted(rng.integers(0, 5, n).tolist())),
            kind=("head", *rng.choice(("head", "ffn"), n - 1).tolist()),
            size=tuple(rng.integers(1, 6, n).tolist()),
            values=tuple(map(tuple, (rng.integers(0, 9, (probes, n)) / 2).tolist())),
            counts=tuple(rng.integers(1, n + 1, int(rng.integers(1, 5))).tolist()),
            seed=seed,
        )
