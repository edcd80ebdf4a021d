"""BERT at any size: Hugging Face's ``BertForMaskedLM``, or ``BertForSequenceClassification`` on the same encoder.

The encoder (``model.base_model``) has the same parameters under both objectives, the pooler apart, which only
classification has, so one goes on where the other left off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from mat.errors import InputError
from mat.experiments.models.checks import Dropout, Factor, Groups, LayerCount, Width, check_groups, check_heads
from mat.experiments.models.closed_form import Layers, feed_forward, product, total, transformer
from mat.experiments.task_signature import LONGEST, Signature, check_signature
from mat.limits import Range, check_limits
from mat.partition.discovery import partition_model
from mat.partition.partition import Partition

DEFAULT = {"layers": 2, "width": 64, "heads": 4}
# Turc et al., "Well-Read Students Learn Better", 2019, and BERT-base
SIZES = {
    "tiny": {"layers": 2, "width": 128, "heads": 2},
    "mini": {"layers": 4, "width": 256, "heads": 4},
    "small": {"layers": 4, "width": 512, "heads": 8},
    "medium": {"layers": 8, "width": 512, "heads": 8},
    "base": {"layers": 12, "width": 768, "heads": 12},
}


@dataclass(frozen=True)
class Settings:
    """An encoder; its feed-forward blocks are 4 · width wide."""

    size: Literal[tuple(SIZES)] | None = None
    """A named size, from which layers, width and heads follow: tiny, mini, small, medium or base."""
    layers: LayerCount | None = None
    """Encoder layers; none: the size's, or 2."""
    width: Width | None = None
    """Hidden size; none: the size's, or 64."""
    heads: Width | None = None
    """Attention heads per layer; none: the size's, or 4."""
    dropout: Dropout = 0.0
    """Of hidden states and attention weights, in [0, 1)."""
    initialiser: Factor | None = None
    """Standard deviation of the initial weights; none: scaled to the width."""
    head_outputs: bool = True
    """Whether a head owns its columns of W_O, or the remainder has W_O (A4)."""
    ffn_groups: Groups = 1
    """Modules per feed-forward block; 0: these blocks are the remainder's (A5)."""
    positions: Annotated[int, Range(ge=1, le=LONGEST)] | None = None
    """Tokens of the longest text that the model has positions for; none: the task's."""

    def __post_init__(self) -> None:
        check_limits(self)
        for name, value in (SIZES[self.size] if self.size else DEFAULT).items():
            given = getattr(self, name)
            if given is None:
                object.__setattr__(self, name, value)
            elif self.size and given != value:
                raise InputError(f"size {self.size} has {name}={value}, got {name}={given}; leave out one of the two")
        check_heads(self.width, self.heads)
        check_groups(self.ffn_groups, 4 * self.width)


def initial_std(settings: Settings) -> float:
    """Standard deviation of the initial weights, scaled to the width.

    BERT-base's 0.02 is 0.55/√768. Keeping that number at a small width leaves the model on the unigram
    plateau for thousands of steps, so the default keeps σ·√width fixed, at 0.8 (σ = 0.1 at width 64).
    """
    return settings.initialiser if settings.initialiser is not None else 0.8 / settings.width**0.5


def build(settings: Settings, signature: Signature) -> nn.Module:
    """``BertForMaskedLM`` or ``BertForSequenceClassification``, by the signature's objective, for texts of the
    example's length, or of ``positions`` tokens."""
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

    _check(settings, signature)
    classifies = signature.objective == "text_classification"
    if classifies and signature.vocabulary is None:
        raise InputError("text_classification needs the number of token ids in the signature's vocabulary, got none")
    config = BertConfig(
        vocab_size=signature.vocabulary if classifies else signature.outputs,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.width,
        max_position_embeddings=settings.positions or signature.length,
        type_vocab_size=2,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        initializer_range=initial_std(settings),
        attn_implementation="sdpa",
        pad_token_id=None,  # id 0 is a word like any other and gets its gradient; what is padding, a mask says
        **({"num_labels": signature.outputs} if classifies else {}),
    )
    model = (BertForSequenceClassification if classifies else BertForMaskedLM)(config)
    model.register_forward_pre_hook(_broadcast_mask, with_kwargs=True)
    return model


def _broadcast_mask(model: nn.Module, args: tuple, inputs: dict[str, Tensor]) -> tuple[tuple, dict[str, Tensor]]:
    """A hook that hands on ``attention_mask`` (B, S) as attention takes it, (B, 1, 1, S). Given as it is, transformers
    looks whether it masks anything, and on a GPU the host waits for the answer."""
    mask = inputs.get("attention_mask")
    return args, inputs if mask is None else {**inputs, "attention_mask": mask[:, None, None].bool()}


def _check(settings: Settings, signature: Signature) -> None:
    check_signature("bert", signature, "masked_lm", "text_classification")
    if settings.positions is not None and settings.positions < signature.length:
        raise InputError(
            f"positions={settings.positions} is fewer than the {signature.length} tokens of the task's texts; "
            "leave it out, make it larger, or cut the task's texts"
        )


def partition(settings: Settings, model: nn.Module) -> Partition:
    return partition_model(model, ffn_groups=settings.ffn_groups, head_outputs=settings.head_outputs)


def work(settings: Settings, signature: Signature, batch: int) -> Layers:
    """Multiply-adds of one training step of ``batch`` sequences, per module and for the remainder.

    Per token, with width d, S positions, padding included: each of W_Q, W_K, W_V, W_O costs d², W_1 and W_2
    together 8d²; each once more for the input's gradient and once for the weight's. Scores and values cost 2·S·d
    and, having no weights, 4·S·d for their inputs. Heads and neuron groups share evenly. The remainder's products
    are the vocabulary head, d² + d·V per token, or pooler and classifier, d² + d·outputs per sequence, and the W_O
    and FFNs that settings leave to it. The embeddings are the remainder's too.
    """
    _check(settings, signature)
    length, d = signature.length, settings.width
    tokens = batch * length
    blocks, rest = feed_forward(settings.layers, settings.ffn_groups, 8 * d * d * tokens)
    predictions = tokens if signature.objective == "masked_lm" else batch
    rest = total(rest, product((d * d + d * signature.outputs) * predictions))
    return transformer(settings, length, tokens, blocks, rest)
