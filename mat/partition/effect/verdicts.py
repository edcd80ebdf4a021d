"""Confirm by effect what names and shapes say: of heads, feed-forward neurons, experts and filter groups."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mat.errors import InputError, listed
from mat.forward import Inputs, called, evaluation
from mat.partition.effect.channels import of_channels
from mat.partition.effect.codes import CONTRADICTED, IDLE, UNSEEN, buffers_kept, first_few
from mat.partition.effect.experts import of_experts
from mat.partition.effect.trace import Trace
from mat.partition.partition import Apart, Channels, Claim, Partition, Premise
from mat.partition.projections import projections


def confirm(model: nn.Module, partition: Partition, inputs: Inputs) -> None:
    """Confirm ``partition``'s premises by gradients on the first samples of ``inputs``, and leave model and generators
    as they were.

    Warns of those that no gradient reaches. Raises InputError where one contradicts them.
    """
    if not partition.premises:
        return
    verdicts, _ = look(model, partition.premises, inputs)
    wrong = [premise.where for premise, verdict in verdicts.items() if verdict == CONTRADICTED]
    if wrong:
        raise InputError(
            f"modules were cut by names and shapes, which gradients contradict in {listed(wrong)}: one reaches what is "
            "another's; make the partition with partition_model(model, example=inputs), which cuts by effect"
        )
    if doubt := unconfirmed(verdicts):
        warnings.warn(doubt, stacklevel=3)


def look(model: nn.Module, claims: Sequence[Claim], inputs: Inputs) -> tuple[dict[Claim, str], Trace]:
    """Of every claim ``confirmed``, ``contradicted``, ``unseen`` or, where no output depends on it, ``idle``; and the
    trace of those that are premises."""
    premises = [claim for claim in claims if isinstance(claim, Premise)]
    weights = set().union(*(premise.parameters for premise in premises))
    beside = (place.weights for _, place in projections(model) if place.weight in weights)
    trace = Trace.of(model, weights.union(*beside), inputs) if premises else Trace()
    verdicts: dict[Claim, str] = dict(trace.verdicts(premises).items())
    verdicts |= of_channels(model, [claim for claim in claims if isinstance(claim, Channels)], inputs).items()
    verdicts |= of_experts(model, [claim for claim in claims if isinstance(claim, Apart)], inputs).items()
    if UNSEEN in verdicts.values():
        idle = idle_parameters(model, inputs)
        verdicts |= {c: IDLE for c, verdict in verdicts.items() if verdict == UNSEEN and c.parameters <= idle}
    return verdicts, trace


def unconfirmed(verdicts: Mapping[Claim, str]) -> str | None:
    """What is to be said of premises that no gradient reaches; None where there is none."""
    unseen = [premise.where for premise, verdict in verdicts.items() if verdict == UNSEEN]
    said = f"no gradient could confirm how these are cut, so names and shapes are believed: {listed(unseen)}"
    return said if unseen else None


def idle_parameters(model: nn.Module, inputs: Inputs) -> set[str]:
    """Parameters on which nothing that ``model`` puts out in evaluation mode depends: its logits, if it has any."""
    parameters = dict(model.named_parameters())
    with evaluation(model), buffers_kept(model):
        for parameter in parameters.values():
            if parameter.is_floating_point():
                parameter.requires_grad_()
        output = called(model, first_few(inputs))
        logits = getattr(output, "logits", None)
        found = [t for t in tree_leaves(output if logits is None else logits) if isinstance(t, Tensor)]
        found = [t for t in found if t.requires_grad]
        asked = {name: p for name, p in parameters.items() if p.requires_grad}
        gradients: Sequence[Tensor | None] = [None] * len(asked)
        if found:
            ones = [torch.ones_like(t) for t in found]
            gradients = torch.autograd.grad(found, list(asked.values()), ones, allow_unused=True)
    return {name for name, gradient in zip(asked, gradients, strict=True) if gradient is None}
