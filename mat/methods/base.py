"""What a training method is: a pure choice of active modules from the history of what its probes measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mat.errors import InputError

SPECTRA, GRADIENTS = "spectra", "gradients"


@dataclass(frozen=True)
class Observation:
    """What one probe measured. ``lambda_max``: per module, and ``integral``: the integral NTK's eigenvalues, largest
    first, where spectra were measured; ``gradient_norm``: per module, where gradients were. Empty otherwise."""

    lambda_max: Mapping[str, float]
    integral: np.ndarray
    gradient_norm: Mapping[str, float] = field(default_factory=dict)


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
    layer, ``kind`` what they are (head, ffn, expert, filters, layer) and ``size`` their number of parameters; ``rng``
    is the method's own stream for this interval, ``fixed`` one that is the same at every interval; ``counts`` are the
    numbers of active modules, interval by interval, of the run this one is matched to (empty if it is matched to
    none); ``progress``: the share of the training that lies behind, None where its length is not known."""

    interval: int
    modules: tuple[str, ...]
    depth: Mapping[str, int]
    rng: np.random.Generator
    history: Sequence[Observation] = ()
    counts: Sequence[int] = ()
    kind: Mapping[str, str] = field(default_factory=dict)
    size: Mapping[str, int] = field(default_factory=dict)
    fixed: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    progress: float | None = None


@dataclass(frozen=True)
class Method:
    """Base of every method: a frozen record of settings with a pure ``select``.

    ``mode``: the backward pass of inactive modules, ``exact`` or ``detach``. Detached modules let no gradient through:
    without residual connections nothing below a layer that is wholly inactive learns, whatever is selected there.
    ``reads``: what the choice reads of its probes, ``spectra`` or ``gradients`` or both or nothing; it pays for what it
    reads. ``observe``: a method that reads nothing records both all the same; their cost is measured but not charged.
    ``remainder``: the integral NTK that it reads is of all parameters, the remainder's included. ``dense``: never skips
    anything and runs plain PyTorch. ``needs_length``: it must know how long the training is (``Context.progress``).
    """

    mode: str = field(default="detach", kw_only=True)
    observe: bool = field(default=False, kw_only=True)
    reads = frozenset()
    remainder = False
    dense = False
    needs_length = False

    def __post_init__(self) -> None:
        if self.mode not in ("exact", "detach"):
            raise InputError(f"mode must be 'exact' or 'detach', got {self.mode!r}")
        if self.observe and self.reads:
            raise InputError(
                f"observe is for methods that read nothing; this one reads {' and '.join(sorted(self.reads))}, "
                "which are recorded and charged anyway: leave observe out"
            )

    def measured(self, labelled: bool = True) -> frozenset[str]:
        """What its probes measure: what it reads, or observes; gradients only where samples are ``labelled``."""
        if not self.observe:
            return frozenset(self.reads)
        return frozenset({SPECTRA, GRADIENTS} if labelled else {SPECTRA})

    def select(self, context: Context) -> Selection:
        """The modules that train from this probe to the next."""
        raise NotImplementedError

    def periods(self, modules: tuple[str, ...], depth: Mapping[str, int]) -> dict[str, int]:
        """Modules that train only every k-th step, with k times the learning rate; none by default."""
        return {}

    def length(self, steps: int, step: int, budget: int | None) -> tuple[int, int]:
        """How many steps are trained, and over how many the learning rate's schedule goes; all ``steps`` by default.

        ``step``: MACs of a step with every module active; ``budget``: all that the run this one is matched to spent,
        in MACs, None when it is matched to none.
        """
        return steps, steps


@dataclass(frozen=True)
class Matched(Method):
    """A method that trains a given number of modules: as many as the run that it is matched to, interval by interval,
    or a fixed ``share`` of all.

    ``match`` names that run (in a config: its label), whose last number is held when this run is longer; ``share`` in
    (0, 1] of the modules, rounded, at least one. Exactly one of the two is given.
    """

    match: str | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.match is None) == (self.share is None):
            name = type(self).__name__.lower()
            raise InputError(f"{name} needs either match (a method of the same config, such as mat) or share")
        if self.share is not None:
            require_share("share", self.share)

    def count(self, context: Context) -> int:
        """Number of modules to train in this interval."""
        if self.match is not None:
            return context.counts[min(context.interval, len(context.counts) - 1)]
        return max(round(self.share * len(context.modules)), 1)


def probe_passes(measured: Collection[str], kernel: int) -> list[int]:
    """Backward passes of every measurement of a probe, each of which takes a forward pass, too; ``kernel``: of the
    kernel's estimator."""
    return [kernel if what == SPECTRA else 1 for what in measured]


def require_share(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is a share in (0, 1]."""
    if not (isinstance(value, int | float) and 0 < value <= 1):
        raise InputError(f"{name} must be in (0, 1], got {value!r}")


def highest(modules: Sequence[str], score: Mapping[str, float], count: int) -> frozenset[str]:
    """The ``count`` of ``modules`` with the largest scores; of equal ones those that come first."""
    return frozenset(sorted(modules, key=lambda name: -score[name])[:count])


def layers_of(context: Context) -> list[list[str]]:
    """The modules layer by layer, from the input to the output."""
    layers = sorted({context.depth[name] for name in context.modules})
    return [[name for name in context.modules if context.depth[name] == layer] for layer in layers]
