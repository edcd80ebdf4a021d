"""The experts of a Switch layer, called with one look at where the router sends its tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersExperts


class Experts(SwitchTransformersExperts):
    """The same numbers as its parent's. That one asks a GPU twice for every expert which tokens it gets, and the host
    waits each time; this asks once for how many tokens each gets, which shapes depend on."""

    def forward(self, hidden_states: Tensor, selected_experts: Tensor, routing_weights: Tensor) -> Tensor:
        """``hidden_states`` (T, d), one-hot ``selected_experts`` (T, 1, E) with zeros alone where a token passes by,
        ``routing_weights`` (T, 1) → (T, d)."""
        sent = selected_experts[:, 0].T
        counts = sent.sum(1).tolist()
        tokens = torch.nonzero_static(sent, size=sum(counts))[:, 1].split(counts)
        out = torch.zeros_like(hidden_states)
        for number, rows in enumerate(tokens):
            if len(rows):
                given = hidden_states[None, rows].reshape(-1, hidden_states.shape[-1])
                made = self[f"expert_{number}"](given) * routing_weights[rows]
                out.index_add_(0, rows, made.to(hidden_states.dtype))
        return out


def ask_once(model: nn.Module) -> None:
    """Let every layer of ``model`` with experts be called in this way."""
    for module in model.modules():
        if type(module) is SwitchTransformersExperts:
            module.__class__ = Experts
