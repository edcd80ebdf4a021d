"""The contract of a task: splits, batches that are a pure function of (seed, epoch, step), a loss, metrics.

Paired by design: for one seed every method sees the same batches, augmentations, masks and probe samples,
because each is drawn from a stream of its own (`mat.seeds`) and none depends on what was drawn before.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from mat.errors import InputError
from mat.experiments.checks import check_whole
from mat.experiments.task_signature import LONGEST, Signature
from mat.limits import Range
from mat.seeds import generator, stream_seed

SPLITS = ("train", "validation", "test")
Count = Annotated[int, Range(ge=1)]
Length = Annotated[int, Range(ge=2, le=LONGEST)]  # of a text, in tokens


class Metric(NamedTuple):
    """What a task is judged by, and which way is up."""

    name: str
    higher_is_better: bool


class Score(NamedTuple):
    """Mean loss over a whole split, and the metrics that the split has, by name."""

    loss: float
    metrics: dict[str, float]


class Batch(NamedTuple):
    """``inputs``: keyword arguments of the model's forward; ``labels``: [B] or [B, S], -100 = not counted;
    float32 [B] for regression."""

    inputs: dict[str, Tensor]
    labels: Tensor


class Outline(NamedTuple):
    """What is known of a task without reading its data: ``signature`` (its example on the device ``meta``) and
    ``sizes`` of the splits, from published counts; numbers of tokens are estimates."""

    signature: Signature
    sizes: dict[str, int]


class Task(ABC):
    """A task, all of it in memory and on the CPU.

    Attributes:
        name: the task's name.
        signature: what it asks of a model: objective, example, outputs.
        metrics: what it is judged by, the first one above all.
        loss_unit: unit of the loss.
        sizes: samples in "train", "validation" and "test".
        data_hash: SHA-256 of the arrays that were really read, evaluation masks included.
        bounds: known reference values of losses, e.g. "floor_validation", and of metrics, e.g.
            "majority_accuracy_test"; {} when none is known.
        vocabulary_hash: of what gives token ids their meaning, for models that go from task to task; None without.
        truncated: rows per split that were longer than the task's length and are cut.
        tokenizer: JSON of the tokenizer that text went through, None where there is none.
    """

    name: str
    signature: Signature
    metrics: tuple[Metric, ...]
    loss_unit: str = "nats"
    sizes: dict[str, int]
    data_hash: str
    bounds: dict[str, float]
    vocabulary_hash: str | None = None
    tokenizer: str | None = None
    truncated: Mapping[str, int] = MappingProxyType({})

    _permutation: tuple[tuple[int, int], Tensor] | None = None

    @abstractmethod
    def _training_batch(self, index: Tensor, seed: int, epoch: int, step: int) -> Batch:
        """The augmented or masked batch of the training samples ``index`` [B]."""

    @abstractmethod
    def _fixed_batch(self, split: str, index: slice | np.ndarray) -> Batch:
        """The unaugmented batch ``index`` of a split: the same at every call and for every seed."""

    def _probe_batch(self, index: Tensor, seed: int) -> Batch:
        """The unaugmented batch of the training samples ``index`` [n]."""
        return self._fixed_batch("train", index.numpy())

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over the counted labels; a differentiable scalar."""

    @abstractmethod
    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Each sample's own loss [B], the mean over its counted labels; differentiable."""

    @abstractmethod
    def score(self, split: str, answers: Iterable[tuple[Tensor, Tensor]]) -> Score:
        """Loss and metrics of ``split`` from the (logits, labels) of all its ``batches``, in their order.

        The first metric is there for every split; others may belong to some splits only.
        """

    def steps_per_epoch(self, size: int) -> int:
        """Full batches of ``size`` in one epoch; the rest of the permutation is left out.

        Raises InputError: ``size`` is not in 1 … training samples.
        """
        check_whole("batch size", size, 1, self.sizes["train"])
        return self.sizes["train"] // size

    def batch(self, seed: int, epoch: int, step: int, size: int) -> Batch:
        """Training batch ``step`` of ``epoch``: a pure function of its arguments, in any order of calls.

        Raises InputError: ``size`` or ``step`` is outside the epoch.
        """
        check_whole("step within the epoch", step, 0, self.steps_per_epoch(size) - 1)
        order = self._order(seed, epoch)
        return self._training_batch(order[step * size : (step + 1) * size], seed, epoch, step)

    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """The whole of ``split`` in order, unaugmented, the last batch possibly smaller.

        Raises InputError: an unknown split or a size below 1, at the call and not at the first batch.
        """
        if split not in self.sizes:
            raise InputError(f"Unknown split {split!r} of {self.name}: expected one of {', '.join(SPLITS)}.")
        check_whole("batch size", size, 1)
        starts = range(0, self.sizes[split], size)
        return (self._fixed_batch(split, slice(start, start + size)) for start in starts)

    def probe(self, seed: int, n: int) -> Batch:
        """``n`` different training samples drawn by the seed, unaugmented (tokens: masked once).

        Raises InputError: ``n`` is not in 1 … training samples.
        """
        check_whole("probe size", n, 1, self.sizes["train"])
        drawn = torch.randperm(self.sizes["train"], generator=generator(seed, "probe"))[:n]
        return self._probe_batch(drawn, seed)

    def corrupted(self) -> tuple[Batch, Tensor] | None:
        """Training samples whose labels a setting of the task replaced by wrong ones, and the true labels of those.

        The batch is unaugmented, at most 512 samples, the same at every call and for every seed, with the labels that
        are trained on. The true labels have the shape of the given ones and are -100 where the given label is the
        true one or is not counted. None: nothing is replaced, which is so unless a task says otherwise.
        """
        return None

    def _order(self, seed: int, epoch: int) -> Tensor:
        """The epoch's permutation of the training samples; the last is kept, every step asks for it."""
        kept = self._permutation  # read once: another thread may replace it by another epoch's
        if kept is None or kept[0] != (seed, epoch):
            order = torch.randperm(self.sizes["train"], generator=generator(seed, "batches", epoch))
            kept = self._permutation = ((seed, epoch), order)
        return kept[1]


class TaskPlugin(Protocol):
    """A file of a task."""

    Settings: type
    """A frozen dataclass; a text after a field documents it, ``__post_init__`` refuses impossible values."""

    def load(self, settings: Any, data: Path | None, cache: Path) -> Task:
        """The task, from the mirror ``data`` or the hub, kept in ``cache``."""

    def outline(self, settings: Any) -> Outline:
        """Its signature and sizes, without reading data."""

    def sources(self, settings: Any) -> tuple[Any, ...]:
        """What has to be fetched (``tasks.storage.hub.Origin``, ``PlainFile``); () for nothing."""


def fixed_order(count: int, *names: str) -> np.ndarray:
    """A permutation [count] fixed by ``names`` alone, for splits and subsets: no run seed moves it.

    It sorts raw PCG64 output, which NumPy keeps stable (NEP 19), so it is the same on every machine.
    """
    raw = np.random.PCG64(stream_seed(0, *names)).random_raw(count)
    return np.argsort(raw, kind="stable")


def division(what: str, count: int, train: int | None, held_out: int) -> int:
    """How many of ``count`` official training samples are trained on, some being held out; ``train`` None: all others.

    Raises InputError: there are too few of ``what``.
    """
    left = count - held_out
    if left < (train or 1):
        raise InputError(
            f"Expected at least {train or 1} training {what} beside the {held_out} held out for validation, got {left} "
            f"of {count}; lower the settings 'train_examples' or 'validation_examples'."
        )
    return train or left


def divide(count: int, trained: int, held_out: int, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``count`` official training samples are for training and for validation, each in rising order.

    Fixed by ``names`` alone: the validation samples are the same whatever is trained on, and a smaller training set is
    part of a larger one.
    """
    order = fixed_order(count, *names, "split")
    return np.sort(order[held_out:][:trained]), np.sort(order[:held_out])


def hash_arrays(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of ``arrays``, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
