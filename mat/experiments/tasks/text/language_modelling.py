"""Language modelling on rows of tokens: guess masked words (masked_lm), or every next token (causal_lm)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mat.experiments.task_signature import Signature
from mat.experiments.tasks.base import Batch, Metric, Outline, Score, Task, hash_arrays
from mat.experiments.tasks.label_noise import SHOWN
from mat.experiments.tasks.text.masking import NOT_COUNTED, Masked, Vocabulary, mask_tokens
from mat.seeds import generator

OBJECTIVES = ("masked_lm", "causal_lm")
EVALUATION_SEED = 0
AT_ONCE = 1024  # rows
SCORED_AT_ONCE = 1 << 24  # logits turned into float64 at a time


@dataclass(frozen=True)
class Rows:
    """Row i is ``before``, then ``stream[starts[i] : starts[i] + width]``, then ``after``; ``stream`` [T], ids.

    What would lie past the stream's end is -100, "not counted".
    """

    stream: np.ndarray
    starts: np.ndarray
    width: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, index: np.ndarray | slice) -> np.ndarray:
        """The rows ``index`` as int64 [B, S], S = width and the ids around it."""
        place = self.starts[index][:, None] + np.arange(self.width)
        inside = place < len(self.stream)
        first, last = len(self.before), len(self.before) + self.width
        found = np.empty((len(place), last + len(self.after)), dtype=np.int64)
        found[:, :first], found[:, last:] = self.before, self.after
        body = found[:, first:last]
        body[:] = self.stream[place * inside]
        body[~inside] = NOT_COUNTED
        return found

    def parts(self) -> Iterator[np.ndarray]:
        """All rows in order, at most ``AT_ONCE`` at a time."""
        return (self.take(slice(start, start + AT_ONCE)) for start in range(0, len(self), AT_ONCE))

    def digest(self) -> np.ndarray:
        """SHA-256 of all rows as int32, uint8 [32]."""
        digest = hashlib.sha256()
        for part in self.parts():
            digest.update(part.astype("<i4").data)
        return np.frombuffer(digest.digest(), dtype=np.uint8)


class TokenTask(Task):
    """Guess tokens; log-perplexity = mean negative log-likelihood in nats of the guessed ones.

    masked_lm: training rows are masked anew at every step (stream "masks"); each split has one fixed mask that no run
    seed moves. causal_lm: a row of S + 1 tokens gives S inputs and, as labels, the next token of each.
    ``bounds`` holds the unigram losses; the caller adds others.

    Args:
        name: the task's name.
        rows: split -> rows of S ids (masked_lm) or S + 1 ids (causal_lm).
        vocabulary: ids, [MASK] and the words that are guessed when masked and that random replacements come from.
        objective: one of ``OBJECTIVES``.
        true: the training rows before some of their words were replaced; None = none was.
    """

    metrics = (Metric("log_perplexity", higher_is_better=False), Metric("perplexity", higher_is_better=False))

    def __init__(
        self,
        name: str,
        rows: dict[str, Rows],
        vocabulary: Vocabulary,
        objective: str = "masked_lm",
        true: Rows | None = None,
    ) -> None:
        self.name, self.rows, self.vocabulary, self.causal = name, rows, vocabulary, objective == "causal_lm"
        self.sizes = {split: len(found) for split, found in rows.items()}
        self._true = true
        self._last: tuple[tuple[str, int], Batch] | None = None
        named = {f"{split}/tokens": found.digest() for split, found in rows.items()}
        self.bounds = {}
        counts = self._counts()
        for split in ("validation", "test"):
            inputs, labels = self.fixed_masks(split)
            named |= {f"{split}/inputs": inputs.numpy(), f"{split}/labels": labels.numpy()}
            self.bounds[f"unigram_{split}"] = unigram_loss(counts, labels.numpy())
        self.data_hash = hash_arrays(named)
        self.signature = Signature(objective, self._fixed_batch("train", slice(0, 1)).inputs, vocabulary.size)

    def fixed_masks(self, split: str) -> Masked:
        """Inputs and labels of a whole split, int32 [N, S]: what evaluation and the bounds both use."""
        parts = [self._part(split, number) for number in range(-(-self.sizes[split] // AT_ONCE))]
        inputs = torch.cat([part.inputs["input_ids"].int() for part in parts])
        return Masked(inputs, torch.cat([part.labels.int() for part in parts]))

    def _part(self, split: str, number: int) -> Batch:
        """Rows number * AT_ONCE … of a split, with their fixed masks; the last part asked for is kept."""
        last = self._last
        if last is None or last[0] != (split, number):
            index = np.arange(number * AT_ONCE, min((number + 1) * AT_ONCE, self.sizes[split]))
            last = (split, number), self._batch(split, index, EVALUATION_SEED, "masks", split, number)
            self._last = last
        return last[1]

    def _batch(self, split: str, index: np.ndarray, seed: int, *stream: str | int) -> Batch:
        rows = torch.from_numpy(self.rows[split].take(index))
        if self.causal:
            return Batch({"input_ids": rows[:, :-1].clamp(min=0)}, rows[:, 1:].contiguous())
        masked = mask_tokens(rows, self.vocabulary, generator(seed, *stream))
        return Batch({"input_ids": masked.inputs}, masked.labels)

    def _training_batch(self, index: Tensor, seed: int, epoch: int, step: int) -> Batch:
        return self._batch("train", index.numpy(), seed, "masks", epoch, step)

    def _fixed_batch(self, split: str, index: slice) -> Batch:
        stop = min(index.stop, self.sizes[split])
        first = index.start // AT_ONCE
        parts = [self._part(split, number) for number in range(first, (stop - 1) // AT_ONCE + 1)]
        here = slice(index.start - first * AT_ONCE, stop - first * AT_ONCE)
        inputs = torch.cat([part.inputs["input_ids"] for part in parts])
        return Batch({"input_ids": inputs[here]}, torch.cat([part.labels for part in parts])[here])

    def _probe_batch(self, index: Tensor, seed: int) -> Batch:
        return self._batch("train", index.numpy(), seed, "probe", "masks")

    def corrupted(self) -> tuple[Batch, Tensor] | None:
        """As in the contract: the first sequences where a replaced word has to be said; the true words there [n, S].

        masked_lm: only replaced words that the training split's fixed masks turn into [MASK], so that none is shown.
        """
        if self._true is None:
            return None
        batch = self._fixed_batch("train", slice(0, self.sizes["train"]))
        true = torch.from_numpy(self._true.take(slice(None)))
        true = true[:, 1:] if self.causal else true
        asked = (batch.labels != NOT_COUNTED) & (batch.labels != true)
        if not self.causal:
            asked &= batch.inputs["input_ids"] == self.vocabulary.mask_id
        chosen = asked.any(1).nonzero()[:SHOWN, 0]
        if not len(chosen):
            return None
        given = Batch({"input_ids": batch.inputs["input_ids"][chosen]}, batch.labels[chosen])
        return given, torch.where(asked, true, NOT_COUNTED)[chosen]

    def _counts(self) -> np.ndarray:
        """How often the training rows have each id that can be a label, and one more each: int64 [V], 0 elsewhere."""
        counts = np.zeros(self.vocabulary.size, dtype=np.int64)
        for part in self.rows["train"].parts():
            targets = part[:, 1:][part[:, 1:] != NOT_COUNTED] if self.causal else part.reshape(-1)
            counts += np.bincount(targets, minlength=len(counts))
        counts += 1
        if not self.causal:
            words = self.vocabulary.words
            counts[: words.start] = counts[words.stop :] = 0
        return counts

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats of ``logits`` [B, S, V] over the counted ``labels`` [B, S].

        Zero, not NaN, when no position of a small batch happens to be selected.
        """
        flat = labels.reshape(-1)
        total = functional.cross_entropy(
            logits.reshape(flat.numel(), -1), flat, ignore_index=NOT_COUNTED, reduction="sum"
        )
        return total / (flat != NOT_COUNTED).sum().clamp(min=1)

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats over each sequence's counted positions [B]; zero where there is none."""
        each = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=NOT_COUNTED, reduction="none"
        )
        counted = (labels != NOT_COUNTED).sum(1).clamp(min=1)
        return each.reshape(labels.shape).sum(1) / counted

    def score(self, split: str, answers: Iterable[tuple[Tensor, Tensor]]) -> Score:
        """Mean cross-entropy in nats over all counted positions; it is the log-perplexity."""
        total, count = 0.0, 0
        for logits, labels in answers:
            counted = labels != NOT_COUNTED
            size = max(1, SCORED_AT_ONCE // logits.shape[-1])
            pairs = zip(logits[counted].split(size), labels[counted].split(size), strict=True)
            total += sum(functional.cross_entropy(a.double(), b, reduction="sum") for a, b in pairs).item()
            count += int(counted.sum())
        loss = total / count if count else math.nan
        return Score(loss, {"log_perplexity": loss, "perplexity": perplexity(loss)})


def token_outline(objective: str, length: int, outputs: int, sizes: dict[str, int]) -> Outline:
    """The outline of a language-modelling task on rows of ``length`` inputs."""
    example = {"input_ids": torch.empty(1, length, dtype=torch.int64, device="meta")}
    return Outline(Signature(objective, example, outputs), sizes)


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that overflows."""
    return math.exp(loss) if loss < 700 else math.inf if loss == loss else math.nan


def unigram_loss(counts: np.ndarray, labels: np.ndarray) -> float:
    """Cross-entropy in nats of the counted ``labels`` [N, S] under the frequencies ``counts`` [V]; NaN if none is."""
    targets = labels[labels != NOT_COUNTED]
    return float(np.log(counts.sum()) - np.log(counts[targets]).mean()) if len(targets) else math.nan
