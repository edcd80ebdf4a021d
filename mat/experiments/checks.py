"""What settings must be: one home for the checks that several kinds of them share."""

from __future__ import annotations

from typing import Any

from mat.errors import InputError


def check_whole(what: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse anything but a whole number in ``low`` … ``high``.

    Raises:
        InputError: says what was expected and what came.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"Expected {what} to be a whole number {limits}, got {value!r}.")


def check_increasing(name: str, values: tuple[Any, ...]) -> None:
    """Raise InputError unless there is a value, and each is larger than the one before."""
    if not values or list(values) != sorted(set(values)):
        raise InputError(f"{name} must be increasing and at least one, got {list(values)}")


def check_most(name: str, value: int, most: int) -> None:
    """Raise InputError unless ``value`` is at most ``most``: what is larger is a slip that would end in a memory error,
    after a long wait."""
    if value > most:
        raise InputError(f"{name} must be ≤ {most}, got {value!r}")
