"""What a setting may be is said once: records, configs and the JSON schema refuse the same values."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments.config.plugins import OURS, find, record_of
from mat.experiments.config.spec import Probe, Recipe
from mat.experiments.studies.registry import STUDIES
from mat.limits import Range, check_limits
from mat.settings.strict import LARGEST, model_of, read

# texts that are the user's to choose
NAMES = {("method", "match"), ("recipe", "match_compute"), ("imagenet", "classes"), ("kind", "kind")}


@dataclass(frozen=True)
class Settings:
    share: Annotated[float, Range(gt=0, le=1)] = 1
    decay: Annotated[float, Range(ge=0, lt=1)] | None = None
    layers: tuple[Annotated[int, Range(ge=1, le=9)] | Literal["M"], ...] = (1,)
    count: Annotated[int, Range(ge=2)] = 2
    order: Literal["up", "down"] = "up"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        check_limits(self)


NUMBERS = st.one_of(
    st.integers(-3, 12), st.floats(-1.5, 1.5, width=16), st.sampled_from([0.0, 1.0, -0.0, LARGEST, 0.999])
)
VALUES = st.one_of(NUMBERS, st.none(), st.booleans(), st.sampled_from(["up", "down", "M", "left", ""]))


@example("decay", 1.0, False)
@example("share", 0, False)
@example("count", True, False)
@given(st.sampled_from([field.name for field in fields(Settings)]), VALUES, st.booleans())
def test_records_configs_and_the_schema_refuse_the_same_values(name, value, listed):
    given = {name: [value] if listed or name == "layers" else value}
    made = refused(lambda: Settings(**given))
    assert refused(lambda: read(Settings, given, "place")) == made
    whole = isinstance(value, float) and value.is_integer()  # to a JSON schema 2.0 is a whole number
    if not (whole and name in ("layers", "count")):
        schema = model_of(Settings).model_json_schema()
        assert bool(list(jsonschema.Draft202012Validator(schema).iter_errors(given))) == made


def refused(make: Any) -> bool:
    try:
        make()
    except InputError as error:
        assert "\n" not in str(error)
        return True
    except TypeError:  # a list of what is no list
        return True
    return False


@example(ends={"ge": 1}, value=1)
@example(ends={"gt": 1}, value=1)
@example(ends={"le": 1}, value=1.0)
@example(ends={"lt": 1}, value=1.0)
@given(
    ends=st.fixed_dictionaries({}, optional={name: st.integers(-3, 3) for name in ("ge", "gt", "le", "lt")}),
    value=st.one_of(st.integers(-5, 5), st.floats(allow_nan=True)),
)
def test_a_range_holds_what_its_ends_say_and_no_infinity(ends, value):
    import math
    import operator

    inside = math.isfinite(value) and all(getattr(operator, name)(value, end) for name, end in ends.items())
    assert (value in Range(**ends)) == inside


def test_types_that_are_known_at_their_place_alone_are_not_checked():
    class Local:
        pass

    record = make_dataclass("Strange", [("one", "Local"), ("two", "int")])
    check_limits(record(Local(), "text"))


def unlimited(hint: Any) -> set[type]:
    """Numbers and texts in a type that nothing is said of."""
    if get_origin(hint) is Annotated and any(isinstance(one, Range) for one in get_args(hint)):
        return set()
    if get_origin(hint) is Literal:
        return set()
    return {hint} & {int, float, str} if not get_args(hint) else set().union(*map(unlimited, get_args(hint)))


RECORDS = {
    "recipe": Recipe,
    "probe": Probe,
    **{name: study.settings for name, study in STUDIES.items()},
    **{f"{kind} {name}": record_of(kind, find(kind, name), kind) for kind in OURS for name in OURS[kind]},
}


@pytest.mark.parametrize("name", RECORDS)
def test_every_setting_says_what_it_may_be(name):
    record = RECORDS[name]
    hints = get_type_hints(record, include_extras=True)
    kind, _, own = name.partition(" ")
    free = [
        field.name
        for field in fields(record)
        if unlimited(hints[field.name]) and not {(kind, field.name), (own, field.name)} & NAMES
    ]
    assert free == []
