"""Estimators of a kernel, as the combinations of a sample's logits whose gradients are its rows.

A *cotangent* v, shaped like the logits (n, …), makes row i the gradient ∇ Σ_c v[i, c] f_c(x_i). k is the number
of logits of one sample: classes, or positions × vocabulary.

``sum_of_logits``  one, v = 1/√k, after Mohamadi & Sutherland, ICML 2023. Blind to what changes no sum of logits.
``projected``      r Rademacher vectors, the same for every sample; the mean over them is unbiased for ``trace``.
``loss``           one, v = ∂ loss(x_i) / ∂ f(x_i): rows are per-sample loss gradients (empirical Fisher).
``trace``          k unit vectors; the kernels are added: Σ_c of the per-logit kernels.
``full``           k unit vectors; every pair of rows, (nk, nk), row (i, c) at i·k + c.
``step``           no pass of its own: rows are the samples' shares of a training step (``mat.kernels.probes.step``).

A sample whose logits are (T, …), a text, has T *positions*. The first three can be of p of them, drawn once by the
seed and the same for every sample: v is zero elsewhere and √(T/p) times as large there, which leaves ``projected``
unbiased for ``trace``. It saves no multiply-adds: the backward pass goes through the zeros as through anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mat.errors import InputError
from mat.seeds import generator

# loss(logits (n, …), labels (n, …)) -> (n,): every sample's own loss
SampleLoss = Callable[[Tensor, Tensor], Tensor]

STEP = "step"


@dataclass(frozen=True)
class Estimator:
    """A named choice with what it needs. ``directions`` are of ``projected``, ``loss`` of ``loss``; ``seed`` draws
    directions and positions. ``positions``: how many of a sample's logits' first dimension, all where that has no
    more; 0: all. ``skip``: directions of the seed that are left out, before those that are taken."""

    name: str
    directions: int = 4
    seed: int = 0
    loss: SampleLoss | None = None
    positions: int = 0
    skip: int = 0

    def __post_init__(self) -> None:
        if self.name not in ESTIMATORS:
            raise InputError(f"unknown estimator {self.name!r}; known: {', '.join(ESTIMATORS)}")
        for name, least in (("directions", 1), ("seed", 0), ("positions", 0), ("skip", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be a whole number ≥ {least}, got {value!r}")
        if self.name == "loss" and not callable(self.loss):
            raise InputError("estimator 'loss' needs labels and loss, a function (logits, labels) -> (n,)")
        check_positions(self.name, self.positions)

    def count(self, outputs: int) -> int:
        """Backward passes for ``outputs`` = k logits a sample."""
        return backward_passes(self.name, self.directions, outputs)

    def cotangents(self, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
        """The cotangents for ``logits`` (n, …), one after the other; each sample's do not depend on the others."""
        found, shape = ESTIMATORS[self.name](self, logits, labels), logits.shape[1:]
        if not 0 < self.positions < positions_of(shape):
            return found
        weights = logits.new_zeros(shape[0])
        weights[self.drawn(shape[0])] = (shape[0] / self.positions) ** 0.5
        weights = weights.reshape(-1, *[1] * (len(shape) - 1))
        return (cotangent * weights for cotangent in found)

    def drawn(self, length: int) -> Tensor:
        """The positions (p,) taken of ``length`` ≥ p; drawn on the CPU, so that they are the same on every device."""
        return torch.randperm(length, generator=generator(self.seed, "positions"))[: self.positions]


def check_positions(name: str, positions: int) -> None:
    """Raise InputError where the estimator ``name`` cannot be of some ``positions`` alone; 0: all."""
    if positions and name not in POSITIONED:
        raise InputError(
            f"estimator {name!r} is of all positions, got positions = {positions}; those that can be of some are "
            f"{', '.join(POSITIONED)}"
        )


def positions_of(shape: torch.Size) -> int:
    """T, the positions of a sample whose logits have this ``shape``, (T, …) or (k,): those without any have one."""
    return shape[0] if len(shape) > 1 else 1


def backward_passes(name: str, directions: int, outputs: int) -> int:
    """How many the estimator ``name`` takes, with its ``directions`` and ``outputs`` = k logits a sample."""
    return {"projected": directions, "trace": outputs, "full": outputs, STEP: 0}.get(name, 1)


def _sum_of_logits(estimator: Estimator, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    yield logits.new_full((), logits[0].numel() ** -0.5).expand_as(logits)


def _projected(estimator: Estimator, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    # drawn on the CPU, so that they are the same on every device
    draws = torch.Generator().manual_seed(estimator.seed)
    for at in range(estimator.skip + estimator.directions):
        signs = torch.randint(0, 2, logits.shape[1:], generator=draws) * 2 - 1
        if at < estimator.skip:
            continue
        yield (signs.to(logits) * estimator.directions**-0.5).expand_as(logits)


def _loss(estimator: Estimator, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    if labels is None:
        raise InputError("estimator 'loss' needs labels, one entry per sample")
    assert estimator.loss is not None  # else there is no such Estimator
    outputs = logits.detach().requires_grad_()
    yield torch.autograd.grad(sample_losses(estimator.loss, outputs, labels).sum(), outputs)[0]


def sample_losses(loss: SampleLoss, logits: Tensor, labels: Tensor) -> Tensor:
    """(n,), of ``logits`` (n, …). Raises InputError where ``loss`` gives no value per sample that depends on them."""
    losses = loss(logits, labels)
    if not (isinstance(losses, Tensor) and losses.requires_grad):
        raise InputError("loss must return a tensor that depends on the logits, one value per sample")
    if losses.shape != (len(logits),):
        raise InputError(
            f"loss must return one value per sample, shape ({len(logits)},), got {tuple(losses.shape)}; "
            "a mean over the batch would mix the samples"
        )
    return losses


def _of_a_step(estimator: Estimator, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    raise InputError(
        f"estimator {STEP!r} takes its kernels from a training step and has no pass of its own: use a Controller, or "
        "mat.kernels.probes.step.step_kernels around the step"
    )


def _units(estimator: Estimator, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    k = logits[0].numel()
    for c in range(k):
        unit = logits.new_zeros(k)
        unit[c] = 1
        yield unit.reshape(logits.shape[1:]).expand_as(logits)


ESTIMATORS: dict[str, Callable[[Estimator, Tensor, Tensor | None], Iterator[Tensor]]] = {
    "sum_of_logits": _sum_of_logits,
    "projected": _projected,
    "loss": _loss,
    "trace": _units,
    "full": _units,
    STEP: _of_a_step,
}
POSITIONED = ("sum_of_logits", "projected", "loss")  # those that can be of some positions alone
