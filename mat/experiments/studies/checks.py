"""What the settings of several studies must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mat.errors import InputError


def is_number(value: Any, *kinds: type) -> bool:
    """Whether ``value`` is of one of ``kinds``, and no truth value."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_increasing(name: str, values: tuple[Any, ...], fits: Callable[[Any], bool], wanted: str) -> None:
    """Raise InputError unless there is a value, all of them fit and each is larger than the one before."""
    if not values or not all(map(fits, values)) or list(values) != sorted(set(values)):
        raise InputError(f"{name} must be {wanted}, increasing and at least one, got {list(values)}")
