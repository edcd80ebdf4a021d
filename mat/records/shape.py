"""What JSON has to look like: a record that comes from elsewhere can be sealed and still hold anything."""

from __future__ import annotations

from types import NoneType
from typing import Any

TEXT, TRUTH, WHOLE, NUMBER = (str,), (bool,), (int,), (int, float)
NOTHING = (NoneType,)
MAPPING = {str: None}  # of anything
_NAMES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "nothing"}


def unlike(value: Any, shape: Any, place: str) -> str | None:
    """Where and how ``value``, as JSON has it, is not of the ``shape``, in words; None where all agrees.

    A shape is a tuple of types; a list of one shape, for items of which there is one at least; a dict of shapes by key,
    which has to be there, or by ``str``, for whatever keys there are; or None, for anything.
    """
    if shape is None:
        return None
    if isinstance(shape, tuple):
        return None if type(value) in shape else _said(place, " or ".join(_NAMES[one] for one in shape), value)
    if isinstance(shape, list):
        if not (isinstance(value, list) and value):
            return _said(place, "a list that is not empty", value)
        return _first(((item, shape[0], f"{place}.{number}") for number, item in enumerate(value)))
    if not isinstance(value, dict):
        return _said(place, "a mapping", value)
    if str in shape:
        return _first((item, shape[str], f"{place}.{key}") for key, item in value.items())
    lacking = [key for key in shape if key not in value]
    if lacking:
        return f"{place} lacks the keys {', '.join(lacking)}"
    return _first((value[key], inside, f"{place}.{key}") for key, inside in shape.items())


def _first(parts: Any) -> str | None:
    return next((said for part in parts if (said := unlike(*part)) is not None), None)


def _said(place: str, expected: str, value: Any) -> str:
    return f"{place}: expected {expected}, got {value!r:.60}"
