"""Classes, or a score, of sentences and pairs of sentences: rows of tokens with padding and token types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mat.experiments.task_signature import Signature
from mat.experiments.tasks.base import SPLITS, Batch, Metric, Outline, Score, Task, hash_arrays

Measure = Callable[[str, np.ndarray, np.ndarray], dict[str, float]]


class Encoded(NamedTuple):
    """Token ids [N, S], integers; of row i the first ``total[i]`` are text, from ``second[i]`` on of token type 1."""

    ids: np.ndarray
    second: np.ndarray
    total: np.ndarray

    def take(self, index: np.ndarray | slice) -> dict[str, Tensor]:
        """The model's inputs of the rows ``index``, int64 [B, S] each."""
        place = np.arange(self.ids.shape[1])
        there = place < self.total[index][:, None]
        types = there & (place >= self.second[index][:, None])
        arrays = {"input_ids": self.ids[index], "attention_mask": there, "token_type_ids": types}
        return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}


class TextClassification(Task):
    """Cross-entropy over ``outputs`` classes in nats, or with one output the squared error of a score.

    Args:
        name: the task's name.
        rows: split -> encoded sentences.
        labels: split -> int64 [N], or float32 [N] for a score.
        outputs: number of classes; 1 for a score.
        vocabulary: number of token ids.
        metrics: what ``measure`` gives, the first one above all.
        measure: (split, predictions [N], labels [N]) -> metric -> value; predictions are classes or scores, and as
            many as were scored, in order.
    """

    def __init__(
        self,
        name: str,
        rows: dict[str, Encoded],
        labels: dict[str, np.ndarray],
        outputs: int,
        vocabulary: int,
        metrics: tuple[Metric, ...],
        measure: Measure,
    ) -> None:
        self.name, self.rows, self.metrics, self._measure = name, rows, metrics, measure
        self.sizes = {split: len(labels[split]) for split in SPLITS}
        self.regression = outputs == 1
        if self.regression:
            self.loss_unit = "squared points"
        self.labels = {split: torch.from_numpy(found) for split, found in labels.items()}
        self.signature = Signature("text_classification", rows["train"].take(slice(0, 1)), outputs, vocabulary)
        arrays = {f"{split}/labels": labels[split] for split in SPLITS}
        for split in SPLITS:
            arrays |= {f"{split}/{key}": value for key, value in rows[split]._asdict().items()}
        self.data_hash = hash_arrays(arrays)
        self.bounds = prior_bounds(labels, None if self.regression else outputs)

    def _training_batch(self, index: Tensor, seed: int, epoch: int, step: int) -> Batch:
        return self._probe_batch(index, seed)

    def _fixed_batch(self, split: str, index: slice | np.ndarray) -> Batch:
        return Batch(self.rows[split].take(index), self.labels[split][index])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the samples of ``logits`` [B, outputs] against ``labels`` [B]."""
        return self.sample_losses(logits, labels).mean()

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats, or squared error, of each sample [B]."""
        if self.regression:
            return (logits[:, 0] - labels) ** 2
        return functional.cross_entropy(logits, labels, reduction="none")

    def score(self, split: str, answers: Iterable[tuple[Tensor, Tensor]]) -> Score:
        """Mean loss, and what the task's ``measure`` says of the predicted classes or scores."""
        total, predictions, truths = 0.0, [], []
        for logits, labels in answers:
            exact = logits.double()
            total += self.sample_losses(exact, labels).sum().item()
            predictions.append((exact[:, 0] if self.regression else exact.argmax(1)).cpu().numpy())
            truths.append(labels.cpu().numpy())
        guessed, true = np.concatenate(predictions), np.concatenate(truths)
        return Score(total / len(true), self._measure(split, guessed, true))


def prior_bounds(labels: dict[str, np.ndarray], classes: int | None) -> dict[str, float]:
    """What is reached without reading the text, from the training labels alone; ``classes`` None for a score.

    "prior_…": loss of always giving the training frequencies, nats (a score: squared error of the training mean);
    "majority_accuracy_…": accuracy of always giving the class that training has most of.
    """
    found = {}
    for split in ("validation", "test"):
        if classes is None:
            mean = labels["train"].mean(dtype=np.float64)
            found[f"prior_{split}"] = float(((labels[split] - mean) ** 2).mean())
            continue
        counts = np.bincount(labels["train"], minlength=classes)
        found[f"prior_{split}"] = float(-np.log(counts / counts.sum())[labels[split]].mean())
        found[f"majority_accuracy_{split}"] = float((labels[split] == counts.argmax()).mean())
    return found


def classification_outline(length: int, outputs: int, vocabulary: int, sizes: dict[str, int]) -> Outline:
    """The outline of a task on rows of ``length`` tokens."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    example = {name: torch.empty(1, length, dtype=torch.int64, device="meta") for name in names}
    return Outline(Signature("text_classification", example, outputs, vocabulary), sizes)
