"""What a setting may be, said once, in its type: ``alpha: Annotated[float, Range(gt=0, le=1)]``, ``Literal["a", "b"]``.

Records check themselves by it when they are made; configs and their schema read the same types (``mat.settings``).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from mat.errors import InputError

SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Range:
    """Numbers ≥ ``ge`` or > ``gt`` and ≤ ``le`` or < ``lt``; None: no end there. Infinity and NaN are in none."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    @property
    def ends(self) -> dict[str, float]:
        """The ends that there are, by their names."""
        return {name: end for name in SIGNS if (end := getattr(self, name)) is not None}

    def __contains__(self, value: float) -> bool:
        return (
            abs(value) < float("inf")
            and (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def __str__(self) -> str:
        return " and ".join(f"{SIGNS[name]} {end:,}" for name, end in self.ends.items())


def check_limits(record: Any) -> None:
    """Raise InputError, naming the first field of the dataclass ``record`` that is not what its type says."""
    hints = _hints(record.__class__)
    for field in fields(record):
        value, hint = getattr(record, field.name), hints.get(field.name)
        if _limited(hint) and not _fits(value, hint):
            raise InputError(f"{field.name} must be {_said(hint)}, got {value!r}")


@cache
def _hints(record: Hashable) -> dict[str, Any]:
    """Types by name; none of a class whose types are known at its place alone."""
    try:
        return get_type_hints(record, include_extras=True)
    except NameError:
        return {}


def _limited(hint: Any) -> bool:
    """Whether a type says more than what kind of value it is."""
    inside = get_args(hint)
    return get_origin(hint) is Literal or any(isinstance(one, Range) or _limited(one) for one in inside)


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is what the type says."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, inside[0]) and all(value in one for one in inside[1:] if isinstance(one, Range))
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is Literal:
        return value in inside
    if origin is tuple and inside[1:] == (...,):
        return isinstance(value, tuple | list) and all(_fits(one, inside[0]) for one in value)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return not isinstance(hint, type) or hint is Any or isinstance(value, hint)


def _said(hint: Any) -> str:
    """A type in words."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [str(one) for one in inside[1:] if isinstance(one, Range)]
        return " ".join([_said(inside[0]), *ranges])
    if origin in (Union, UnionType):
        return " or ".join(_said(one) for one in inside)
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}" if len(inside) > 1 else str(inside[0])
    if origin is tuple:
        return f"a list, each {_said(inside[0])}"
    if hint is NoneType:
        return "none"
    return NAMES.get(hint, str(hint))
