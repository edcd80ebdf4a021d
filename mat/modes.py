"""The modes of the sparse backward pass, and what holds in them."""

from __future__ import annotations

from typing import Literal, get_args

Mode = Literal["exact", "detach", "detach_residual"]
MODES: tuple[str, ...] = get_args(Mode)
ENDS = MODES[:2]  # the third is the one or the other, layer by layer
DETACHED = "detach: selected modules below a layer that is wholly inactive and has no path beside it get no gradient"
