"""A task plug-in that is known by its outline alone: what a plan may look at."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mat.experiments.task_signature import Signature
from mat.experiments.tasks.base import Outline


@dataclass(frozen=True)
class Settings:
    objective: str = "image_classification"
    train: int = 100


def outline(settings):
    if settings.objective == "image_classification":
        signature = Signature("image_classification", {"x": torch.empty(1, 3, 8, 8, device="meta")}, 10)
    else:
        tokens = torch.empty(1, 16, dtype=torch.int64, device="meta")
        signature = Signature(settings.objective, {"input_ids": tokens}, 50)
    return Outline(signature, {"train": settings.train, "validation": 30, "test": 20})


def load(settings, data, cache):
    raise AssertionError("a plan reads no data")
