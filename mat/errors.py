"""The one error a user's input can cause, and how messages list names."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """Input that cannot be used: the message says what was expected, what came and what to do."""


def listed(names: Sequence[str]) -> str:
    """At most six of ``names``, and how many more there are; '' is the model itself."""
    shown = ", ".join(name or "the model" for name in names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")
