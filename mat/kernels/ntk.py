"""Modular neural tangent kernels: one Gram matrix per module of a partition, from one pass over a model.

Θ_l = J_l J_lᵀ with J_l the Jacobian of the outputs on n samples with respect to the module's parameters
(Shi et al., NeurIPS 2023). Which rows J_l has is the estimator's choice (``mat.kernels.estimators``).

Products are in the model's own precision, Gram matrices in float64. The parameters of most models are followed
in one pass (``mat.kernels.batched``); one that a function without a rule uses is differentiated sample by sample
(``mat.kernels.per_sample``), slower and just as exact, with a warning that names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn

from mat.errors import InputError, listed
from mat.forward import Inputs, evaluation
from mat.kernels import batched, per_sample
from mat.kernels.batched import Found
from mat.kernels.estimators import Estimator, SampleLoss
from mat.kernels.reasons import Why
from mat.kernels.request import Grams, Request
from mat.kernels.spectrum import spectrum
from mat.partition.effect.verdicts import confirm, idle_parameters
from mat.partition.partition import Partition

NORMALISATIONS = ("raw", "cosine", "per_parameter")
ONE_PASS, SAMPLE_LOOP = "one pass", "sample loop"
MEMORY = 2**28


class Kernels(dict[str, Tensor]):
    """Module -> its kernel, float64, (n, n) or (nk, nk). ``ways``: how each was computed."""

    def __init__(self, grams: Grams, partition: Partition, estimator: Estimator, n: int, ways: dict[str, str]) -> None:
        super().__init__(grams)
        self.partition, self.estimator, self.n, self.ways = partition, estimator, n, ways

    def normalised(self, normalisation: str) -> dict[str, Tensor]:
        """The kernels ``raw``, ``cosine`` (unit rows) or ``per_parameter``. Raises InputError otherwise."""
        sizes = {row["module"]: row["parameters"] for row in self.partition.table()}
        return {name: normalise(gram, normalisation, sizes[name]) for name, gram in self.items()}

    def table(self, normalisation: str = "raw") -> pd.DataFrame:
        """One row per module: its spectrum (λ_max, trace, effective rank) and the choices behind it."""
        grams = self.normalised(normalisation)
        choices = {"estimator": self.estimator.name, "normalisation": normalisation, "n": self.n}
        return pd.DataFrame(
            {**row, **vars(spectrum(grams[row["module"]].cpu())), **choices, "way": self.ways[row["module"]]}
            for row in self.partition.table()
        )


def modular_ntk(
    model: nn.Module,
    partition: Partition,
    inputs: Inputs,
    estimator: str | Estimator = "projected",
    *,
    labels: Tensor | None = None,
    loss: SampleLoss | None = None,
    directions: int = 4,
    seed: int = 0,
    memory: int = MEMORY,
    verify: bool = True,
    check: int = 1,
    remainder: bool = False,
) -> Kernels:
    """The kernel of every module on the samples ``inputs``: keyword arguments of the model, tensors (n, …).

    One sample's outputs may have any shape, (n, …) in all; (n,) are one logit each. ``estimator``: a name, or an
    ``Estimator`` that holds the choices as well. ``labels`` and ``loss`` (logits, labels -> (n,)) belong to ``loss``,
    ``directions`` and ``seed`` to ``projected``. ``memory``: bytes of working space beside the activations of one
    forward pass. ``verify``: confirm how the partition was cut (``mat.partition.effect``); compare the outputs of a few
    samples with those in another batch, alone, and with the generators in another state; and where some function
    between a layer and the outputs might mix or move samples, find by a second backward pass which sample every row
    belongs to (a third, where there are several cotangents, and more for very many samples). Without it, shapes are
    believed where only one reading is likely. ``check``: how many of the first samples are compared with plain
    automatic differentiation (0: none); modules that differ are differentiated sample by sample, with a warning.
    ``remainder``: one more kernel, of the remainder; with it they add up to the kernel of all trainable parameters.

    The model is probed in evaluation mode and left as it was: mode, gradients, ``requires_grad``, generators.
    Raises InputError for a partition that gradients contradict, unknown or missing choices, inputs that are no batch,
    outputs without a dimension of samples, outputs that depend on the other samples of a batch or on chance
    (``mat.kernels.premise``), or a ``full`` kernel beyond 4 GiB.
    """
    if not isinstance(estimator, Estimator):
        estimator = Estimator(estimator, directions, seed, loss)
    partition = partition.with_remainder() if remainder else partition
    return kernels_by(model, partition, inputs, [estimator], labels, memory, verify, check)[0]


def kernels_by(
    model: nn.Module,
    partition: Partition,
    inputs: Inputs,
    estimators: Sequence[Estimator],
    labels: Tensor | None = None,
    memory: int = MEMORY,
    verify: bool = True,
    check: int = 1,
) -> list[Kernels]:
    """``modular_ntk`` by each of the ``estimators``, which share one forward pass and the tracing of its rows."""
    if check < 0:
        raise InputError(f"check must be a number of samples ≥ 0, got {check!r}")
    request = Request.of(model, partition, inputs, labels, estimators[0], memory)
    requests = [replace(request, estimator=estimator) for estimator in estimators]
    with evaluation(model):
        found = batched.kernels(requests, verify)
        if verify:  # behind the refusals of inputs, which cost less
            confirm(model, partition, request.inputs)
        completed = []
        for each, of in zip(requests, found, strict=True):  # no comprehension: warnings name the caller by its depth
            completed.append(_completed(each, of, partition, verify, check))
        return completed


def _completed(request: Request, found: Found, partition: Partition, verify: bool, check: int) -> Kernels:
    """With what could not be followed, or differs, differentiated sample by sample."""
    slow = set(found.unfollowed)
    if slow:
        for why in Why:
            _warn(why, {name for name, reason in found.unfollowed.items() if reason is why})
        per_sample.add_kernels(request, slow, found.grams, request.n, found.shape)
    if verify:
        _warn_of_idle(request, partition, found.grams)
    wrong = _wrong(request, found, min(check, request.n)) if check else set()
    if wrong:
        _warn(Why.DIFFERENT, wrong)
        again = {name for name in request.pieces if request.owners(name) & wrong}
        grams = {name: torch.zeros_like(gram) for name, gram in found.grams.items()}
        per_sample.add_kernels(request, again, grams, request.n, found.shape)
        found.grams.update({name: grams[name] for name in wrong})
        slow |= again
    ways = {
        module.name: SAMPLE_LOOP if {p.parameter for p in module.slices} & slow else ONE_PASS
        for module in partition.modules
    }
    return Kernels(found.grams, partition, request.estimator, request.n, ways)


def normalise(gram: Tensor, normalisation: str, parameters: int) -> Tensor:
    """``raw``; ``cosine``: unit rows, zero rows stay zero; ``per_parameter``: divided by ``parameters``."""
    check_normalisation(normalisation)
    if normalisation == "raw":
        return gram
    if normalisation == "cosine":
        scale = gram.diagonal().clamp(min=0).sqrt()
        scale = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
        return gram * scale[:, None] * scale[None, :]
    return gram / max(parameters, 1)


def check_normalisation(name: str) -> None:
    """Raise InputError unless ``name`` is a known normalisation."""
    if name not in NORMALISATIONS:
        raise InputError(f"unknown normalisation {name!r}; known: {', '.join(NORMALISATIONS)}")


def _wrong(request: Request, found: Found, few: int) -> set[str]:
    """Modules whose kernels on the first ``few`` samples are not those of plain automatic differentiation, beyond
    what the parameters' precision ε explains.

    Allowed is 1 % (or 16 ε) of √(Θ_ii Θ_jj), and 1e-6 (or ε²) of the largest entry of all modules.
    """
    rows = few * (found.shape.numel() if request.full else 1)
    near = torch.stack([gram[:rows, :rows] for gram in found.grams.values()])
    exact = torch.zeros_like(near)
    per_sample.add_kernels(request, request.parameters, dict(zip(found.grams, exact, strict=True)), few, found.shape)
    eps = torch.finfo(next(iter(request.parameters.values())).dtype).eps
    relative, absolute = max(1e-2, 16 * eps), max(1e-6, eps**2)
    finite = exact.isfinite().all(2).all(1)  # an overflow is nobody's mistake: the spectrum says it
    diagonal = exact.diagonal(dim1=1, dim2=2)
    floor = absolute * diagonal[finite].max() if finite.any() else 0.0
    scale = diagonal.clamp(min=0).sqrt()
    wrong = ~((near - exact).abs() <= relative * scale[:, :, None] * scale[:, None, :] + floor)
    return {name for name, off in zip(found.grams, (wrong.any(2).any(1) & finite).tolist(), strict=True) if off}


def _warn(why: Why, names: set[str]) -> None:
    if not names:
        return
    warnings.warn(f"{why}, so these are differentiated sample by sample: {listed(sorted(names))}", stacklevel=5)


def _warn_of_idle(request: Request, partition: Partition, grams: Grams) -> None:
    """Name the modules on which no output depends; experts may be chosen by other samples."""
    asleep = [m for m in partition.modules if m.slices and m.kind != "expert" and not grams[m.name].any()]
    idle = idle_parameters(request.model, request.inputs) if asleep else set()
    if names := [m.name for m in asleep if {piece.parameter for piece in m.slices} <= idle]:
        warnings.warn(
            "the outputs in evaluation mode do not depend on these modules, so their kernels are 0; "
            f"partition_model(model, example=inputs) leaves them to the remainder: {listed(names)}",
            stacklevel=5,
        )
