"""The contract of a model family: what its file has."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from mat.experiments.models.closed_form import ModelWork
from mat.experiments.task_signature import Signature
from mat.partition.partition import Partition


class ModelPlugin(Protocol):
    """A file of a model family: a builder, its partition, and the cost of one training step by formula.

    A model whose training takes more than the task's loss has ``extra_loss()``: a scalar to add to it, of the forward
    pass in training mode that was just made, or None; no probe and no evaluation counts it.
    """

    Settings: type
    """A frozen dataclass; a text after a field documents it, ``__post_init__`` refuses impossible values."""

    def build(self, settings: Any, signature: Signature) -> nn.Module:
        """The model for a task's ``signature``, its initial weights by the current default generator."""

    def partition(self, settings: Any, model: nn.Module) -> Partition:
        """Its modules."""

    def work(self, settings: Any, signature: Signature, batch: int) -> ModelWork:
        """Multiply-adds of a step of ``batch`` samples, by module and remainder; what is executed, but for families
        that set ``DEPENDS_ON_INPUTS``."""
