"""What is measured of estimators, and the budget that limits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

from mat.errors import InputError
from mat.experiments.checks import check_increasing
from mat.experiments.config.spec import Probe
from mat.kernels.estimators import POSITIONED, STEP, backward_passes
from mat.kernels.probes.budget import Extent
from mat.limits import Range, check_limits

ESTIMATORS = ("full", "trace", "sum_of_logits", "projected", "loss", STEP)
Count = Annotated[int, Range(ge=1)]


class Measurement(NamedTuple):
    """One estimator with its number of directions (0: it takes none) and of positions (0: all), and the sizes n that
    it is affordable at. ``known``: how many of its directions are those of the measurement before it, which has all
    of these sizes."""

    estimator: str
    directions: int
    positions: int
    sizes: tuple[int, ...]
    known: int = 0


@dataclass(frozen=True)
class Settings:
    """What is measured, at every checkpoint, on every probe set.

    The budget, k being the logits of one sample: an estimator of b backward passes (k for ``full`` and
    ``trace``, r for ``projected``, else 1) at sizes n with n·b ≤ ``sample_passes``; ``full`` besides only with
    n·k ≤ ``full_rows`` (its matrix is nk × nk); ``projected`` only with r < k (with more, ``trace`` is exact and no
    dearer). ``step``, which has no pass of its own, at sizes up to the recipe's batch.
    """

    shares: tuple[Annotated[float, Range(ge=0, le=1)], ...] = (0, 0.3, 1)
    """Checkpoints, as increasing shares of the run's steps, in [0, 1]."""
    probe_sets: Count = 2
    """Disjoint draws of as many training samples as the largest size; on two at least a ranking can be compared with
    the reference's on other samples."""
    sizes: tuple[Annotated[int, Range(ge=2)], ...] = (4, 8, 16, 32, 64, 128)
    """Numbers of samples, increasing, beside the default's; a probe takes the first so many of a draw."""
    estimators: tuple[Literal[ESTIMATORS], ...] = ESTIMATORS
    """Of full, trace, sum_of_logits, projected, loss and step."""
    directions: tuple[Annotated[int, Range(ge=1, le=4096)], ...] = (1, 2, 4, 8)
    """Of the estimator projected: it is measured once with each, increasing, and with the default's."""
    reference_directions: Annotated[int, Range(ge=0, le=4096)] = 32
    """Of projected where it stands for trace: more than those, drawn apart from them, at all positions; 0: none."""
    positions: tuple[Count, ...] = ()
    """Of a text's positions, increasing: sum_of_logits, projected and loss are measured at all of them, and at each of
    these numbers that are fewer; the default's is one of them."""
    full_rows: Annotated[int, Range(ge=0, le=1 << 15)] = 640
    """Largest matrix of the estimator full: n samples of k logits have n · k rows."""
    sample_passes: Count = 4096
    """Largest product of samples and backward passes of an estimator."""

    def __post_init__(self) -> None:
        for name in ("shares", "sizes", "estimators", "directions", "positions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_limits(self)
        for name in ("shares", "sizes", "directions", *(["positions"] if self.positions else [])):
            check_increasing(name, getattr(self, name))
        if not self.estimators or len(set(self.estimators)) < len(self.estimators):
            raise InputError(
                f"estimators must be different ones of {', '.join(ESTIMATORS)}, got {list(self.estimators)}"
            )
        if 0 < self.reference_directions <= max(self.directions):
            raise InputError(
                f"reference_directions must be 0 or more than the directions {list(self.directions)}, got "
                f"{self.reference_directions}"
            )

    def beside(self, probe: Probe, extent: Extent) -> Settings:
        """With the default among what is measured: the family's own probe, as far as its budget goes (``extent``)."""
        projected = (extent.directions,) if probe.estimator == "projected" else ()
        some = (probe.positions,) if probe.positions else ()
        return replace(
            self,
            sizes=sorted({*self.sizes, extent.n}),
            directions=sorted({*self.directions, *projected}),
            positions=sorted({*self.positions, *some}),
        )

    def measurements(self, logits: int, positions: int, batch: int) -> list[Measurement]:
        """What the budget allows for a model of ``logits`` outputs per sample, at so many ``positions`` of it, that is
        trained on ``batch`` samples a step."""
        found = []
        for name in self.estimators:
            some = [p for p in self.positions if p < positions] if name in POSITIONED else []
            asked = [(p, r, known) for p in (0, *some) for r, known in self._rounds(name, p, logits)]
            for p, r, known in asked:
                sizes = self._affordable(name, r, logits, batch)
                found += [Measurement(name, r, p, sizes, known)] if sizes else []
        return found

    def affordable(self, logits: int, positions: int, batch: int) -> list[Measurement]:
        """``measurements``. Raises InputError where the budget allows none."""
        found = self.measurements(logits, positions, batch)
        if not found:
            raise InputError(
                f"no estimator is affordable with {logits} logits per sample; raise sample_passes, or measure "
                "sum_of_logits"
            )
        return found

    def size(self, found: Sequence[Measurement], batch: int) -> int:
        """Samples of a probe set that all of what is measured is done on, at the recipe's ``batch``."""
        return max(max(one.sizes[-1], batch if one.estimator == STEP else 0) for one in found)

    def _rounds(self, name: str, positions: int, logits: int) -> list[tuple[int, int]]:
        """Numbers of directions, and how many of them are those of the one before."""
        if name != "projected":
            return [(0, 0)]
        rounds = list(zip(self.directions, (0, *self.directions[:-1]), strict=True))
        reference = [] if positions or not self.reference_directions else [(self.reference_directions, 0)]
        return [(r, known) for r, known in (*rounds, *reference) if r < logits]

    def _affordable(self, name: str, directions: int, logits: int, batch: int) -> tuple[int, ...]:
        if name == STEP:
            return tuple(n for n in self.sizes if n <= batch)
        most = self.sample_passes if name != "full" else min(self.sample_passes, self.full_rows)
        return tuple(n for n in self.sizes if n * backward_passes(name, directions, logits) <= most)
