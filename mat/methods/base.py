"""What a training method is: a pure choice of active modules from the history of spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mat.errors import InputError


@dataclass(frozen=True)
class Observation:
    """The spectra of one probe: λ_max per module, and the integral NTK's eigenvalues, largest first."""

    lambda_max: Mapping[str, float]
    integral: np.ndarray


@dataclass(frozen=True)
class Selection:
    """What trains until the next probe. ``frozen``: never again; ``threshold``: the τ that decided, if any."""

    active: frozenset[str]
    frozen: frozenset[str] = frozenset()
    threshold: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Context:
    """All a choice may look at. ``history`` has one observation per probe so far, the newest last (empty if
    the method needs no probe); ``modules`` are ordered from the input to the output; ``depth`` gives their
    layer; ``rng`` is the method's own stream for this interval; ``counts`` are the numbers of active modules,
    interval by interval, of the run this one is matched to (empty if it is matched to none)."""

    interval: int
    modules: tuple[str, ...]
    depth: Mapping[str, int]
    rng: np.random.Generator
    history: Sequence[Observation] = ()
    counts: Sequence[int] = ()


@dataclass(frozen=True)
class Method:
    """Base of every method: a frozen record of settings with a pure ``select``.

    ``mode``: the backward pass of inactive modules, ``exact`` or ``detach``. ``observe``: record spectra
    although the choice does not read them; their cost is measured but not charged. ``needs_probe``: the
    choice reads spectra, so it pays for them. ``dense``: never skips anything and runs plain PyTorch.
    """

    mode: str = field(default="detach", kw_only=True)
    observe: bool = field(default=False, kw_only=True)
    needs_probe = False
    dense = False

    def __post_init__(self) -> None:
        if self.mode not in ("exact", "detach"):
            raise InputError(f"mode must be 'exact' or 'detach', got {self.mode!r}")

    def select(self, context: Context) -> Selection:
        """The modules that train from this probe to the next."""
        raise NotImplementedError

    def periods(self, modules: tuple[str, ...], depth: Mapping[str, int]) -> dict[str, int]:
        """Modules that train only every k-th step, with k times the learning rate; none by default."""
        return {}


def require_share(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is a share in (0, 1]."""
    if not (isinstance(value, int | float) and 0 < value <= 1):
        raise InputError(f"{name} must be in (0, 1], got {value!r}")
