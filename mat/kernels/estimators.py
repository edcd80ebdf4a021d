"""Estimators of a kernel, as the combinations of a sample's logits whose gradients are its rows.

A *cotangent* v, shaped like the logits (n, …), makes row i the gradient ∇ Σ_c v[i, c] f_c(x_i). k is the number
of logits of one sample: classes, or positions × vocabulary.

``sum_of_logits``  one, v = 1/√k, after Mohamadi & Sutherland, ICML 2023. Blind to what changes no sum of logits.
``projected``      r Rademacher vectors, the same for every sample; the mean over them is unbiased for ``trace``.
``loss``           one, v = ∂ loss(x_i) / ∂ f(x_i): rows are per-sample loss gradients (empirical Fisher).
``trace``          k unit vectors; the kernels are added: Σ_c of the per-logit kernels.
``full``           k unit vectors; every pair of rows, (nk, nk), row (i, c) at i·k + c.
``step``           no pass of its own: rows are the samples' shares of a training step (``mat.kernels.step``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mat.errors import InputError

# loss(logits (n, …), labels (n, …)) -> (n,): every sample's own loss
SampleLoss = Callable[[Tensor, Tensor], Tensor]

STEP = "step"


@dataclass(frozen=True)
class Estimator:
    """A named choice with what it needs. ``directions`` and ``seed`` are of ``projected``, ``loss`` of ``loss``."""

    name: str
    directions: int = 8
    seed: int = 0
    loss: SampleLoss | None = None

    def __post_init__(self) -> None:
        if self.name not in ESTIMATORS:
            raise InputError(f"unknown estimator {self.name!r}; known: {', '.join(ESTIMATORS)}")
        for name, least in (("directions", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be a whole number ≥ {least}, got {value!r}")
        if self.name == "loss" and not callable(self.loss):
            raise InputError("estimator 'loss' needs labels and loss, a function (logits, labels) -> (n,)")

    def count(self, outputs: int) -> int:
        """Backward passes for ``outputs`` = k logits a sample."""
        return backward_passes(self.name, self.directions, outputs)

    def cotangents(self, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
        """The cotangents for ``logits`` (n, …), one after the other; each sample's do not depend on the others."""
        return ESTIMATORS[self.name](self, logits, labels)


def backward_passes(name: str, directions: int, outputs: int) -> int:
    """How many the estimator ``name`` takes, with its ``directions`` and ``outputs`` = k logits a sample."""
    return {"projected": directions, "trace": outputs, "full": outputs, STEP: 0}.get(name, 1)


def _sum_of_logits(estimator: Estimator, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    yield logits.new_full((), logits[0].numel() ** -0.5).expand_as(logits)


def _projected(estimator: Estimator, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    # drawn on the CPU, so that they are the same on every device
    draws = torch.Generator().manual_seed(estimator.seed)
    for _ in range(estimator.directions):
        signs = torch.randint(0, 2, logits.shape[1:], generator=draws) * 2 - 1
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
        "mat.kernels.step.step_kernels around the step"
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
