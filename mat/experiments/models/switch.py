"""Switch Transformer: Hugging Face's stack of blocks under a linear vocabulary head, masked or causal.

Fedus et al., JMLR 2022: every second layer's feed-forward block is replaced by experts, and a router sends
each token to one of them. An expert takes at most ``capacity`` × tokens / experts tokens of one sequence, the
earliest; those beyond it pass by on the residual path (ambiguity A9). The auxiliary loss that balances experts is
off unless ``balance`` is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from mat.errors import InputError
from mat.experiments.models.checks import MOST_LAYERS, Dropout, Factor, Width, check_heads
from mat.experiments.models.closed_form import Layers, feed_forward, product, transformer
from mat.experiments.task_signature import Signature, check_signature
from mat.limits import Range, check_limits
from mat.partition.discovery import partition_model
from mat.partition.partition import Partition

OBJECTIVES = ("masked_lm", "causal_lm")
DEPENDS_ON_INPUTS = True  # an expert that no token goes to runs nothing


@dataclass(frozen=True)
class Settings:
    """An encoder or decoder with experts."""

    layers: Annotated[int, Range(ge=2, le=MOST_LAYERS)] = 2
    """Encoder layers, two at least; 1, 3, … are sparse."""
    width: Width = 64
    """Hidden size; feed-forward blocks and experts are 4 · width wide."""
    heads: Width = 4
    """Attention heads per layer."""
    experts: Annotated[int, Range(ge=2, le=4096)] = 4
    """Per sparse layer."""
    capacity: Factor = 1.5
    """Tokens that an expert takes, as a factor on an even share."""
    dropout: Dropout = 0.0
    """Of hidden states, in [0, 1)."""
    initialiser: Factor = 1.0
    """Factor on T5's standard deviations of the initial weights."""
    head_outputs: bool = True
    """Whether a head owns its columns of W_O, or the remainder has W_O (A4)."""
    balance: Annotated[float, Range(ge=0, le=1000)] = 0.0
    """Coefficient α of the loss that training adds to even out the experts (A9)."""

    def __post_init__(self) -> None:
        check_limits(self)
        check_heads(self.width, self.heads)


class SwitchLM(nn.Module):
    """``input_ids`` (B, S) → logits (B, S, V). Tokens are routed within their own sequence, so a sample's
    logits do not depend on the other samples of its batch."""

    def __init__(self, stack: nn.Module, head: nn.Linear, balance: float = 0.0) -> None:
        super().__init__()
        self.stack, self.head, self.balance = stack, head, balance
        for router in self._routers() if balance else ():
            router.seen = None
            router.register_forward_hook(_remember)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.stack(input_ids=input_ids).last_hidden_state)

    def extra_loss(self) -> Tensor | None:
        """What training adds to the task's loss, of the last forward pass in training mode, each pass once.

        Fedus et al. 2022, equations 4 to 6, summed over the sparse layers: α·E·Σ_i f_i·P_i over all tokens of the
        batch, f_i the share that the router sends to expert i (capacity aside) and P_i its mean probability: α
        per layer where both are even. None without ``balance``, in evaluation, or when it was asked for already.
        """
        parts = []
        for router in self._routers() if self.balance else ():
            if router.seen is not None:
                chances = router.seen.flatten(0, -2).softmax(-1, dtype=router.dtype)
                router.seen = None  # it holds the pass's graph
                sent = functional.one_hot(chances.argmax(-1), chances.shape[-1]).to(chances.dtype)
                parts.append(chances.shape[-1] * (sent.mean(0) * chances.mean(0)).sum())
        return self.balance * torch.stack(parts).sum() if parts else None

    def _routers(self) -> list[nn.Module]:
        return [m for m in self.modules() if type(m).__name__ == "SwitchTransformersTop1Router"]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SwitchLM:
        """The router keeps the dtype it computes in as an attribute, and would cast itself back to it."""
        super()._apply(fn, recurse)
        for router in self._routers():
            router.dtype = router.classifier.weight.dtype
        return self


def _remember(router: nn.Module, args: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    """A hook that keeps the router's logits (B, S, E) of a pass in training mode until ``extra_loss`` reads them."""
    router.seen = output[2] if router.training else None


def build(settings: Settings, signature: Signature) -> nn.Module:
    """``SwitchLM`` for token sequences of the example's length: an encoder's stack for "masked_lm"; for "causal_lm" a
    decoder's, whose position biases tell only distances to the past apart, without its cross-attention."""
    from transformers import SwitchTransformersConfig
    from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersStack

    from mat.experiments.models.switch_experts import ask_once

    check_signature("switch", signature, *OBJECTIVES)
    length, outputs, causal = signature.length, signature.outputs, signature.objective == "causal_lm"
    config = SwitchTransformersConfig(
        vocab_size=outputs,
        d_model=settings.width,
        d_kv=settings.width // settings.heads,
        d_ff=4 * settings.width,
        num_layers=settings.layers,
        num_sparse_encoder_layers=settings.layers // 2,
        num_decoder_layers=settings.layers,
        num_sparse_decoder_layers=settings.layers // 2,
        num_heads=settings.heads,
        num_experts=settings.experts,
        expert_capacity=_capacity(settings, length),
        router_jitter_noise=0.0,
        dropout_rate=settings.dropout,
        initializer_factor=settings.initialiser,
        is_decoder=causal,
        is_encoder_decoder=False,
        use_cache=False,
    )
    stack = SwitchTransformersStack(config)
    ask_once(stack)
    for block in stack.block if causal else ():
        del block.layer[1]  # the cross-attention: without an encoder nothing calls it
    # as transformers does in the models around the stack, where the embedding is shared
    nn.init.normal_(stack.embed_tokens.weight, std=settings.initialiser)
    head = nn.Linear(settings.width, outputs)
    nn.init.normal_(head.weight, std=settings.initialiser * settings.width**-0.5)
    nn.init.zeros_(head.bias)
    # transformers admits only 'eager' for this class, where heads cannot be told apart in the backward pass;
    # its function for 'sdpa' takes the position bias as a mask and gives the same numbers to rounding
    for module in stack.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = "sdpa"
    return SwitchLM(stack, head, settings.balance)


def partition(settings: Settings, model: nn.Module) -> Partition:
    return partition_model(model, head_outputs=settings.head_outputs)


def work(settings: Settings, signature: Signature, batch: int, routed: Mapping[str, int] | None = None) -> Layers:
    """Multiply-adds of one training step of ``batch`` sequences, per module and for the remainder.

    Heads and dense feed-forward blocks as in ``bert.work`` (T5's attention has no scaling, and its position
    bias is a sum, no product). An expert costs 8d² for each token that was really routed to it: ``routed``
    maps ``layer<i>.expert<e>`` to their number, which no formula knows beforehand. Without it, for planning,
    every sequence is routed as evenly as whole tokens can be, up to the experts' capacity. The remainder's
    products are the routers, d·E per token, the vocabulary head, d·V, and W_O where settings leave it to it. A causal
    mask saves nothing: scores of later tokens are computed and left out. Raises InputError when ``routed`` does not
    name exactly the experts, and for inputs that are no text.
    """
    check_signature("switch", signature, *OBJECTIVES)
    length, d = signature.length, settings.width
    tokens, experts = batch * length, _experts(settings)
    routed = _even(settings, length, batch) if routed is None else routed
    if set(routed) != set(experts):
        raise InputError(f"routed must name the experts {', '.join(experts)}, got {', '.join(routed)}")
    blocks, _ = feed_forward(settings.layers, 1, 8 * d * d * tokens)
    for layer in range(1, settings.layers, 2):
        blocks[layer] = {name: product(8 * d * d * routed[name]) for name in _of_layer(settings, layer)}
    routers = settings.layers // 2 * d * settings.experts
    rest = product((routers + d * signature.outputs) * tokens)
    return transformer(settings, length, tokens, blocks, rest)


def _experts(settings: Settings) -> list[str]:
    return [name for layer in range(1, settings.layers, 2) for name in _of_layer(settings, layer)]


def _of_layer(settings: Settings, layer: int) -> list[str]:
    return [f"layer{layer}.expert{e}" for e in range(settings.experts)]


def _even(settings: Settings, length: int, batch: int) -> dict[str, int]:
    """Tokens per expert when every sequence is shared out evenly and each expert stops at its capacity."""
    share, rest = divmod(length, settings.experts)
    most = _capacity(settings, length)
    tokens = [batch * min(share + (e < rest), most) for e in range(settings.experts)]
    return {name: tokens[i % settings.experts] for i, name in enumerate(_experts(settings))}


def _capacity(settings: Settings, length: int) -> int:
    """Tokens of one sequence that an expert takes at most."""
    return math.ceil(settings.capacity * length / settings.experts)
