"""Compare two places: two run directories, or two folders of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.comparison.curves import Parting, parting
from mat.evidence.comparison.headlines import NUMBERS, Change, Number, numbers, unmatched, verdicts
from mat.evidence.runs import pool, pooled
from mat.records.files import require

MADE_BY = ("code_hash", "data_hash", "spec_hash", "threads", "selection")
HARDWARE = ("device", "cpu", "cores")


@dataclass(frozen=True)
class Comparison:
    """What two places hold. ``made_by``: what their runs were made by, where it is not the same: name -> (of a, of b).
    ``hardware``: what each was made on. ``runs``: those of both, by name. ``only``: names of the runs that only a has,
    and only b; ``rows``: the same of rows of the tables compared. ``verdicts``, ``numbers``: what changed, None where
    one of them has no such table; ``same``: how many of each did not."""

    a: str
    b: str
    made_by: dict[str, tuple[str, str]]
    hardware: tuple[str, str]
    runs: list[Parting]
    only: tuple[list[str], list[str]] = ((), ())
    verdicts: list[Change] | None = None
    numbers: list[Number] | None = None
    same: dict[str, int] = field(default_factory=dict)
    rows: tuple[list[str], list[str]] = ((), ())

    @property
    def apart(self) -> dict[str, list[str]]:
        """What of a does not agree with b: other verdicts, numbers outside b's interval, rows of one alone."""
        return {
            "verdicts": [f"{one.claim} {one.task}" for one in self.verdicts or ()],
            "numbers": [f"{one.task} {one.method} {one.measure}" for one in self.numbers or () if one.inside is False],
            "rows": [*self.rows[0], *self.rows[1]],
        }


def compare(a: Path, b: Path) -> Comparison:
    """The comparison of ``a`` and ``b``, each a run directory, or each a folder of tables.

    Two run directories are compared whatever their names are. Raises InputError for anything else.
    """
    kinds = {path: _kind(path) for path in (a, b)}
    if kinds[a] != kinds[b]:
        raise InputError(f"{a} is a {kinds[a]} and {b} a {kinds[b]}; compare two of one kind")
    return (_runs if kinds[a] == RUN else _tables)(a, b)


RUN, TABLES = "run directory", "folder of tables"


def _kind(path: Path) -> str:
    for kind, name in ((RUN, "run.json"), (TABLES, "runs.csv")):
        if (path / name).is_file():
            return kind
    raise InputError(
        f"{path} is neither a run directory (it would hold run.json) nor a folder of tables (runs.csv); "
        "give two of one kind, such as results/demo/tables"
    )


def _runs(a: Path, b: Path) -> Comparison:
    (row_a, spec_a, curve_a, *_), (row_b, spec_b, curve_b, *_) = (pool.read_run(path) for path in (a, b))
    name = row_a["run"] if row_a["run"] == row_b["run"] else f"{row_a['run']} and {row_b['run']}"
    rows = [pd.DataFrame([row]) for row in (row_a, row_b)]
    made_by = _made_by(*rows)
    first, second = _flat(spec_a), _flat(spec_b)
    pairs = {f"spec: {key}": (first.get(key, "–"), second.get(key, "–")) for key in sorted({*first, *second})}
    made_by |= {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return Comparison(str(a), str(b), made_by, (_on(rows[0]), _on(rows[1])), [parting(name, curve_a, curve_b)])


def _flat(spec: object, prefix: str = "") -> dict[str, str]:
    """Every setting of a specification as ``block.key`` -> text."""
    if not isinstance(spec, dict):
        return {prefix: str(spec)}
    return {
        name: value
        for key, below in spec.items()
        for name, value in _flat(below, f"{prefix}.{key}" if prefix else key).items()
    }


def _tables(a: Path, b: Path) -> Comparison:
    left, right = pooled.load(a), pooled.load(b)
    names = [list(tables.runs["run"]) for tables in (left, right)]
    both = [name for name in names[0] if name in set(names[1])]
    changed, kept, of_claims = _both(a, b, "verdicts.csv", verdicts, ["verdict"], "claim", "task")
    other, equal, of_results = _both(a, b, "results.csv", numbers, NUMBERS[:1], "task", "method")
    runs = [parting(name, left.curve(name), right.curve(name)) for name in both]
    only = tuple([name for name in own if name not in set(both)] for own in names)
    same = {"verdicts": kept, "numbers": equal}
    rows = tuple([*one, *two] for one, two in zip(of_claims, of_results, strict=True))
    made_by, hardware = _made_by(left.runs, right.runs), (_on(left.runs), _on(right.runs))
    return Comparison(str(a), str(b), made_by, hardware, runs, only, changed, other, same, rows)


def _both(a: Path, b: Path, name: str, compared, columns: Sequence[str], *keys: str):
    if not all((path / name).is_file() for path in (a, b)):
        return None, 0, ([], [])
    frames = [catalogue.read(path / name) for path in (a, b)]
    for path, frame in zip((a, b), frames, strict=True):
        require(path / name, frame, (*keys, *columns))
        for column in NUMBERS:
            if column in frame and not pd.api.types.is_numeric_dtype(frame[column]):
                raise InputError(f"{path / name}: expected numbers in {column}, got a text; make it again")
    return *compared(*frames), unmatched(*frames, *keys)


def hardware_of(run: Path) -> str:
    """What a run's folder says of the machine that it was made on."""
    return _on(pd.DataFrame([pool.read_run(run)[0]]))


def _on(runs: pd.DataFrame) -> str:
    return ", ".join(f"{name} {_values(runs, name)}" for name in HARDWARE)


def _made_by(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """What of code, data and machine is not the same in two lots of runs; several values of one lot with commas."""
    columns = [*MADE_BY, *sorted(name for name in {*a, *b} if name.startswith("version_"))]
    found = {name: (_values(a, name), _values(b, name)) for name in columns}
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def _values(runs: pd.DataFrame, name: str) -> str:
    values = runs[name].dropna().astype(str) if name in runs else []
    return ", ".join(sorted({value for value in values if value})) or "–"
