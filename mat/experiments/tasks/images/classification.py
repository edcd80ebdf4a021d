"""Image classification: normalisation, augmentation, accuracy, and how a training split is divided."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mat.experiments.task_signature import Signature
from mat.experiments.tasks.base import SPLITS, Batch, Metric, Outline, Score, Task, divide, division, hash_arrays
from mat.experiments.tasks.images.augment import Augment
from mat.experiments.tasks.images.decoded import Part, Pictures, channel_statistics
from mat.experiments.tasks.label_noise import SHOWN, replaced
from mat.seeds import generator

TOP = 5


class ImageTask(Task):
    """Classify images; accuracies in [0, 1].

    ``data_hash`` is of every image's hash and label, in order. ``bounds`` holds the accuracy, per split, of always
    naming the class that is most frequent in training (of several the first).

    Args:
        name: the task's name.
        parts: split -> images and labels, values 0 … classes - 1.
        classes: number of classes.
        augment: what training images go through, uint8 [B, C, H, W] to the same; None = nothing.
        label_noise: share of the training labels that is replaced by another class
            (`mat.experiments.tasks.label_noise`).

    Pixels are scaled to zero mean and unit variance per channel by the statistics of the training split.
    """

    def __init__(
        self, name: str, parts: dict[str, Part], classes: int, augment: Augment | None, label_noise: float = 0.0
    ) -> None:
        self.name = name
        names = ("accuracy", "top5_accuracy") if classes > TOP else ("accuracy",)
        self.metrics = tuple(Metric(name, higher_is_better=True) for name in names)
        self.sizes = {split: len(part.rows) for split, part in parts.items()}
        named = {f"{split}/images": part.pictures.digests[part.rows] for split, part in parts.items()}
        labels = {split: part.labels for split, part in parts.items()}
        self._true = torch.from_numpy(labels["train"])
        labels["train"], self._wrong = replaced(labels["train"], classes, label_noise, name, "label_noise")
        named |= {f"{split}/labels": given for split, given in labels.items()}
        self.data_hash = hash_arrays(named)
        self._parts = parts
        self._labels = {split: torch.from_numpy(given) for split, given in labels.items()}
        self._mean, self._scale = (values.tolist() for values in channel_statistics(parts["train"]))
        self._augment = augment
        example = self._normalised(parts["train"].pixels(slice(1)))
        self.signature = Signature("image_classification", {"x": example}, classes)
        majority = int(self._labels["train"].bincount().argmax())
        self.bounds = {
            f"majority_accuracy_{split}": (self._labels[split] == majority).double().mean().item()
            for split in ("validation", "test")
        }

    def _training_batch(self, index: Tensor, seed: int, epoch: int, step: int) -> Batch:
        images = self._parts["train"].pixels(index.numpy())
        if self._augment:
            images = self._augment(images, generator(seed, "augment", epoch, step))
        return Batch({"x": self._normalised(images)}, self._labels["train"][index])

    def _fixed_batch(self, split: str, index: slice | np.ndarray) -> Batch:
        return Batch({"x": self._normalised(self._parts[split].pixels(index))}, self._labels[split][index])

    def corrupted(self) -> tuple[Batch, Tensor] | None:
        """As in the contract: images of wrong classes and their true classes [n]."""
        if not len(self._wrong):
            return None
        index = torch.from_numpy(self._wrong[:SHOWN])
        return self._probe_batch(index, 0), self._true[index]

    def _normalised(self, images: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import normalize_image

        return normalize_image(images.float(), self._mean, self._scale, inplace=True)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats of ``logits`` [B, classes] against ``labels`` [B]."""
        return functional.cross_entropy(logits, labels)

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats of each sample [B]."""
        return functional.cross_entropy(logits, labels, reduction="none")

    def score(self, split: str, answers: Iterable[tuple[Tensor, Tensor]]) -> Score:
        """Mean cross-entropy in nats; the shares of images whose label has the highest logit, and, where there are
        more classes than that, one of the five highest (ties as ``torch.topk`` resolves them)."""
        loss, count = 0.0, 0
        right = dict.fromkeys((metric.name for metric in self.metrics), 0)
        for logits, labels in answers:
            loss += functional.cross_entropy(logits.double(), labels, reduction="sum").item()
            right["accuracy"] += int((logits.argmax(1) == labels).sum())
            if "top5_accuracy" in right:
                right["top5_accuracy"] += int((logits.topk(TOP).indices == labels[:, None]).sum())
            count += len(labels)
        return Score(loss / count, {name: number / count for name, number in right.items()})


def image_outline(shape: tuple[int, int, int], classes: int, sizes: dict[str, int]) -> Outline:
    """The outline of a task with images of ``shape`` (C, H, W)."""
    example = {"x": torch.empty((1, *shape), device="meta")}
    return Outline(Signature("image_classification", example, classes), sizes)


def image_division(name: str, count: int, settings: Any) -> tuple[int, int]:
    """How many of ``count`` official training images are trained on and held out for validation: what ``settings`` have
    as ``train_examples`` (None: all others) and ``validation_examples`` (None: one in twenty).

    Raises InputError: there are too few for it.
    """
    held_out = settings.validation_examples or max(count // 20, 1)
    return division(f"images of {name}", count, settings.train_examples, held_out), held_out


def divided(name: str, pictures: Pictures, rows: np.ndarray, settings: Any) -> dict[str, Part]:
    """`image_division` of the official training images ``rows`` [N] -> "train" and "validation" (`base.divide`)."""
    chosen = divide(len(rows), *image_division(name, len(rows), settings), name)
    return {split: Part(pictures, rows[index]) for split, index in zip(SPLITS, chosen, strict=False)}
