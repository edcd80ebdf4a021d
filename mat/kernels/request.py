"""What is asked of a model: the kernels of which modules, on which samples, by which estimator."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.forward import Inputs, forward, samples_of
from mat.kernels.estimators import Estimator
from mat.partition.partition import Partition, Slice, refuse_other

Pieces = Mapping[str, Sequence[tuple[str, Slice]]]  # parameter -> (module, slice), in order of the slices
Grams = dict[str, Tensor]  # module -> (m, m) float64


@dataclass(frozen=True)
class Request:
    """``model`` on the ``n`` samples ``inputs``, and the kernels that are wanted.

    ``parameters``: those that the ``modules`` own, by name, empty ones left out; ``pieces``: whose they are, slice by
    slice. ``labels``: None, or one entry per sample. ``memory``: bytes of working space beside the activations of one
    forward pass.
    """

    model: nn.Module
    inputs: Inputs
    labels: Tensor | None
    n: int
    parameters: Mapping[str, nn.Parameter]
    pieces: Pieces
    modules: tuple[str, ...]
    estimator: Estimator
    memory: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        partition: Partition,
        inputs: Inputs,
        labels: Tensor | None,
        estimator: Estimator,
        memory: int,
    ) -> Request:
        """Raises InputError for inputs that are no batch, labels that are not theirs, another model's partition."""
        pieces = pieces_of(partition)
        parameters = owned_parameters(model, partition, pieces)
        n = samples_of(model, inputs)
        if labels is not None and not isinstance(labels, Tensor):
            raise InputError(f"labels must be a tensor with one entry per sample, got {type(labels).__name__}")
        if labels is not None and len(labels) != n:
            raise InputError(f"labels must have one entry per sample, {n}, got {len(labels)}")
        inputs = {name: _constant(value) for name, value in inputs.items()}
        return cls(model, inputs, labels, n, parameters, pieces, partition.names, estimator, memory)

    @property
    def full(self) -> bool:
        """Whether every pair of rows is wanted, so that a sample has as many rows as logits."""
        return self.estimator.name == "full"

    def logits(self) -> Tensor:
        """Of all samples, (n, …) if the model is one that can be probed."""
        return forward(self.model, self.inputs)

    def logits_of(self, samples: Sequence[int], shape: torch.Size) -> Tensor:
        """Of a batch of some of the samples, (m, *shape), ``shape`` being that of a sample's logits in the whole batch.

        Raises InputError where they have another number of logits then.
        """
        logits = forward(self.model, {name: _entries(value, self.n, samples) for name, value in self.inputs.items()})
        if logits.numel() != len(samples) * shape.numel():
            raise InputError(
                f"{len(samples)} of the {self.n} samples have outputs of shape {tuple(logits.shape)}, expected "
                f"{(len(samples), *shape)} as in the whole batch; the model's outputs must not depend on which samples "
                "it is given together"
            )
        return logits.reshape(len(samples), *shape)  # a model that squeezes leaves out the one sample's dimension

    def label_of(self, i: int) -> Tensor | None:
        """Of sample ``i``, (1, …)."""
        return None if self.labels is None else self.labels[i : i + 1]

    def owners(self, parameter: str) -> set[str]:
        """The modules that own some of it."""
        return {module for module, _ in self.pieces[parameter]}


def _constant(value: Any) -> Any:
    """A tensor that takes no gradient and may be saved for a backward pass; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    with torch.inference_mode(False):
        return value.clone() if value.is_inference() else value.detach()


def _entries(value: Any, n: int, samples: Sequence[int]) -> Any:
    return value[list(samples)] if isinstance(value, Tensor) and len(value) == n else value


def pieces_of(partition: Partition) -> Pieces:
    """Parameter -> (module, slice), in order of the slices."""
    found: dict[str, list[tuple[str, Slice]]] = {}
    for module in partition.modules:
        for piece in module.slices:
            found.setdefault(piece.parameter, []).append((module.name, piece))
    return {name: sorted(pieces, key=lambda pair: pair[1].start) for name, pieces in found.items()}


def owned_parameters(model: nn.Module, partition: Partition, pieces: Pieces) -> dict[str, nn.Parameter]:
    """The parameters that modules own, empty ones left out.

    Raises InputError where the model does not have them as the partition does.
    """
    refuse_other(model, partition, pieces)
    return {name: parameter for name, parameter in model.named_parameters() if name in pieces and parameter.numel()}


@contextmanager
def taking_gradients(parameters: Collection[nn.Parameter]) -> Iterator[None]:
    """Within it these parameters of a frozen model take gradients."""
    for parameter in parameters:
        parameter.requires_grad_()
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
