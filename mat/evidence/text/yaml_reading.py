"""Reading YAML strictly: an unknown or missing key is an error that names what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mat.errors import InputError


def check_keys(
    where: str, value: Any, required: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, Any]:
    """``value``, when it is a mapping with every required key and no unknown one."""
    required, optional = set(required), set(optional)
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a mapping, got {type(value).__name__}")
    unknown, missing = sorted(map(str, set(value) - required - optional)), sorted(required - set(value))
    if unknown:
        allowed = ", ".join(sorted(required | optional)) or "none"
        raise InputError(f"{where}: unknown key {', '.join(unknown)}; expected keys: {allowed}")
    if missing:
        raise InputError(f"{where}: missing key {', '.join(missing)}; add it")
    return value


def text(where: str, value: Any) -> str:
    """``value``, when it is a non-empty string; line breaks become spaces."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: expected a non-empty text, got {value!r}")
    return " ".join(value.split())


def texts(where: str, value: Any) -> list[str]:
    """``value``, when it is a list of non-empty strings; it may be empty."""
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list of texts, got {type(value).__name__}")
    return [text(where, item) for item in value]


def one_of(where: str, value: Any, known: Iterable[str]) -> str:
    """``value``, when it is one of the ``known`` words."""
    if value not in (known := tuple(known)):
        raise InputError(f"{where}: expected one of {', '.join(known)}, got {value!r}")
    return value


def real(where: str, value: Any) -> float:
    """``value`` as a float, when it is a number (and not a truth value)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: expected a number, got {value!r}")
    return float(value)


def whole(where: str, value: Any, least: int) -> int:
    """``value``, when it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{where}: expected a whole number of at least {least}, got {value!r}")
    return value
