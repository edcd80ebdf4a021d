"""BERT for masked language modelling: Hugging Face's ``BertForMaskedLM`` at any size."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from mat.errors import InputError
from mat.form import Form, check_form
from mat.models.work import REMAINDER, Work, attention_head, extremes, product, step
from mat.partition import Partition
from mat.structure import partition_model

__all__ = ["Settings", "build", "closed_form", "extremes", "partition", "step", "work"]


@dataclass(frozen=True)
class Settings:
    """``width``: hidden size; the feed-forward block is 4·width. ``initialiser``: standard deviation of the
    initial weights; None scales it to the width (``initial_std``). ``ffn_groups``: modules per FFN (A5)."""

    layers: int = 2
    width: int = 64
    heads: int = 4
    dropout: float = 0.0
    initialiser: float | None = None
    ffn_groups: int = 1

    def __post_init__(self) -> None:
        if self.layers < 1 or self.heads < 1 or self.width < self.heads or self.width % self.heads:
            raise InputError(
                f"layers ≥ 1 and a width that heads divide are expected, got layers={self.layers}, "
                f"width={self.width}, heads={self.heads}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.ffn_groups < 1 or 4 * self.width % self.ffn_groups:
            raise InputError(
                f"ffn_groups={self.ffn_groups} does not divide the FFN's {4 * self.width} neurons"
            )
        if self.initialiser is not None and self.initialiser <= 0:
            raise InputError(f"initialiser must be > 0, got {self.initialiser}")


def initial_std(settings: Settings) -> float:
    """Standard deviation of the initial weights, scaled to the width.

    BERT-base's 0.02 is 0.55/√768. Keeping that number at a small width leaves the model on the unigram
    plateau for thousands of steps, so the default keeps σ·√width fixed, at 0.8 (σ = 0.1 at width 64).
    """
    return settings.initialiser if settings.initialiser is not None else 0.8 / settings.width**0.5


def build(settings: Settings, form: Form) -> nn.Module:
    """``BertForMaskedLM`` for token sequences of the example's length."""
    from transformers import BertConfig, BertForMaskedLM

    check_form("bert", form, "masked_lm")
    config = BertConfig(
        vocab_size=form.outputs,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.width,
        max_position_embeddings=form.length,
        type_vocab_size=1,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        initializer_range=initial_std(settings),
        attn_implementation="sdpa",
        pad_token_id=None,  # every sequence is full: id 0 is a word like any other and must get its gradient
    )
    return BertForMaskedLM(config)


def partition(settings: Settings, model: nn.Module) -> Partition:
    return partition_model(model, ffn_groups=settings.ffn_groups)


def work(settings: Settings, form: Form, batch: int) -> dict[str, Work]:
    """Multiply-adds of one training step of ``batch`` sequences, per module and for the remainder.

    Per token, with width d, S positions, vocabulary V: each of W_Q, W_K, W_V, W_O costs d², W_1 and W_2
    together 8d², the vocabulary head d² + d·V; each once more for the input's gradient and once for the
    weight's. Scores and values cost 2·S·d and, having no weights, 4·S·d for their inputs. Heads and neuron
    groups share evenly.
    """
    check_form("bert", form, "masked_lm")
    length, d = form.length, settings.width
    tokens = batch * length
    head = attention_head(d, settings.heads, length, tokens)
    group = product(8 * d * d * tokens // settings.ffn_groups)
    found: dict[str, Work] = {}
    for layer in range(settings.layers):
        names = [f"layer{layer}.ffn"]
        if settings.ffn_groups > 1:
            names = [f"layer{layer}.ffn{g}" for g in range(settings.ffn_groups)]
        found |= {f"layer{layer}.head{h}": head for h in range(settings.heads)} | dict.fromkeys(names, group)
    return found | {REMAINDER: product((d * d + d * form.outputs) * tokens)}


def closed_form(settings: Settings, form: Form, batch: int, active: Collection[str], mode: str) -> int:
    """Multiply-adds of one training step (forward and backward) of ``batch`` sequences: ``step`` of ``work``.

    The embeddings are the remainder, so every input's gradient is needed. On a GPU without dropout: with it the
    attention call stays whole there (``mat.sparse_attention``), and layers with some but not all heads inactive
    run their scores' backward pass in full.
    """
    return step(work(settings, form, batch), active, mode)
