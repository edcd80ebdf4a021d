"""Settings records read strictly: a dataclass from plain values, or one line that says which value is wrong.

A record is a frozen dataclass. A text right after a field documents it; ``__post_init__`` refuses impossible values.
Numbers stay as they are written (1 is not turned into 1.0), because a run's name is a hash of them.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache, reduce
from itertools import pairwise
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.functional_validators import BeforeValidator, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

from mat.errors import InputError
from mat.limits import Range

Record = TypeVar("Record")

_AS_WRITTEN = WrapValidator(lambda value, check: (check(value), value)[1])  # 1 stays 1
Real = Annotated[float, _AS_WRITTEN]
LARGEST = 2**31 - 1  # of any whole number; what a setting is for may allow less
LONGEST = 4096  # characters of any text
QUOTED = 200  # characters of a value in an error
WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "literal_error": "{expected}",
    "greater_than_equal": "a number ≥ {ge}",
    "greater_than": "a number > {gt}",
    "less_than_equal": "a number ≤ {le}",
    "less_than": "a number < {lt}",
    "finite_number": "a finite number",
    "too_short": "{min_length} at least",
    "too_long": "{max_length} at most",
    "string_pattern_mismatch": "a name that matches {pattern}",
    "string_too_short": "a text",
}


def real(**ends: float) -> Any:
    """The type of a number as it was written, in the range that pydantic's names of its ends say."""
    return Annotated[float, Field(**ends), _AS_WRITTEN]


class Strict(BaseModel):
    """A block of a config: no unknown keys, no conversion of types; a text after a field documents it."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """Refuse an unknown key, naming the known ones, and a missing one."""
        if isinstance(given, Mapping):
            known = {field.alias or name: field for name, field in cls.model_fields.items()}
            needed = [name for name, field in known.items() if field.is_required()]
            if said := wrong_keys(given, known, needed, cls.model_config["extra"] != "forbid"):
                raise PydanticCustomError("keys", "{said}", {"said": said})
        return given

    def given(self) -> dict[str, Any]:
        """The settings that were written out, without defaults."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class _Made(Strict):
    """Base of the models that are made from records, whose texts are read from the record: pydantic need not look for
    the source of a class that has none, which is slow."""

    model_config = ConfigDict(use_attribute_docstrings=False)


def wrong_keys(given: Mapping[Any, Any], known: Iterable[str], needed: Iterable[str], more: bool = False) -> str:
    """Which key is unknown, unless there may be ``more``, or missing, and what is known; "" where all is well."""
    unknown = [str(key) for key in given if key not in known and not more]
    missing = [name for name in needed if name not in given]
    if not unknown and not missing:
        return ""
    said = f"unknown key {unknown[0]!r}" if unknown else f"{missing[0]!r} is missing"
    return f"{said}; known: {', '.join(known) or 'none'}"


Block = TypeVar("Block", bound=Strict)


def read(record: type[Record], given: Any, place: str) -> Record:
    """The settings dataclass ``record`` with what is ``given``. Raises InputError, naming the ``place`` in it."""
    validate(model_of(record), given, place)
    try:
        return record(**given)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def validate(model: type[Block], given: Any, place: str = "") -> Block:
    """``given``, plain values as JSON has them, as a ``model``. Raises InputError naming the first wrong place."""
    _check_values(given, place)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InputError(_said(error, given, place)) from None


@cache
def model_of(record: type) -> type[Strict]:
    """The fields of a dataclass, with types, defaults and descriptions, as a model that validates them."""
    hints, about = get_type_hints(record, include_extras=True), descriptions(record)
    made = {}
    for field in fields(record):
        if field.init:
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            default = ... if default is MISSING else default
            made[field.name] = (_lossless(hints[field.name]), Field(default, description=about.get(field.name)))
    return create_model(record.__name__, __base__=_Made, __module__=record.__module__, **made)


@cache
def descriptions(record: type) -> dict[str, str]:
    """What the texts after a dataclass's fields say of them, bases included."""
    found: dict[str, str] = {}
    for base in reversed(record.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
        except (OSError, TypeError):  # made at run time: there is no source to read
            continue
        for before, after in pairwise(body):
            text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            if isinstance(before, ast.AnnAssign) and isinstance(text, str):
                found[before.target.id] = " ".join(text.split())
    return found


def _check_values(given: Any, place: str) -> None:
    """Refuse, at any depth, numbers that are not finite or too large for any setting, and texts of several lines: what
    a plug-in's own settings say is held to it, too."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            _check_values(key, f"{place}: a key".lstrip(": "))
            _check_values(value, f"{place}.{key}".lstrip("."))
    elif isinstance(given, list | tuple):
        for number, value in enumerate(given):
            _check_values(value, f"{place}.{number}".lstrip("."))
    elif isinstance(given, float) and not math.isfinite(given):
        raise InputError(f"{place}: expected a finite number, got {given}; change it")
    elif isinstance(given, int) and not abs(given) <= LARGEST:
        raise InputError(f"{place}: expected a number of at most {LARGEST:,} in size, got {_short(given)}; change it")
    elif isinstance(given, str) and not (given.isprintable() and len(given) <= LONGEST):
        raise InputError(
            f"{place}: expected one line of text, at most {LONGEST:,} characters that can be printed, got "
            f"{_short(given)}; change it"
        )


def _short(value: Any) -> str:
    """A value as it is quoted in a line."""
    said = repr(value)
    return said if len(said) <= QUOTED else f"{said[:QUOTED]}…"


def _lossless(hint: Any) -> Any:
    """The type with every float in it replaced by ``Real``, ranges as pydantic knows them, tuples written as lists."""
    if hint is float:
        return Real
    if get_origin(hint) is Annotated:
        base, *about = get_args(hint)
        about = [Field(**one.ends) if isinstance(one, Range) else one for one in about]
        # the schema has a range only where it is said of the plain type
        return Annotated[base, *about, _AS_WRITTEN] if base is float else Annotated[_lossless(base), *about]
    if get_origin(hint) is Literal:
        return hint
    inside = tuple(map(_lossless, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return reduce(or_, inside)
    if get_origin(hint) is tuple:
        return Annotated[
            tuple[inside], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
        ]
    return hint


def _said(error: ValidationError, given: Any, place: str) -> str:
    """One line for the deepest wrong place: where, what was expected, what came, and what the setting is."""
    wrong: dict[tuple[Any, ...], list[Any]] = {}
    for one in error.errors():
        wrong.setdefault(_real(one["loc"], given), []).append(one)
    path = max(wrong, key=len)  # of a union's members, the one that came furthest; the first of equals
    where = ".".join(filter(None, (place, *map(str, path))))
    found = wrong[path]
    if found[0]["type"] not in WANTED:
        said = str(found[0].get("ctx", {}).get("error") or found[0]["msg"])
        return f"{where}: {said}" if where else said
    wanted = dict.fromkeys(
        WANTED[one["type"]].format(**{name: _whole(end) for name, end in one.get("ctx", {}).items()})
        for one in found
        if one["type"] in WANTED
    )
    value = given
    for key in path:
        value = value[key]
    if found[0]["loc"][-1:] == ("[key]",):
        value = path[-1]
    return f"{where}: expected {' or '.join(wanted)}, got {_short(value)}; change it"


def _whole(end: Any) -> Any:
    """1 for 1.0."""
    return int(end) if isinstance(end, float) and end.is_integer() else end


def _real(loc: Sequence[Any], given: Any) -> tuple[Any, ...]:
    """The part of pydantic's location that is in the data: without names of a union's members."""
    path: list[Any] = []
    for key in loc:
        inside = isinstance(given, Mapping) and key in given
        if inside or (isinstance(given, list | tuple) and isinstance(key, int) and key < len(given)):
            path.append(key)
            given = given[key]
    return tuple(path)
