"""The losses of training steps, summed where they are computed; the host hears of them without waiting."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mat.backward.late import sent

LATE = 8  # steps; a host is rarely further ahead of its GPU


class LossSum:
    """The sum of the losses (scalars) since it was last taken, in float64 on ``device``.

    Once one of them is not finite, neither is the sum. ``late``: after how many further steps that is noticed; by
    then the sum has come over by itself, so nothing waits for the step that has just begun.
    """

    def __init__(self, device: str, late: int) -> None:
        self.device, self.late = device, late
        self._begin(0.0)

    def _begin(self, total: float) -> None:
        self._total = torch.full((), total, dtype=torch.float64, device=self.device)
        self._coming: deque[Callable[[], float]] = deque()

    def add(self, loss: Tensor) -> bool:
        """Add a step's loss; False where the sum was not finite ``late`` steps ago."""
        self._total = self._total + loss.detach()
        self._coming.append(sent(self._total))
        return len(self._coming) <= self.late or math.isfinite(self._coming.popleft()())

    def take(self) -> float:
        """The sum, which is waited for; the next one begins at zero."""
        total = self._total.item()
        self._begin(0.0)
        return total

    def state(self) -> dict[str, Any]:
        """Plain numbers, which are waited for: the sum, and those of it that nobody has looked at."""
        return {"total": self._total.item(), "coming": [read() for read in self._coming]}

    def restore(self, state: dict[str, Any]) -> None:
        self._begin(state["total"])
        self._coming.extend(lambda value=value: value for value in state["coming"])
