"""Plug-ins by name: one file and one line per task, model and method."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any

from mat.errors import InputError


def find(kind: str, known: Mapping[str, str], name: Any) -> ModuleType:
    """The module of plug-in ``name``; InputError listing the known names otherwise."""
    if not isinstance(name, str) or name not in known:
        raise InputError(f"unknown {kind} {name!r}; known: {', '.join(sorted(known))}")
    return importlib.import_module(known[name])


def build(what: str, settings: type, given: Mapping[str, Any]) -> Any:
    """A settings dataclass from a mapping; unknown keys are an InputError naming the known ones."""
    if not isinstance(given, Mapping):
        raise InputError(f"{what} must be a mapping of its settings, got {given!r}")
    known = {field.name: field for field in fields(settings) if field.init}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r} in {what}; known: {', '.join(known) or 'none'}")
    for key, value in given.items():
        wanted = known[key].type
        if not _fits(value, str(wanted)):
            raise InputError(f"{what}: {key} must be {wanted}, got {value!r}")
    try:
        return settings(**given)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    except TypeError as error:
        raise InputError(f"{what}: {error}") from None


def _fits(value: Any, wanted: str) -> bool:
    """Whether ``value`` fits a simple annotation such as 'float', 'int | None', 'tuple[int, ...]'."""
    for part in (part.strip() for part in wanted.split("|")):
        if part == "None" and value is None:
            return True
        if part == "bool" and isinstance(value, bool):
            return True
        if part == "int" and isinstance(value, int) and not isinstance(value, bool):
            return True
        if part == "float" and isinstance(value, int | float) and not isinstance(value, bool):
            return True
        if part == "str" and isinstance(value, str):
            return True
        if part.startswith(("tuple", "list")) and isinstance(value, list | tuple):
            return True
    return False
