"""The one error a user's input can cause."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used: the message says what was expected, what came and what to do."""
