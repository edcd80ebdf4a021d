"""What every plug-in keeps: its file has all parts, and its settings are a frozen record that says what each is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from types import ModuleType
from typing import Any

from mat.errors import InputError
from mat.experiments.config.plugins import RECORD, record_of
from mat.settings.strict import descriptions, read


def lacks(module: ModuleType, needed: Sequence[str], protocol: str) -> list[str]:
    """What a file has not of the names that are ``needed``, as one sentence; [] when it has all."""
    lacking = [name for name in needed if not hasattr(module, name)]
    return [f"the file has no {', '.join(lacking)}; see {protocol}"] if lacking else []


def kept(rule: Callable[[Any], Iterator[str]], case: Any) -> Iterator[str]:
    """What ``case`` does not keep of a rule; an error is one of them."""
    try:
        yield from rule(case)
    except Exception as error:
        yield f"{rule.__name__.replace('_', ' ')}: it raises {type(error).__name__}: {' '.join(str(error).split())}"


def settings_of(kind: str, module: ModuleType) -> list[Any]:
    """The records that a plug-in is checked with: of ``EXAMPLES``, a list of mappings in its file, or its defaults.

    Raises InputError where there are none.
    """
    record = record_of(kind, module, kind)
    examples: Sequence[Mapping[str, Any]] = getattr(module, "EXAMPLES", [{}])
    try:
        return [read(record, example, kind) for example in examples]
    except InputError as error:
        raise InputError(
            f"{RECORD[kind]} cannot be made of {'its defaults' if examples == [{}] else 'EXAMPLES'} ({error}): give "
            "EXAMPLES in the file, a list of settings to check it with"
        ) from None


def broken(kind: str, module: ModuleType) -> Iterator[str]:
    """What a plug-in's settings and its file lack, whatever its kind."""
    record = record_of(kind, module, kind)
    if not record.__dataclass_params__.frozen:
        yield f"{RECORD[kind]} can be changed after it is made; expected @dataclass(frozen=True)"
    about = descriptions(record)
    for field in fields(record):
        if field.init and field.name not in about:
            yield f"the setting {field.name} is not documented; put a text right after it: what it is, unit, range"
        if field.init and field.default is MISSING and field.default_factory is MISSING and kind != "method":
            yield f"the setting {field.name} has no default"
    if not (module.__doc__ or "").strip():
        yield "the file has no docstring; say in its first line what it is"
