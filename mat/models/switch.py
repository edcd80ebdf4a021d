"""Switch Transformer for masked language modelling: Hugging Face's encoder under a linear vocabulary head.

Fedus et al., JMLR 2022: every second layer's feed-forward block is replaced by experts, and a router sends
each token to one of them. An expert takes at most ``capacity`` × tokens / experts tokens of one sequence;
those beyond it pass by on the residual path (ambiguity A9). Without the auxiliary balance loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mat.errors import InputError
from mat.partition import Partition
from mat.structure import partition_model


@dataclass(frozen=True)
class Settings:
    """``width``: hidden size; feed-forward blocks and experts are 4·width wide. Layers 1, 3, … are sparse.
    ``initialiser``: factor on T5's standard deviations of the initial weights."""

    layers: int = 2
    width: int = 64
    heads: int = 4
    experts: int = 4
    capacity: float = 1.5
    dropout: float = 0.0
    initialiser: float = 1.0

    def __post_init__(self) -> None:
        if self.layers < 2 or self.heads < 1 or self.width < self.heads or self.width % self.heads:
            raise InputError(
                f"layers ≥ 2 (the second is sparse) and a width that heads divide are expected, got "
                f"layers={self.layers}, width={self.width}, heads={self.heads}"
            )
        if self.experts < 2:
            raise InputError(f"experts must be ≥ 2, got {self.experts}")
        if not 0 < self.capacity < float("inf"):
            raise InputError(f"capacity must be a finite number > 0, got {self.capacity}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be in [0, 1), got {self.dropout}")
        if not 0 < self.initialiser < float("inf"):
            raise InputError(f"initialiser must be a finite number > 0, got {self.initialiser}")


class SwitchForMaskedLM(nn.Module):
    """``input_ids`` (B, S) → logits (B, S, V). Tokens are routed within their own sequence, so a sample's
    logits do not depend on the other samples of its batch."""

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.encoder(input_ids=input_ids).last_hidden_state)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SwitchForMaskedLM:
        """The router keeps the dtype it computes in as an attribute, and would cast itself back to it."""
        super()._apply(fn, recurse)
        for module in self.modules():
            if type(module).__name__ == "SwitchTransformersTop1Router":
                module.dtype = module.classifier.weight.dtype
        return self


def build(settings: Settings, example: Mapping[str, Tensor], outputs: int) -> nn.Module:
    """``SwitchForMaskedLM`` for token sequences of the length of ``example['input_ids']`` (1, S)."""
    from transformers import SwitchTransformersConfig, SwitchTransformersEncoderModel

    if set(example) != {"input_ids"}:
        raise InputError("model switch needs a text task (inputs input_ids of shape (1, S))")
    config = SwitchTransformersConfig(
        vocab_size=outputs,
        d_model=settings.width,
        d_kv=settings.width // settings.heads,
        d_ff=4 * settings.width,
        num_layers=settings.layers,
        num_sparse_encoder_layers=settings.layers // 2,
        num_heads=settings.heads,
        num_experts=settings.experts,
        expert_capacity=math.ceil(settings.capacity * example["input_ids"].shape[1] / settings.experts),
        router_jitter_noise=0.0,
        dropout_rate=settings.dropout,
        initializer_factor=settings.initialiser,
    )
    head = nn.Linear(settings.width, outputs)
    nn.init.normal_(head.weight, std=settings.initialiser * settings.width**-0.5)
    nn.init.zeros_(head.bias)
    return SwitchForMaskedLM(SwitchTransformersEncoderModel(config), head)


def partition(settings: Settings, model: nn.Module) -> Partition:
    return partition_model(model)


def closed_form(
    settings: Settings,
    example: Mapping[str, Tensor],
    outputs: int,
    batch: int,
    active: Collection[str],
    mode: str,
    routed: Mapping[str, int] | None = None,
) -> int:
    """Multiply-adds of one training step (forward and backward) of ``batch`` sequences, all modules active.

    As ``bert.closed_form`` per token, with experts (8d² per token) by the tokens that were really routed to
    each: ``routed`` maps ``layer<i>.expert<e>`` to their number, which no formula knows beforehand. The router
    costs d·E, the head d·V. Raises InputError without ``routed``, or for a part of the modules.
    """
    experts = {
        f"layer{layer}.expert{e}" for layer in range(1, settings.layers, 2) for e in range(settings.experts)
    }
    if routed is None or set(routed) != experts:
        raise InputError(
            f"the cost of switch depends on routing: give routed for {', '.join(sorted(experts))}"
        )
    if missing := sorted(experts - set(active)):
        raise InputError(
            f"the closed form of switch covers full steps only, and {missing[0]} is inactive; count what ran"
        )
    length, d = example["input_ids"].shape[1], settings.width
    tokens, sparse = batch * length, settings.layers // 2
    weights = settings.layers * 4 * d * d * tokens + (settings.layers - sparse) * 8 * d * d * tokens
    weights += (
        sparse * d * settings.experts * tokens + 8 * d * d * sum(routed.values()) + d * outputs * tokens
    )
    scores = settings.layers * 2 * length * d * tokens
    return 3 * (weights + scores)
