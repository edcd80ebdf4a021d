"""Masked-language modelling on token arrays held in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mat.form import Form
from mat.seeds import generator
from mat.tasks.base import Batch, Metric, Score, Task, hash_arrays
from mat.tasks.masking import NOT_COUNTED, Masked, Vocabulary, mask_tokens

EVALUATION_SEED = 0


class TokenTask(Task):
    """Guess masked tokens; log-perplexity = mean negative log-likelihood in nats of the selected tokens.

    Training sequences are masked anew at every step (stream "masks"); each split has one fixed mask that
    no run seed moves. ``bounds`` holds the unigram losses; the caller adds others.

    Args:
        name: the task's name.
        tokens: split -> integer ids [N, S].
        vocabulary: ids, [MASK] and the words that random replacements come from.
    """

    metrics = (Metric("log_perplexity", higher_is_better=False), Metric("perplexity", higher_is_better=False))

    def __init__(self, name: str, tokens: dict[str, np.ndarray], vocabulary: Vocabulary) -> None:
        self.name = name
        self.vocabulary = vocabulary
        self.sizes = {split: len(array) for split, array in tokens.items()}
        self.tokens = {split: torch.from_numpy(a.astype(np.int32)) for split, a in tokens.items()}
        self._fixed: dict[str, Masked] = {}
        named = {f"{split}/tokens": array.numpy() for split, array in self.tokens.items()}
        for split in ("validation", "test"):
            named[f"{split}/inputs"] = self.fixed_masks(split).inputs.numpy()
            named[f"{split}/labels"] = self.fixed_masks(split).labels.numpy()
        self.data_hash = hash_arrays(named)
        self.bounds = {
            f"unigram_{split}": unigram_loss(self.tokens["train"], self.fixed_masks(split).labels, vocabulary)
            for split in ("validation", "test")
        }
        self.form = Form("masked_lm", {"input_ids": self.tokens["train"][:1].long()}, vocabulary.size)

    def fixed_masks(self, split: str) -> Masked:
        """The one masked version of a whole split [N, S]: what evaluation and the bounds both use."""
        if split not in self._fixed:
            draws = generator(EVALUATION_SEED, "masks", split)
            masked = mask_tokens(self.tokens[split], self.vocabulary, draws)
            self._fixed[split] = Masked(masked.inputs.int(), masked.labels.int())
        return self._fixed[split]

    def _training_batch(self, index: Tensor, seed: int, epoch: int, step: int) -> Batch:
        draws = generator(seed, "masks", epoch, step)
        masked = mask_tokens(self.tokens["train"][index], self.vocabulary, draws)
        return Batch({"input_ids": masked.inputs}, masked.labels)

    def _fixed_batch(self, split: str, index: slice) -> Batch:
        masked = self.fixed_masks(split)
        return Batch({"input_ids": masked.inputs[index].long()}, masked.labels[index].long())

    def _probe_batch(self, index: Tensor, seed: int) -> Batch:
        draws = generator(seed, "probe", "masks")
        masked = mask_tokens(self.tokens["train"][index], self.vocabulary, draws)
        return Batch({"input_ids": masked.inputs}, masked.labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats of ``logits`` [B, S, V] over the selected ``labels`` [B, S].

        Zero, not NaN, when no position of a small batch happens to be selected.
        """
        flat = labels.reshape(-1)
        total = functional.cross_entropy(
            logits.reshape(flat.numel(), -1), flat, ignore_index=NOT_COUNTED, reduction="sum"
        )
        return total / (flat != NOT_COUNTED).sum().clamp(min=1)

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats over each sequence's selected positions [B]; zero where none is selected."""
        each = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=NOT_COUNTED, reduction="none"
        )
        counted = (labels != NOT_COUNTED).sum(1).clamp(min=1)
        return each.reshape(labels.shape).sum(1) / counted

    def score(self, split: str, answers: Iterable[tuple[Tensor, Tensor]]) -> Score:
        """Mean cross-entropy in nats over all selected positions; it is the log-perplexity."""
        total, count = 0.0, 0
        for logits, labels in answers:
            counted = labels != NOT_COUNTED
            total += functional.cross_entropy(
                logits[counted].double(), labels[counted], reduction="sum"
            ).item()
            count += int(counted.sum())
        loss = total / count if count else math.nan
        return Score(loss, {"log_perplexity": loss, "perplexity": perplexity(loss)})


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that overflows."""
    return math.exp(loss) if loss < 700 else math.inf if loss == loss else math.nan


def unigram_loss(train: Tensor, labels: Tensor, vocabulary: Vocabulary) -> float:
    """Cross-entropy in nats of the selected ``labels`` [N, S] under the training frequencies, add-one.

    ``train`` [M, S]: ids counted; every id but [MASK] gets one occurrence more. NaN if nothing is selected.
    """
    counts = torch.bincount(train.reshape(-1), minlength=vocabulary.size).double() + 1
    counts[vocabulary.mask_id] = 0
    targets = labels[labels != NOT_COUNTED].long()
    return -(counts / counts.sum()).log()[targets].mean().item()
