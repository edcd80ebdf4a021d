"""Modular neural tangent kernels: one Gram matrix per module of a partition, from one pass over a model.

Θ_l = J_l J_lᵀ with J_l the Jacobian of the outputs on n samples with respect to the module's parameters
(Shi et al., NeurIPS 2023). Which rows J_l has is the estimator's choice (``mat.kernels.estimators``).

Products are in the model's own precision, Gram matrices in float64. The parameters of most models are followed
in one pass (``mat.kernels.batched``); one that a function without a rule uses is differentiated sample by sample
(``mat.kernels.per_sample``), slower and just as exact, with a warning that names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.forward import Inputs, evaluation, forward
from mat.kernels import batched
from mat.kernels import per_sample as sample_loop
from mat.kernels.batched import Grams, Pieces
from mat.kernels.estimators import ESTIMATORS as ESTIMATORS
from mat.kernels.estimators import Estimator, SampleLoss
from mat.kernels.spectrum import spectrum
from mat.partition.partition import Partition

NORMALISATIONS = ("raw", "cosine", "per_parameter")
MEMORY = 2**28


class Kernels(dict[str, Tensor]):
    """Module -> its kernel, float64, (n, n) or (nk, nk). ``ways``: how each was computed."""

    def __init__(
        self, grams: Grams, partition: Partition, estimator: Estimator, n: int, ways: dict[str, str]
    ):
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
    directions: int = 8,
    seed: int = 0,
    memory: int = MEMORY,
    verify: bool = True,
    check: int = 1,
    remainder: bool = False,
) -> Kernels:
    """The kernel of every module on the samples ``inputs``: keyword arguments of the model, tensors (n, …).

    ``estimator``: a name, or an ``Estimator`` that holds the choices as well. ``labels`` and ``loss`` (logits,
    labels -> (n,)) belong to ``loss``, ``directions`` and ``seed`` to ``projected``. ``memory``: bytes of working
    space beside the activations of one forward pass. ``verify``: find by a second backward pass which sample
    every row belongs to (a third, where there are several cotangents); without it, shapes are believed where
    only one reading is likely. ``check``: how many of the first samples are compared with plain automatic
    differentiation (0: none); modules that differ are differentiated sample by sample, with a warning.
    ``remainder``: one more kernel, of the remainder; with it they add up to the kernel of all trainable parameters.

    The model is probed in evaluation mode and left as it was: mode, gradients, ``requires_grad``, generators.
    Raises InputError for unknown or missing choices, inputs that are no batch, outputs without a dimension of
    samples, samples that depend on each other through batch statistics, or a ``full`` kernel beyond 4 GiB.
    """
    chosen = estimator
    if not isinstance(chosen, Estimator):
        chosen = Estimator(estimator, directions, seed, loss)
    if check < 0:
        raise InputError(f"check must be a number of samples ≥ 0, got {check!r}")
    partition = partition.with_remainder() if remainder else partition
    n = _samples(inputs, labels)
    inputs = {name: _constant(value) for name, value in inputs.items()}
    pieces = _pieces(partition)
    parameters = _owned(model, partition, pieces)

    def run(i: int | None = None) -> Tensor:
        if i is None:
            return forward(model, inputs)
        logits = forward(model, _sample(inputs, i))
        if logits.numel() != found.shape.numel():
            raise InputError(
                f"one sample alone has outputs of shape {tuple(logits.shape)}, in the batch {tuple(found.shape)}; "
                "the model's outputs must not depend on how many samples it is given"
            )
        return logits.reshape(1, *found.shape)  # a model that squeezes leaves out the one sample's dimension

    def loop(names: set[str], grams: Grams, count: int) -> None:
        wanted = {name: p for name, p in parameters.items() if name in names}
        sample_loop.add_kernels(run, wanted, pieces, grams, count, found.passes, chosen, labels, memory)

    with evaluation(model):
        found = batched.kernels(run, parameters, pieces, partition.names, n, chosen, labels, memory, verify)
        slow = found.unknown | _used(model, inputs, {name: parameters[name] for name in found.unseen})
        if slow:
            _warn("no rule follows their use", slow)
            loop(slow, found.grams, n)
        if check:
            few = min(check, n)
            per_sample = len(found.grams[partition.names[0]]) // n
            exact = {name: gram.new_zeros((few * per_sample,) * 2) for name, gram in found.grams.items()}
            loop(set(parameters), exact, few)
            eps = torch.finfo(next(iter(parameters.values())).dtype).eps
            wrong = _differing(found.grams, exact, eps)
            if wrong:
                _warn("a comparison with plain automatic differentiation failed", wrong)
                names = {name for name, owners in pieces.items() if {m for m, _ in owners} & wrong}
                fresh = {name: torch.zeros_like(gram) for name, gram in found.grams.items()}
                loop(names, fresh, n)
                found.grams.update({name: fresh[name] for name in wrong})
                slow |= names
    ways = {
        module.name: "sample loop" if {p.parameter for p in module.slices} & slow else "one pass"
        for module in partition.modules
    }
    return Kernels(found.grams, partition, chosen, n, ways)


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


def _samples(inputs: Inputs, labels: Tensor | None) -> int:
    """n, the common first dimension. Tensors of first dimension 1 are shared by all samples."""
    if not isinstance(inputs, Mapping):
        raise InputError(
            "inputs must map the names of the model's arguments to tensors, such as {'input_ids': …}; got "
            f"{type(inputs).__name__}"
        )
    sizes = {
        name: len(value) if value.dim() else 0 for name, value in inputs.items() if isinstance(value, Tensor)
    }
    n = max(sizes.values(), default=0)
    wrong = sorted(name for name, size in sizes.items() if size not in (1, n))
    if n < 1 or wrong:
        raise InputError(
            "inputs must be tensors with one common first dimension, the samples; got first dimensions "
            f"{sizes or 'of nothing'}"
        )
    lists = [
        name for name, value in inputs.items() if isinstance(value, list | tuple) and len(value) == n > 1
    ]
    if lists:
        raise InputError(
            f"{lists[0]!r} is a {type(inputs[lists[0]]).__name__} with an entry per sample; give a tensor"
        )
    if labels is not None and not isinstance(labels, Tensor):
        raise InputError(f"labels must be a tensor with one entry per sample, got {type(labels).__name__}")
    if labels is not None and len(labels) != n:
        raise InputError(f"labels must have one entry per sample, {n}, got {len(labels)}")
    return n


def _constant(value):
    """A tensor that takes no gradient and may be saved for a backward pass; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    with torch.inference_mode(False):
        return value.clone() if value.is_inference() else value.detach()


def _sample(inputs: Inputs, i: int) -> dict[str, Tensor]:
    return {
        name: value[i : i + 1] if isinstance(value, Tensor) and len(value) > 1 else value
        for name, value in inputs.items()
    }


def _pieces(partition: Partition) -> Pieces:
    """Parameter -> the modules' slices of it, in order of their place."""
    found: dict[str, list] = {}
    for module in partition.modules:
        for piece in module.slices:
            found.setdefault(piece.parameter, []).append((module.name, piece))
    return {name: sorted(pieces, key=lambda pair: pair[1].start) for name, pieces in found.items()}


def _owned(model: nn.Module, partition: Partition, pieces: Pieces) -> dict[str, nn.Parameter]:
    """The parameters that modules own, empty ones left out.

    Raises InputError where the model does not have them as the partition does.
    """
    named = dict(model.named_parameters())
    for name in pieces:
        shape = tuple(named[name].shape) if name in named else None
        if shape != partition.shapes[name]:
            has = "has no such parameter" if shape is None else f"has it in shape {shape}"
            raise InputError(
                f"the partition was made of another model: it cuts {name!r} of shape {partition.shapes[name]}, but "
                f"{type(model).__name__} {has}; make the partition of this model"
            )
    return {name: parameter for name, parameter in named.items() if name in pieces and parameter.numel()}


def _used(model: nn.Module, inputs: Inputs, parameters: Mapping[str, nn.Parameter]) -> set[str]:
    """Which of the parameters the outputs depend on after all, through code that calls no torch function."""
    if not parameters:
        return set()
    for parameter in parameters.values():
        parameter.requires_grad_()
    logits = forward(model, inputs)
    gradients = [None] * len(parameters)
    if logits.requires_grad:
        gradients = torch.autograd.grad(logits.sum(), list(parameters.values()), allow_unused=True)
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    return {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def _differing(grams: Grams, exact: Grams, eps: float) -> set[str]:
    """Modules whose leading entries are not those of ``exact``, beyond what a precision of ``eps`` explains.

    Allowed is 1 % (or 16 eps) of √(Θ_ii Θ_jj), and 1e-6 (or eps²) of the largest entry of all modules.
    """
    relative, absolute = max(1e-2, 16 * eps), max(1e-6, eps**2)
    largest = [float(gram.diagonal().max()) for gram in exact.values() if gram.isfinite().all()]
    floor = absolute * max(largest, default=0.0)
    wrong = set()
    for name, gram in exact.items():
        scale = gram.diagonal().clamp(min=0).sqrt()
        off = (grams[name][: len(gram), : len(gram)] - gram).abs()
        near = off <= relative * scale[:, None] * scale + floor
        if gram.isfinite().all() and not near.all():  # an overflow is nobody's mistake: the spectrum says it
            wrong.add(name)
    return wrong


def _warn(why: str, names: set[str]) -> None:
    listed = ", ".join(sorted(names)[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    warnings.warn(f"{why}, so these are differentiated sample by sample: {listed}", stacklevel=3)
