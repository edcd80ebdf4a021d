"""Image classification on arrays held in memory: normalisation, shift, crop and flip."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mat.form import Form
from mat.seeds import generator
from mat.tasks.base import Batch, Metric, Score, Task, hash_arrays


class ImageTask(Task):
    """Classify images; accuracy in [0, 1].

    Args:
        name: the task's name.
        images: split -> uint8 [N, C, H, W].
        labels: split -> int64 [N], values 0 … classes - 1.
        classes: number of classes.
        shift: training images move by up to ``shift`` pixels each way, zeros coming in from outside
            (the same as a random crop after zero padding by ``shift``); 0 = none.
        flip: whether training images are mirrored left-right with probability 1/2.

    Pixels are scaled to zero mean and unit variance per channel by the statistics of the training split.
    """

    metrics = (Metric("accuracy", higher_is_better=True),)

    def __init__(
        self,
        name: str,
        images: dict[str, np.ndarray],
        labels: dict[str, np.ndarray],
        classes: int,
        shift: int,
        flip: bool,
    ) -> None:
        self.name = name
        self.bounds: dict[str, float] = {}
        self.sizes = {split: len(array) for split, array in images.items()}
        named = {f"{split}/images": array for split, array in images.items()}
        named |= {f"{split}/labels": array for split, array in labels.items()}
        self.data_hash = hash_arrays(named)
        self._images = {split: torch.from_numpy(np.ascontiguousarray(a)) for split, a in images.items()}
        self._labels = {split: torch.from_numpy(np.asarray(a, dtype=np.int64)) for split, a in labels.items()}
        self._mean, self._scale = channel_statistics(images["train"])
        self._shift = shift
        self._flip = flip
        self.form = Form("image_classification", {"x": self._normalised(self._images["train"][:1])}, classes)

    def _training_batch(self, index: Tensor, seed: int, epoch: int, step: int) -> Batch:
        images = self._images["train"][index]
        draws = generator(seed, "augment", epoch, step)
        if self._shift:
            images = random_shift(images, self._shift, draws)
        if self._flip:
            images = random_flip(images, draws)
        return Batch({"x": self._normalised(images)}, self._labels["train"][index])

    def _fixed_batch(self, split: str, index: slice) -> Batch:
        return Batch({"x": self._normalised(self._images[split][index])}, self._labels[split][index])

    def _probe_batch(self, index: Tensor, seed: int) -> Batch:
        return Batch({"x": self._normalised(self._images["train"][index])}, self._labels["train"][index])

    def _normalised(self, images: Tensor) -> Tensor:
        return (images.float() - self._mean) / self._scale

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats of ``logits`` [B, classes] against ``labels`` [B]."""
        return functional.cross_entropy(logits, labels)

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats of each sample [B]."""
        return functional.cross_entropy(logits, labels, reduction="none")

    def score(self, split: str, answers: Iterable[tuple[Tensor, Tensor]]) -> Score:
        """Mean cross-entropy in nats; the share of images whose label has the highest logit."""
        loss, right, count = 0.0, 0, 0
        for logits, labels in answers:
            loss += functional.cross_entropy(logits.double(), labels, reduction="sum").item()
            right += int((logits.argmax(1) == labels).sum())
            count += len(labels)
        return Score(loss / count, {"accuracy": right / count})


def channel_statistics(images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of uint8 ``images`` [N, C, H, W], each float32 [C, 1, 1].

    Summed as integers, so that the result does not depend on the order of summation; a constant channel
    gets scale 1.
    """
    values = np.arange(256, dtype=np.int64)
    counts = np.stack([np.bincount(images[:, c].reshape(-1), minlength=256) for c in range(images.shape[1])])
    pixels = counts.sum(1)
    mean = (counts * values).sum(1) / pixels
    variance = (counts * values**2).sum(1) / pixels - mean**2
    scale = np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0)
    return tuple(torch.tensor(part, dtype=torch.float32).reshape(-1, 1, 1) for part in (mean, scale))


def random_shift(images: Tensor, shift: int, draws: torch.Generator) -> Tensor:
    """Each of ``images`` [B, C, H, W] moved by its own uniform offset in -shift … shift on both axes."""
    count, _, height, width = images.shape
    offset = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=draws)
    rows = (offset[0] + torch.arange(height))[:, :, None]
    columns = (offset[1] + torch.arange(width))[:, None, :]
    padded = functional.pad(images, (shift, shift, shift, shift))
    sample = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows, columns].permute(0, 3, 1, 2).contiguous()


def random_flip(images: Tensor, draws: torch.Generator) -> Tensor:
    """Each of ``images`` [B, C, H, W] mirrored left-right with probability 1/2."""
    mirrored = torch.randint(0, 2, (len(images), 1, 1, 1), generator=draws).bool()
    return torch.where(mirrored, images.flip(3), images)
