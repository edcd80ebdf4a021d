"""Readings: what the paper leaves open in its own method, each a method that is run; and claims judged under them all.

A claim with ``readings: true`` names the methods of a reading instead of labels (``ROLES``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mat.errors import InputError
from mat.evidence.claims.claim import ROLES, Claim
from mat.evidence.claims.judge import chance, outcome
from mat.evidence.claims.rule import Case, Outcome, decided, not_tested
from mat.evidence.claims.verdict import INCONCLUSIVE, INVALID, NOT_SUPPORTED, NOT_TESTED, PARTLY, SUPPORTED
from mat.evidence.measures import selections
from mat.evidence.stats.intervals import Interval
from mat.evidence.stats.multiplicity import p_value
from mat.evidence.tables.record import RuleFile
from mat.settings.strict import Strict, read, validate
from mat.settings.yaml_file import read_yaml

_POSITIVE = (SUPPORTED, PARTLY)
_NEARNESS = (SUPPORTED, PARTLY, INCONCLUSIVE, NOT_SUPPORTED)


@dataclass(frozen=True)
class Reading:
    """``method``: the label of MAT read so; ``random``: of a random selection of as many modules as it has, ``short``:
    of vanilla with its schedule compressed to its compute, None where there is none; ``baselines``: of the paper's with
    theirs compressed to it; ``budgets``: of it over shorter schedules."""

    id: str
    text: str
    method: str
    random: str | None = None
    short: str | None = None
    baselines: list[str] = field(default_factory=list)
    budgets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        empty = [each.name for each in fields(self) if getattr(self, each.name) == ""]
        if empty:
            raise InputError(f"{empty[0]}: expected a text, got nothing; leave it out where there is none")

    def plays(self, claim: Claim) -> Claim | None:
        """The claim with this reading's labels in the places of ``ROLES``; None where a role is left without one."""
        uses = {role: [one for label in labels for one in self._labels(label)] for role, labels in claim.uses.items()}
        return None if any(None in labels or not labels for labels in uses.values()) else replace(claim, uses=uses)

    def _labels(self, label: str) -> list[str | None]:
        found = getattr(self, ROLES[label]) if label in ROLES else label
        return found if isinstance(found, list) else [found]


class _File(Strict):
    readings: list[Any]


def load_readings(path: Path) -> tuple[Reading, ...]:
    """Read and check the file of readings. Raises InputError at the first thing that is wrong."""
    content = read_yaml(path)
    try:
        given = validate(_File, content).readings
        found = tuple(read(Reading, each, f"reading {number}") for number, each in enumerate(given, 1))
        for name in ("id", "method"):
            each = [getattr(reading, name) for reading in found]
            if not each or len(set(each)) < len(each):
                twice = sorted({one for one in each if each.count(one) > 1})
                got = f"{', '.join(twice)} twice" if twice else "none"
                raise InputError(f"readings: expected at least one reading, and each {name} once, got {got}")
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    return found


def load_beside(claims: Path) -> tuple[Reading, ...]:
    """The readings of the file that lies beside the ``claims`` file."""
    return load_readings(claims.with_name(Path(FILE.path).name))


def played(claim: Claim, readings: Iterable[Reading]) -> list[Claim]:
    """The claim under each reading that has its methods; as it is where it is judged under none."""
    return [one for reading in readings if (one := reading.plays(claim))] if claim.readings else [claim]


def labels(claim: Claim, readings: Iterable[Reading]) -> set[str]:
    """The labels of all methods that a claim may be judged on."""
    return {label for one in played(claim, readings) for label in one.labels}


def apart(part: str, readings: bool) -> tuple[str, str]:
    """The reading that an effect's part begins with, and the part; "" where the claim is judged under none."""
    reading, _, rest = part.partition(": ") if readings else ("", "", part)
    return reading, rest


class _Judged(NamedTuple):
    reading: Reading
    found: Outcome
    ratio: float  # of the modules that were active, those that a gradient reached


def judge(case: Case, readings: Sequence[Reading]) -> Outcome:
    """The outcome of a claim at a place; of one with readings, over all of them that were run there.

    A reading under which gradients reach less than ``min_reached_ratio`` of what is selected, after the first interval,
    is invalid there. Over the valid ones: supported where one is, at the level corrected for their number (Holm's first
    step, which the existence of one asks for); not supported where all are; partly where one is at least partly, at
    that level; otherwise inconclusive. Invalid where none is valid.
    """
    if not case.claim.readings:
        return outcome(case)
    judged = []
    for reading in readings:
        played = reading.plays(case.claim)
        found = outcome(case._replace(claim=played)) if played else not_tested("")
        if found.verdict == NOT_TESTED:
            continue
        ratio = selections.reached_ratio(selections.after_first(case.tables, case.place, reading.method)).mean()
        if not math.isnan(ratio):
            judged.append(_Judged(reading, found, ratio))
    if not judged:
        return not_tested(f"No reading has runs on {case.place} that record what a gradient reached.")
    valid = [each for each in judged if each.ratio >= case.claim.min_reached_ratio]
    invalid = [each for each in judged if each not in valid]
    effects = [
        effect._replace(part=f"{each.reading.id}: {effect.part}", decides=each in valid)
        for each in (*valid, *invalid)
        for effect in each.found.effects
        if effect.decides
    ]
    reason = _reason(valid, invalid)
    if not valid:
        return Outcome(INVALID, reason, effects)

    def decide(values: list[Interval]) -> str:
        left = iter(values)
        plain, strict = [], []
        for each in valid:
            own = list(islice(left, len(each.found.deciding)))
            level = [value.at(1 - (1 - value.confidence) / len(valid), value.n) for value in own]
            plain.append(each.found.on(own, case.claim.min_seeds))
            strict.append(each.found.on(level, case.claim.min_seeds))
        return over(plain, strict)

    return decided(effects, decide, reason)


def over(plain: Sequence[str], strict: Sequence[str]) -> str:
    """One verdict over readings, from each one's own and from that at the level corrected for their number."""
    both = list(zip(plain, strict, strict=True))
    if (SUPPORTED, SUPPORTED) in both:
        return SUPPORTED
    if set(plain) == {NOT_SUPPORTED}:
        return NOT_SUPPORTED
    return PARTLY if any(set(pair) <= set(_POSITIVE) for pair in both) else INCONCLUSIVE


def _reason(valid: Sequence[_Judged], invalid: Sequence[_Judged]) -> str:
    said = []
    if valid:
        each = [f"{one.reading.id} ({one.reading.method}): {one.found.verdict}" for one in valid]
        nearest = max(valid, key=_nearness)
        said += [f"{'; '.join(each)}.", f"Nearest to supported: {nearest.reading.id}. {nearest.found.reason}"]
    if invalid:
        each = [f"{one.reading.id} ({one.reading.method}), {100 * one.ratio:.0f} %" for one in invalid]
        said.append(f"Invalid here, for gradients reach too few of the modules selected: {'; '.join(each)}.")
    return " ".join(said)


def _nearness(one: _Judged) -> tuple[int, float]:
    """How near a reading is to being supported: by its verdict, then by how sure that is, or how unsure where it is
    against it; of one left open, by the error at which it would be supported."""
    verdict, found = one.found.verdict, one.found
    if verdict == INCONCLUSIVE:
        sure = p_value(found.decide, found.deciding, SUPPORTED, 0.5)
    else:
        sure = chance(found)
    return -_NEARNESS.index(verdict), sure if verdict == NOT_SUPPORTED else -sure


FILE = RuleFile("readings", "workflows/readings.yaml", load_readings)
