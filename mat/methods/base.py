"""What a training method is: a pure choice of active modules from the history of what its probes measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np

from mat.errors import InputError
from mat.limits import Range, check_limits
from mat.modes import Mode

SPECTRA, GRADIENTS = "spectra", "gradients"
Share = Annotated[float, Range(gt=0, le=1)]
Count = Annotated[int, Range(ge=1)]


@dataclass(frozen=True)
class Observation:
    """What one probe measured. ``lambda_max``: per module, and ``integral``: the integral NTK's eigenvalues, largest
    first, where spectra were measured; ``gradient_norm``: per module, where gradients were. Empty otherwise.

    With spectra come those of sums over some of the modules: ``kinds``, eigenvalues by kind, and ``layers``, λ_max by
    layer. ``routed``: of every expert, its share of the rows (tokens) that its layer's experts were given, where the
    method asks for it.
    """

    lambda_max: Mapping[str, float]
    integral: np.ndarray
    gradient_norm: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, np.ndarray] = field(default_factory=dict)
    layers: Mapping[int, float] = field(default_factory=dict)
    routed: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """What trains until the next probe. ``frozen``: never again; ``thresholds``: the τ that decided on each module, if
    any; ``channels``: share of its output channels whose gradient a convolution of the modules passes on, 1 for all."""

    active: frozenset[str]
    frozen: frozenset[str] = frozenset()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    note: str | None = None
    channels: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Context:
    """All a choice may look at."""

    interval: int
    """Number of this interval, 0 the first."""
    modules: tuple[str, ...]
    """Names, from the input to the output."""
    depth: Mapping[str, int]
    """Layer of every module, 0 nearest the input."""
    kind: Mapping[str, str] = field(default_factory=dict)
    """What every module is: head, ffn, expert, filters, layer."""
    size: Mapping[str, int] = field(default_factory=dict)
    """Number of parameters of every module."""
    history: Sequence[Observation] = ()
    """One observation per probe so far, the newest last; empty if the method reads nothing."""
    counts: Sequence[int] = ()
    """Active modules, interval by interval, of the run that this one is matched to; empty if it is matched to none."""
    frozen: frozenset[str] = frozenset()
    """Modules that the choice before this one froze."""
    cost: Callable[[Collection[str]], float] | None = None
    """Compute of the whole training with the given modules active throughout, as a share of what the run that this one
    is matched to spent; None if it is matched to none."""
    rng: np.random.Generator
    """The method's own random stream for this interval."""
    fixed: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    """A random stream that is the same at every interval."""
    progress: float | None = None
    """Share of the training that lies behind; None where its length is not known."""


@dataclass(frozen=True)
class Method:
    """Base of every method: a frozen record of settings with a pure ``select``."""

    mode: Mode = field(default="detach", kw_only=True)
    """Backward pass of inactive modules: ``exact`` (only their weight gradients are skipped), ``detach`` (they let no
    gradient through: without residual connections nothing below a layer that is wholly inactive learns) or
    ``detach_residual`` (they let none through where a parallel path leads around them, and are exact elsewhere)."""
    observe: bool = field(default=False, kw_only=True)
    """Record spectra and gradients although the method reads nothing; their cost is measured but not charged."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """What the choice reads of its probes and pays for: ``spectra`` or ``gradients`` or both or nothing."""
    dense: ClassVar[bool] = False
    """Whether it never skips anything and runs plain PyTorch."""
    needs_length: ClassVar[bool] = False
    """Whether it must know how long the training is (``Context.progress``)."""
    needs_residual: ClassVar[bool] = False
    """Whether it needs a model whose residual paths carry the gradient around its modules."""
    needs_cost: ClassVar[bool] = False
    """Whether it must know what a choice costs beside the run that it is matched to (``Context.cost``)."""

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of modules that a model must have for it; none by default."""
        return frozenset()

    @property
    def full_gradients(self) -> bool:
        """Whether all that trains gets its full gradient."""
        return self.dense or self.mode == "exact"

    @property
    def remainder(self) -> bool:
        """Whether the integral NTK that it reads is of all parameters, the remainder's included."""
        return False

    @property
    def routes(self) -> bool:
        """Whether it reads how many tokens every expert was given."""
        return False

    def __post_init__(self) -> None:
        check_limits(self)
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

    Exactly one of ``match`` and ``share`` is given.
    """

    match: str | None = None
    """Label of the run whose number of active modules is taken, interval by interval; its last one where this run is
    longer."""
    share: Share | None = None
    """Share of the modules that train, in (0, 1]; rounded, at least one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.match is None) == (self.share is None):
            name = type(self).__name__.lower()
            raise InputError(f"{name} needs either match (a method of the same config, such as mat) or share")

    def count(self, context: Context) -> int:
        """Number of modules to train in this interval."""
        if self.share is not None:
            return max(round(self.share * len(context.modules)), 1)
        return context.counts[min(context.interval, len(context.counts) - 1)]


@dataclass(frozen=True)
class SameCompute(Method):
    """A method that spends the whole compute of the run that it is matched to."""

    match: str | None = None
    """Label of the run whose whole compute is spent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match is None:
            name = type(self).__module__.rpartition(".")[2]
            raise InputError(f"{name} needs match, a method of the same config, such as mat")


def probe_passes(measured: Collection[str], kernel: int) -> list[int]:
    """Backward passes of every measurement of a probe, each of which takes a forward pass, too; ``kernel``: of the
    kernel's estimator. One without a pass of its own (0) has both measurements from a training step, whose samples'
    gradients cost as much as a forward pass to form."""
    if not kernel:
        return [0] if measured else []
    return [kernel if what == SPECTRA else 1 for what in measured]


def check_kinds(method: Method, present: Collection[str]) -> None:
    """Raise InputError unless a model with modules of the kinds ``present`` has those that ``method`` asks for."""
    lacking = sorted(method.kinds - set(present))
    if lacking:
        raise InputError(
            f"{type(method).__name__} needs modules of a kind that must be one that the model has, "
            f"{', '.join(sorted(set(present)))}, got {lacking[0]!r}"
        )


def highest(modules: Sequence[Any], score: Mapping[Any, float], count: int) -> frozenset[Any]:
    """The ``count`` of ``modules``, or layers, with the largest scores; of equal ones those that come first."""
    return frozenset(sorted(modules, key=lambda name: -score[name])[:count])


def layers_of(context: Context) -> list[list[str]]:
    """The modules layer by layer, from the input to the output."""
    layers = sorted({context.depth[name] for name in context.modules})
    return [[name for name in context.modules if context.depth[name] == layer] for layer in layers]


def freeze_lowest(context: Context, count: int) -> Selection:
    """The ``count`` layers nearest the input never train again, all others train."""
    frozen = frozenset(name for layer in layers_of(context)[:count] for name in layer)
    return Selection(frozenset(context.modules) - frozen, frozen)
