"""A comparison as text for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from mat.evidence.comparison.curves import Parting
from mat.evidence.comparison.folders import Comparison
from mat.evidence.comparison.headlines import MEASURES, Number
from mat.evidence.text import format

SHOWN = 5  # names of runs, or columns, before "and N more"
OVERLAP = {True: "intervals overlap", False: "intervals DO NOT overlap", None: "no two intervals to compare"}
INSIDE = {True: "inside", False: "OUTSIDE", None: "no interval"}


def text(found: Comparison) -> str:
    """What differs, most important first; what is the same, in a number each."""
    places = [
        f"{side}: {place}, on {on}" for side, place, on in zip("ab", (found.a, found.b), found.hardware, strict=True)
    ]
    blocks = [places, *(part(found) for part in (_made_by, _verdicts, _numbers, _runs, _last))]
    return "\n\n".join(filter(None, map("\n".join, blocks)))


def as_json(found: Comparison) -> str:
    """The same as one JSON object; numbers that are none are null."""
    content = asdict(found) | {"apart": found.apart}
    for given, run in zip(content["runs"], found.runs, strict=True):
        given["same"] = run.same
    for given, number in zip(content["numbers"] or [], found.numbers or [], strict=True):
        given["overlap"], given["inside"] = number.overlap, number.inside
        for side in "ab":
            mean, low, high, n = getattr(number, side)[:4]
            given[side] = {"mean": mean, "low": low, "high": high, "n": n}
    return json.dumps(_without_nan(content), indent=2, ensure_ascii=False)


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(below) for below in value]
    return None if isinstance(value, float) and value != value else value


def _made_by(found: Comparison) -> Iterator[str]:
    if found.made_by:
        yield "made by (a | b)"
        for name, (a, b) in found.made_by.items():
            yield f"  {name:<20} {_short(name, a)} | {_short(name, b)}"


def _short(name: str, values: str) -> str:
    if not name.endswith("_hash"):
        return values
    digests = values.split(", ")
    return ", ".join(digest[:12] for digest in digests[:2]) + (f" and {len(digests) - 2} more" if digests[2:] else "")


def _verdicts(found: Comparison) -> Iterator[str]:
    if found.verdicts is not None:
        yield f"verdicts: {len(found.verdicts)} changed, {found.same['verdicts']} the same"
        for change in found.verdicts:
            yield f"  {change.claim:<4} {change.task:<16} {change.a} | {change.b}"


def _numbers(found: Comparison) -> Iterator[str]:
    if found.numbers is not None:
        said = Counter(number.inside for number in found.numbers)
        apart = f", {said[False]} of them outside b's interval" if found.numbers else ""
        yield f"results: {len(found.numbers)} numbers changed{apart}; {found.same['numbers']} the same"
        for number in sorted(found.numbers, key=lambda number: number.inside is not False):
            yield f"  {number.task:<16} {number.method:<16} {_measure(number)}"


def _measure(number: Number) -> str:
    unit = MEASURES[number.measure]
    a, b = (f"{format.estimate(value)} {unit}".rstrip() + f", n = {value.n}" for value in (number.a, number.b))
    return f"{number.measure:<24} {a} | {b}  {INSIDE[number.inside]}, {OVERLAP[number.overlap]}"


def _runs(found: Comparison) -> Iterator[str]:
    parted = [run for run in found.runs if not run.same]
    yield (
        f"curves: of {len(found.runs)} runs in both, {len(found.runs) - len(parted)} are the same to the bit and "
        f"{len(parted)} differ (wall-clock times aside)"
    )
    for run in parted:
        yield from _parting(run)
    for side, names in zip("ab", found.only, strict=True):
        if names:
            yield f"  only in {side} ({len(names)}): {_some(names)}"


def _last(found: Comparison) -> Iterator[str]:
    """One line that says whether a agrees with b."""
    if found.verdicts is None and found.numbers is None:
        same = all(run.same for run in found.runs) and not any(found.only)
        yield "a and b are the same to the bit" if same else "a and b are not the same"
        return
    apart = found.apart
    counts = [f"{found.same[kind]} {kind} are the same" for kind in ("verdicts", "numbers")]
    unknown = sum(number.inside is None for number in found.numbers or ())
    within = sum(number.inside is True for number in found.numbers or ())
    counts += [f"{within} numbers are inside b's intervals", *([f"{unknown} have none to be in"] if unknown else [])]
    wrong = {"verdicts": "verdicts differ", "numbers": "numbers are outside", "rows": "rows are in one alone"}
    counts += [f"{len(apart[kind])} {said}" for kind, said in wrong.items() if apart[kind]]
    yield f"a {'DOES NOT AGREE' if any(apart.values()) else 'agrees'} with b: {', '.join(counts)}"


def _parting(run: Parting) -> Iterator[str]:
    if run.steps[0] != run.steps[1]:
        yield f"  {run.run}: {run.steps[0]} | {run.steps[1]} evaluations"
    by = _some([f"{name} by {value:+.3g}" for name, value in run.at.items() if value == value])
    yield f"  {run.run}: first at step {run.step}" + (f", {by}" if by else ", which only one of them has")
    if run.largest:
        yield f"    at most: {_some([f'{name} {value:.3g}' for name, value in run.largest.items()])}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
