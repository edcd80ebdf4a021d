"""Slow stand-ins for the kernel engine's newer estimators and for Switch's partition, by naive autograd.

They serve until ``mat.kernel`` and ``mat.structure`` have them: ``install`` changes nothing where they do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import mat.agreement
from mat import kernel
from mat.errors import InputError
from mat.models import switch
from mat.partition import Module, Partition, Slice
from mat.structure import partition_model
from mat.tasks.base import Task


def install(monkeypatch) -> None:
    if "projected" not in kernel.ESTIMATORS:
        monkeypatch.setattr(mat.agreement, "modular_ntk", modular_ntk)
    if not hasattr(Task, "sample_losses"):
        monkeypatch.setattr(Task, "sample_losses", _sample_losses, raising=False)
        monkeypatch.setattr(Task, "probe", _probe(Task.probe))
    monkeypatch.setattr(switch, "partition", _partition)


class _Probe(dict):
    """Both interfaces of a probe: a mapping of inputs, and ``inputs`` with ``labels``."""


def _probe(before):
    def probe(self, seed, n):
        inputs = before(self, seed, n)
        made = _Probe(inputs)
        made.inputs = inputs
        shape = inputs["input_ids"].shape if "input_ids" in inputs else (n,)
        made.labels = torch.randint(self.outputs, shape, generator=torch.Generator().manual_seed(seed))
        return made

    return probe


def _sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
    losses = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return losses.reshape(len(logits), -1).mean(1)


def modular_ntk(
    model, partition, inputs, estimator="sum_of_logits", *, labels=None, loss=None, directions=8, seed=0, **_
):
    if estimator == "full":
        return kernel.modular_ntk(model, partition, inputs, "full")
    model.eval()
    outputs = kernel.forward(model, inputs).flatten(1)
    k = outputs.shape[1]
    if estimator == "loss":
        scalars = [loss(kernel.forward(model, inputs), labels)]
    elif estimator == "projected":
        draws = torch.Generator().manual_seed(seed)
        v = torch.randint(0, 2, (directions, k), generator=draws).to(outputs) * 2 - 1
        scalars = list((outputs @ v.T / directions**0.5).T)
    else:
        scalars = list(outputs.T) if estimator == "trace" else [outputs.sum(1) / k**0.5]
    parameters = {n: p for n, p in model.named_parameters() if n in partition.shapes}
    grams = {module.name: 0 for module in partition.modules}
    for values in scalars:
        jacobian: dict[str, list[Tensor]] = {module.name: [] for module in partition.modules}
        for value in values:
            found = torch.autograd.grad(value, parameters.values(), retain_graph=True, allow_unused=True)
            of = {
                n: torch.zeros_like(p) if g is None else g
                for (n, p), g in zip(parameters.items(), found, strict=True)
            }
            for module in partition.modules:
                jacobian[module.name].append(
                    torch.cat([piece.of(of[piece.parameter]).flatten() for piece in module.slices])
                )
        for name, rows in jacobian.items():
            rows = torch.stack(rows).double()
            grams[name] = grams[name] + rows @ rows.T
    return grams


def _partition(settings, model) -> Partition:
    try:
        return partition_model(model)
    except InputError:  # the model is not recognised yet
        return Partition.of(model, _switch_modules(settings))


def _switch_modules(settings):
    width = settings.width // settings.heads
    for layer in range(settings.layers):
        at = f"encoder.encoder.block.{layer}.layer"
        for head in range(settings.heads):
            rows = [
                Slice(
                    f"{at}.0.SelfAttention.{name}.weight", int(name == "o"), head * width, (head + 1) * width
                )
                for name in "qkvo"
            ]
            yield Module(f"layer{layer}.head{head}", "head", layer, tuple(rows))
        paths = {"ffn": f"{at}.1.mlp"}
        if layer % 2:
            paths = {f"expert{e}": f"{at}.1.mlp.experts.expert_{e}" for e in range(settings.experts)}
        for name, path in paths.items():
            slices = (
                Slice(f"{path}.wi.weight", 0, 0, 4 * settings.width),
                Slice(f"{path}.wo.weight", 0, 0, settings.width),
            )
            yield Module(f"layer{layer}.{name}", name.rstrip("0123456789"), layer, slices)
