"""What is timed, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mat.errors import InputError
from mat.experiments.checks import check_increasing, check_least
from mat.modes import MODES


@dataclass(frozen=True)
class Settings:
    """Steps of the run's own recipe, in turn with dense ones, and probes of its own settings."""

    shares: ClassVar[tuple[float, ...]] = (0,)  # checkpoints: a step lasts as long at any point of training

    active_shares: tuple[float, ...] = (0, 0.1, 0.2, 0.34, 0.5, 0.66, 0.8, 1)
    """Shares of the modules of every kind that are active, drawn anew in every round; increasing, in [0, 1]."""
    modes: tuple[str, ...] = MODES
    """Backward modes."""
    rounds: int = 5
    """Rounds of all of them."""
    steps: int = 3
    """Steps that are timed at once, after one that is not."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "active_shares", tuple(self.active_shares))
        object.__setattr__(self, "modes", tuple(self.modes))
        check_increasing("active_shares", self.active_shares, lambda v: 0 <= v <= 1, "shares in [0, 1]")
        if len(self.active_shares) < 2:
            raise InputError(f"active_shares: between two there is a line, got {list(self.active_shares)}")
        if not self.modes or set(self.modes) - set(MODES) or len(set(self.modes)) < len(self.modes):
            raise InputError(f"modes must be different ones of {', '.join(MODES)}, got {list(self.modes)}")
        for name in ("rounds", "steps"):
            check_least(name, getattr(self, name), 1)
