"""What is timed, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from mat.errors import InputError
from mat.experiments.checks import check_increasing
from mat.limits import Range, check_limits
from mat.modes import ENDS, MODES


@dataclass(frozen=True)
class Settings:
    """Steps of the run's own recipe, in turn with dense ones, and probes of its own settings."""

    shares: ClassVar[tuple[float, ...]] = (0,)  # checkpoints: a step lasts as long at any point of training

    active_shares: tuple[Annotated[float, Range(ge=0, le=1)], ...] = (0, 0.1, 0.2, 0.34, 0.5, 0.66, 0.8, 1)
    """Shares of the modules of every kind that are active, drawn anew in every round; two at least, increasing."""
    modes: tuple[Literal[MODES], ...] = ENDS
    """Backward modes."""
    rounds: Annotated[int, Range(ge=1)] = 5
    """Rounds of all of them."""
    steps: Annotated[int, Range(ge=1)] = 3
    """Steps that are timed at once, after one that is not."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "active_shares", tuple(self.active_shares))
        object.__setattr__(self, "modes", tuple(self.modes))
        check_limits(self)
        check_increasing("active_shares", self.active_shares)
        if len(self.active_shares) < 2:
            raise InputError(f"active_shares: between two there is a line, got {list(self.active_shares)}")
        if not self.modes or len(set(self.modes)) < len(self.modes):
            raise InputError(f"modes must be different ones of {', '.join(MODES)}, got {list(self.modes)}")
