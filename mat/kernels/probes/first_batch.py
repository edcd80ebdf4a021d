"""A first look at the batch that training calls a model with, for what probes no samples of its own."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.forward import Inputs, evaluation, first
from mat.kernels.estimators import Estimator
from mat.kernels.ntk import MEMORY
from mat.kernels.premise import FEW, check_premise
from mat.kernels.request import Request
from mat.partition.effect.verdicts import confirm
from mat.partition.partition import Partition

Look = Callable[[tuple, dict], None]  # at the arguments of a call


class FirstBatch:
    """Has ``look`` called with what ``model`` is given at its next forward pass with gradients, ahead of it, once."""

    def __init__(self, model: nn.Module, look: Look) -> None:
        self.model, self.look, self.waits = model, look, True
        self._hook = model.register_forward_pre_hook(self._before, with_kwargs=True)

    @torch._disable_dynamo  # torch.compiler.disable imports the compiler as this module is read, 2 s
    def _before(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        # a copy of the model shares the hook, and a compiled one keeps it
        if self.waits and model is self.model and torch.is_grad_enabled():
            self.stop()
            self.look(args, kwargs)

    def stop(self) -> None:
        """Wait no longer; the model is plain."""
        self.waits = False
        self._hook.remove()


def look_at(model: nn.Module, partition: Partition, inputs: Inputs, *, read: bool) -> None:
    """Confirm on the first samples of ``inputs`` how ``partition`` was cut (``mat.partition.effect``), and that their
    outputs are their own (``mat.kernels.premise``).

    Raises InputError where gradients contradict the one; and the other, where kernels of its samples are to be
    ``read``. Warns of what else keeps it from looking, or of samples that depend on each other, where none are.
    """
    with evaluation(model):
        request = Request.of(model, partition, first(inputs, FEW + 1), None, Estimator("sum_of_logits"), MEMORY)
        try:
            output = model(**request.inputs)
            logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
            if isinstance(logits, Tensor) and logits.dim() and len(logits) == request.n:  # and no loss
                check_premise(request, logits)
        except Exception as error:  # whatever a model that was made for training raises in evaluation mode
            if read:
                raise
            warnings.warn(f"the first batch: {error}", stacklevel=2)
            if not isinstance(error, InputError):
                return
        confirm(model, partition, request.inputs)


def inputs_of(model: nn.Module, args: tuple, kwargs: dict) -> dict[str, Any] | None:
    """What ``model`` is called with, by the names of its arguments; None where that is no batch of tensors."""
    bound = inspect.signature(type(model).forward).bind(model, *args, **kwargs)
    named: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return None
        named.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
    named = {n: v.item() if isinstance(v, Tensor) and not v.dim() else v for n, v in named.items()}
    sizes = {len(value) for value in named.values() if isinstance(value, Tensor)}
    plain = all(value is None or isinstance(value, Tensor | bool | int | float | str) for value in named.values())
    return named if plain and sizes and len(sizes - {1}) < 2 and 0 not in sizes else None
