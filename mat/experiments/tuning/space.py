"""What may be drawn: a space of settings for each method, read strictly, and configurations drawn from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from mat.errors import InputError
from mat.experiments.config.blocks import Seeds
from mat.experiments.config.scale import Trained
from mat.experiments.config.tuned import BLOCKS
from mat.seeds import stream_seed
from mat.settings.label import Label
from mat.settings.strict import Strict, real, validate
from mat.settings.yaml_file import read_yaml

FIXED = ("name", "file", "seeds", "tuned")  # what a label stands for
MEASURE = ("match_compute", "evaluate_every")  # what a configuration is judged by
WHY = ("it says what is tuned", "all configurations are judged alike")
DIGITS = 3  # of a number that is drawn from a range
Choices = Annotated[list[Any], Field(min_length=1)]


class Between(Strict):
    """A range: of whole numbers, ends included, where both ends are whole, else of numbers."""

    low: int | float
    """Its lower end."""
    high: int | float
    """Its upper end."""
    log: bool = False
    """Draw the logarithm uniformly, not the number; the lower end is above 0 then."""

    @model_validator(mode="after")
    def _ordered(self) -> Between:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"expected {'0 < ' if self.log else ''}low < high, got {self.low} and {self.high}")
        return self

    def draw(self, rng: np.random.Generator) -> int | float:
        """A number of the range."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        low, high = (self.low, self.high + 1) if whole else (self.low, self.high)
        found = math.exp(rng.uniform(math.log(low), math.log(high))) if self.log else rng.uniform(low, high)
        found = math.floor(found) if whole else float(f"{found:.{DIGITS}g}")
        return min(max(found, self.low), self.high)


class Times(Strict):
    """Factors on the value that the task or the scale's method has."""

    times: Annotated[list[real(gt=0)], Field(min_length=1)]
    """What the setting is multiplied by; a whole number stays one, 1 at least."""


class OfSteps(Strict):
    """Shares of a training's steps, for a setting that is a step."""

    of_steps: Annotated[list[real(gt=0, le=1)], Field(min_length=1)]
    """Of the steps that vanilla makes with the compute of the rung, rounded, 1 at least."""


def _kind(given: Any) -> str | None:
    """Which of ``Values`` is meant, in brackets where it is a key as well."""
    if isinstance(given, Mapping):
        return next((f"[{name}]" for name in ("times", "of_steps") if name in given), "[range]")
    return "[choices]" if isinstance(given, list) else None


Values = Annotated[
    Annotated[Choices, Tag("[choices]")]
    | Annotated[Between, Tag("[range]")]
    | Annotated[Times, Tag("[times]")]
    | Annotated[OfSteps, Tag("[of_steps]")],
    Discriminator(
        _kind,
        custom_error_type="values",
        custom_error_message="expected a list of choices, a range (low and high), times or of_steps; change it",
    ),
]


class Space(Strict):
    """The settings of a method that are searched, by their names in a scale's methods."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Values] = Field(init=False)

    model: dict[str, Values] = Field({})
    """Settings of the task's model."""
    recipe: dict[str, Values] = Field({})
    """Settings of the task's recipe; budget is a share of the rung's compute."""
    probe: dict[str, Values] = Field({})
    """Settings of the task's probe."""

    @model_validator(mode="after")
    def _open(self) -> Space:
        named = [name for name in self.model_extra or {} if name in FIXED] + [n for n in self.recipe if n in MEASURE]
        if named:
            raise ValueError(f"{named[0]} is not searched: {WHY[named[0] in MEASURE]}; leave it out")
        return self

    def values(self) -> Iterator[tuple[tuple[str, ...], Values]]:
        """What may be drawn, by place."""
        for name, value in sorted((self.model_extra or {}).items()):
            yield (name,), value
        for block in BLOCKS:
            for name, value in sorted(getattr(self, block).items()):
                yield (block, name), value


class Tuning(Strict):
    """How methods are tuned: one budget and one way for all of them."""

    seeds: Seeds
    """Every configuration is trained with each of them, and nothing else is."""
    eta: Annotated[int, Field(ge=2, le=16)] = 2
    """What a rung leaves: one of so many configurations; the next has so many times the compute."""
    least: real(gt=0, le=1) = 0.25
    """Of a training's compute, what the first rung has at least."""
    methods: Annotated[dict[Label, Space], Field(min_length=1)]
    """What is searched, by labels of the scale's methods."""


class Setting(NamedTuple):
    """A setting that was drawn: its ``place`` in a method's block, and a ``value`` that ``kind`` says how to read (is,
    times or of_steps)."""

    place: tuple[str, ...]
    kind: str
    value: Any

    def said(self, base: Mapping[str, Any], trained: Trained, steps: int) -> Any:
        """The value as a specification has it. ``base``: the scale's block of the method; ``steps``: of the rung.
        Raises InputError where there is nothing to multiply."""
        if self.kind == "is":
            return self.value
        if self.kind == "of_steps":
            return max(round(self.value * steps), 1)
        *block, name = self.place
        given = base.get(block[0], {}) if block else base
        own = given.get(name, getattr(getattr(trained, block[0]), name, None) if block else None)
        if isinstance(own, bool) or not isinstance(own, int | float):
            raise InputError(f"{'.'.join(self.place)}: times needs a number to multiply, got {own!r}; list values")
        return max(round(self.value * own), 1) if isinstance(own, int) else self.value * own


Configuration = tuple[Setting, ...]


def read_tuning(path: Path) -> Tuning:
    """The file of spaces. Raises InputError naming the place of the first thing that is wrong."""
    try:
        return validate(Tuning, read_yaml(path))
    except InputError as error:
        said = str(error)
        raise InputError(said if said.startswith(str(path)) else f"{path.name}: {said}") from None


def drawn(space: Space, method: str, seed: int, default: bool) -> Iterator[Configuration]:
    """Configurations without end, the same for a seed; the first is the ``default``, if there is one: what the scale
    has, but for settings of one choice."""
    rng = np.random.default_rng(stream_seed(seed, "tuning", method))
    if default:
        fixed = ((place, value) for place, value in space.values() if isinstance(value, list) and len(value) == 1)
        yield tuple(_drawn(place, value, rng) for place, value in fixed)
    while True:
        yield tuple(_drawn(place, value, rng) for place, value in space.values())


def _drawn(place: tuple[str, ...], value: Values, rng: np.random.Generator) -> Setting:
    if isinstance(value, Between):
        return Setting(place, "is", value.draw(rng))
    kind, among = ("is", value) if isinstance(value, list) else next(iter(value.given().items()))
    return Setting(place, kind, among[int(rng.integers(len(among)))])
