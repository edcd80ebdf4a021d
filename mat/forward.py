"""Call a model: its logits, and the mode in which it is measured."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from mat._torch_checkpoint import without_checkpoints
from mat._torch_compile import without_compiling
from mat._torch_norms import RightNorms
from mat.errors import InputError

Inputs = Mapping[str, Tensor]


def samples_of(model: nn.Module, inputs: Any) -> int:
    """How many samples ``inputs`` has, the common first dimension of its tensors; one of 1 is shared by all.

    Raises InputError for what is no batch, or not what ``model`` is called with.
    """
    if not isinstance(inputs, Mapping):
        raise InputError(
            "inputs must map the names of the model's arguments to tensors, such as {'input_ids': …}; got "
            f"{type(inputs).__name__}"
        )
    sizes = {name: len(value) if value.dim() else 0 for name, value in inputs.items() if isinstance(value, Tensor)}
    n = max(sizes.values(), default=0)
    if n < 1 or any(size not in (1, n) for size in sizes.values()):
        raise InputError(
            "inputs must be tensors with one common first dimension, the samples; got first dimensions "
            f"{sizes or 'of nothing'}"
        )
    for name, value in inputs.items():
        if isinstance(value, list | tuple) and len(value) == n > 1:
            raise InputError(f"{name!r} is a {type(value).__name__} with an entry per sample; give a tensor")
    _refuse_names(model, inputs)
    return n


def _refuse_names(model: nn.Module, inputs: Inputs) -> None:
    """Raise InputError where the model's arguments are called otherwise."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # scripted
        return
    try:
        signature.bind(**inputs)
    except TypeError as error:
        if not model._forward_pre_hooks:  # which may change what it is called with
            expected = ", ".join(signature.parameters)
            raise InputError(
                f"inputs must have the names of {type(model).__name__}'s arguments ({expected}), got "
                f"{', '.join(map(repr, inputs))}: {error}"
            ) from None


def first(inputs: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The first ``n`` samples; what all samples share stays."""
    return {name: value[:n] if isinstance(value, Tensor) and value.dim() else value for name, value in inputs.items()}


def forward(model: nn.Module, inputs: Inputs) -> Tensor:
    """The logits of ``model``, called with keyword ``inputs``; an output or a mapping gives its ``logits``.

    Raises InputError for any other output.
    """
    return logits_of(called(model, inputs), model)


def called(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """What ``model`` returns for keyword ``inputs``.

    Raises InputError where it fails and has taken names that it does not have among further keywords.
    """
    try:
        return model(**inputs)
    except InputError:
        raise
    except Exception as error:
        names = _further(model, inputs)
        if not names:
            raise
        expected = ", ".join(name for name, _ in _arguments(model))
        raise InputError(
            f"{type(model).__name__} has no arguments called {', '.join(map(repr, names))}, takes them as further "
            f"keywords, and fails: {type(error).__name__}: {error}; expected are {expected}"
        ) from error


def _further(model: nn.Module, inputs: Mapping[str, Any]) -> list[str]:
    """The names of ``inputs`` that the model takes among further keywords."""
    named = dict(_arguments(model))
    return [name for name in inputs if named and name not in named]


def _arguments(model: nn.Module) -> list[tuple[str, inspect.Parameter]]:
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # scripted
        return []
    return [(name, one) for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD]


def logits_of(output: Any, model: nn.Module) -> Tensor:
    """The logits in what ``model`` has returned; raises InputError where there are none."""
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    logits = output if isinstance(output, Tensor) else named
    if not isinstance(logits, Tensor):
        keys = f" of {', '.join(map(repr, output))}" if isinstance(output, Mapping) else ""
        raise InputError(
            f"{type(model).__name__} returned {type(output).__name__}{keys} without logits; a tensor, or an output or "
            "mapping with logits, is expected: use a model with a head, or wrap it in a module that returns the tensor"
        )
    if logits.is_complex():
        raise InputError(
            f"{type(model).__name__} returned complex logits, {logits.dtype}; real ones are expected: return "
            "torch.view_as_real(…) of them, or their magnitudes"
        )
    return logits


_measuring: ContextVar[bool] = ContextVar("measuring", default=False)


def measuring() -> bool:
    """Whether a model is being measured, within ``evaluation``: its forward pass is then its own, sparse or not."""
    return _measuring.get()


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, frozen parameters, no autocast, no sparse backward pass, blocks run plainly where they would be
    checkpointed or compiled: what is frozen needs no recomputing, and a reentrant checkpoint or a graph hides its
    parameters. Norms have the gradients that they should have (``mat._torch_norms``).

    Modes, flags and generators are put back afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    device = next(model.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    # the fused attention of frozen layers is another function where positions are masked
    fused = torch.backends.mha.get_fastpath_enabled()
    with (
        torch.inference_mode(False),
        torch.random.fork_rng(cuda),
        torch.autocast(device.type, enabled=False),
        torch.enable_grad(),
        without_checkpoints(),
        without_compiling(),
        RightNorms(),
    ):
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        model.requires_grad_(False)
        token = _measuring.set(True)
        try:
            yield
        finally:
            _measuring.reset(token)
            torch.backends.mha.set_fastpath_enabled(fused)
            for module, training in modes:
                module.training = training
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
