"""From a number of a table to the runs behind it: which, with which values, and how each is made again.

A number is computed again by the code that made its table, once from all seeds and once from every seed alone, which
gives each seed's own value: from the run folders, read anew, where they are there, else from the pooled tables. Beside
that, the mean of those values is taken here, without that code: the one that the column is said to be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.claims.claim import Claims
from mat.evidence.runs.files import is_there, run_folder
from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.record import GEOMETRIC, MEAN, Given, Table
from mat.evidence.text.format import ALL, FLOATS
from mat.evidence.trace.runs import Run, from_folders, run_of

Rules = Mapping[str, Any]  # files that fix rules, read, by name
TOLERANCE = 1e-6  # tables are written with 8 significant digits
# columns that name a row, then those that a row is also asked for by
NAMES = ("scale", "claim", "task", "method", "metric", "part", "ledger", "factor", "label")
KEYS = (*NAMES, "verdict", "mode")
FOLDERS, POOLED = "run folders", "pooled tables"


@dataclass(frozen=True)
class Trace:
    """One number and what is behind it. ``again``: computed anew, from ``read``, which is ``FOLDERS`` where all runs
    behind it are there, else ``POOLED``; ``by_seed``: each seed's own; ``mean``: the mean of those that the column is
    (how, value), None where it is none; ``n``: how many seeds the table says it is over."""

    table: str
    row: Mapping[str, str]
    column: str
    number: float
    again: float | None
    by_seed: Mapping[int, float]
    mean: tuple[str, float] | None
    n: int | None
    read: str
    runs: tuple[Run, ...]

    @property
    def agrees(self) -> bool | None:
        """Whether the number is what the runs give; None where it is not computed again."""
        return None if self.again is None else same(self.number, self.again)

    @property
    def mean_agrees(self) -> bool | None:
        """Whether the number is that mean; None where there is none, or where the seeds that have a value of their own
        are not those that the number is over, and it differs."""
        if self.mean is None:
            return None
        agrees = same(self.number, self.mean[1])
        return agrees if agrees or self.n in (None, len(self.by_seed)) else None


def trace(tables_dir: Path, words: Sequence[str], rules: Rules, tables: Tables, root: Path) -> list[Trace]:
    """Every number that the words name: a table, then values of its key columns and the number's column, in any order;
    or a claim's id alone. Raises InputError when they name nothing, or more than can be told apart.
    """
    name, rest = _table(words, rules["claims"])
    path = tables_dir / f"{name}.csv"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in tables_dir.glob("*.csv")))
        raise InputError(f"expected a table or a claim, got {name!r}; tables there: {there}")
    table = catalogue.tables().get(name)
    frame = catalogue.read(path, ("seed", *(table.texts if table else ())))
    column, rows = _named(name, frame, rest)
    table = traced_tables().get(name)
    fresh = tables if table is None else from_folders(tables, _tasks(frame.loc[rows], tables))
    return [_traced(name, table, frame.loc[place], column, rules, tables, fresh, root) for place in rows]


def traced_tables() -> dict[str, Table]:
    """The tables whose numbers are computed again, by name."""
    return {name: table for name, table in catalogue.tables().items() if table.traced is not None}


def _traced(
    name: str, table: Table | None, row: pd.Series, column: str, rules: Rules, tables: Tables, fresh: Tables, root: Path
) -> Trace:
    """``fresh``: the tables with what the run folders say."""
    number, shown = float(row[column]), _shown(row)
    if table is None:
        return Trace(name, shown, column, number, None, {}, None, None, POOLED, ())
    traced = table.traced
    labels = traced.behind(_given(tables, rules), row, column)
    pairs = pd.Series(list(zip(tables.runs["task"], tables.runs["method"], strict=True)), tables.runs.index)
    runs = tables.runs[pairs.isin(labels)].sort_values(["task", "method", "seed"])
    there = all(is_there(run_folder(tables.home, run)) for run in runs["run"])
    rules, how = only_claim(rules, row), traced.mean(row, column)
    by_seed: dict[int, float] = {}
    if how and len(runs):
        own = traced.by_seed
        by_seed = own(fresh, row, column) if own else _by_seed(table, fresh, rules, row, column, runs)
    return Trace(
        name, shown, column, number, _value(table, fresh, rules, row, column), by_seed,
        (how, combined(how, list(by_seed.values()))) if by_seed else None, counted(row, column),
        FOLDERS if there and len(runs) else POOLED, tuple(run_of(tables, run, root) for _, run in runs.iterrows()),
    )  # fmt: skip


def combined(how: str, values: list[float]) -> float:
    """The mean ``how`` of values; NaN where it has none."""
    if how == MEAN:
        return sum(values) / len(values)
    ratios = values if how == GEOMETRIC else [1 - value / 100 for value in values]
    if not all(ratio > 0 for ratio in ratios):
        return math.nan
    middle = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return middle if how == GEOMETRIC else 100 * (1 - middle)


def counted(row: pd.Series, column: str) -> int | None:
    """The n that the table gives to a number; None where it gives none."""
    for name in (f"{column.removesuffix('_mean')}_n", "n", "n_finished"):
        if name in row.index and pd.notna(row[name]):
            return int(row[name])
    return None


def same(first: float, second: float) -> bool:
    """Whether two numbers agree to the digits that tables are written with; NaN agrees with NaN."""
    if math.isnan(first) or math.isnan(second):
        return math.isnan(first) and math.isnan(second)
    return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=1e-12)


def differences(tables_dir: Path, tables: Tables, rules: Rules) -> list[str]:
    """Numbers of the tables there that the pooled runs do not give, one sentence per table and column."""
    found = []
    for name, table in traced_tables().items():
        path = tables_dir / f"{name}.csv"
        if not path.is_file():
            continue
        written = pd.read_csv(path, dtype=str, keep_default_na=False)
        # as it would be written, so that both are read from the same text
        text = table.compute(_given(tables, rules)).to_csv(index=False, float_format=FLOATS)
        again = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
        if written.shape != again.shape or list(written.columns) != list(again.columns):
            found.append(f"{path.name} has other rows or columns than the runs give; make it again")
            continue
        for column in written.columns:
            wrong = sum(not _alike(*pair) for pair in zip(written[column], again[column], strict=True))
            if wrong:
                found.append(f"{path.name}: {wrong} of {len(written)} values of {column} are not what the runs give")
    return found


def _table(words: Sequence[str], claims: Claims) -> tuple[str, list[str]]:
    if not words:
        raise InputError("name a table and a number in it, such as: results digits mat saving_executed_percent")
    if words[0] in {claim.id for claim in claims.claims}:
        return "verdicts", list(words)
    return Path(words[0]).name.removesuffix(".csv").removesuffix(".md"), list(words[1:])


def _named(name: str, frame: pd.DataFrame, words: Sequence[str]) -> tuple[str, list[Any]]:
    """The number's column and the rows that the words name."""
    numbers = [column for column in frame.columns if pd.api.types.is_numeric_dtype(frame[column])]
    known = traced_tables()
    column, rows = known[name].traced.number if name in known else "", frame
    for word in words:
        if word in numbers or f"{word}_mean" in numbers:
            column = word if word in numbers else f"{word}_mean"
            continue
        keys = [key for key in frame.columns if key in KEYS or not pd.api.types.is_numeric_dtype(frame[key])]
        hits = [key for key in keys if (_words(frame[key]) == word).any()]
        if not hits:
            values = {word for key in keys if key in KEYS for word in _words(rows[key]).unique() if word}
            raise InputError(
                f"{name}.csv has no value and no column {word!r}; values: {', '.join(sorted(values))}; "
                f"numbers: {_stems(numbers)}"
            )
        rows = rows[_words(rows[hits[0]]) == word]
    if column not in numbers:
        raise InputError(f"name the number's column too, one of: {_stems(numbers)}")
    rows = rows[rows[column].notna()]
    if name == "verdicts" and ALL not in words:
        rows = rows[rows["task"] != ALL]
    if rows.empty:
        raise InputError(f"{name}.csv has no number {column} in the rows named {' '.join(words)}")
    return column, list(rows.index)


def _given(tables: Tables, rules: Rules) -> Given:
    return Given(tables, tables.made, rules)


def only_claim(rules: Rules, row: pd.Series) -> Rules:
    """The rules with the row's claim alone, where it is of one."""
    if "claim" not in row.index:
        return rules
    claims = rules["claims"]
    return {**rules, "claims": replace(claims, claims=tuple(one for one in claims.claims if one.id == row["claim"]))}


def _tasks(rows: pd.DataFrame, tables: Tables) -> set[str]:
    """The tasks whose runs rows stand on: their own where each names one, else all."""
    every, own = set(tables.runs["task"]), set(rows.get("task", ()))
    return own if own and own <= every else every


def _value(table: Table, tables: Tables, rules: Rules, row: pd.Series, column: str) -> float | None:
    """The number as the table's own code gives it from these tables; None where it gives none, or more than one."""
    # no more than the task: a number may stand on more than its own row names, and on no other task's runs
    of_task = tables.runs[tables.runs["task"] == row.get("task")]
    made = table.compute(_given(tables.part(of_task) if len(of_task) else tables, rules))
    for key in NAMES:
        if key in row.index:
            if key not in made.columns:
                return None
            made = made[_words(made[key]) == _words(pd.Series([row[key]])).iloc[0]]
    return float(made[column].iloc[0]) if len(made) == 1 and column in made.columns else None


def _by_seed(
    table: Table, tables: Tables, rules: Rules, row: pd.Series, column: str, runs: pd.DataFrame
) -> dict[int, float]:
    """The number from the runs of every seed alone, where that is a number."""
    seeds = set(runs.loc[runs["status"] == "finished", "seed"])
    alone = {
        int(seed): _value(table, tables.part(own), rules, row, column)
        for seed, own in tables.runs.groupby("seed")
        if seed in seeds
    }
    return {seed: value for seed, value in alone.items() if value is not None and math.isfinite(value)}


def _words(values: pd.Series) -> pd.Series:
    """Values as a reader types them: numbers without needless digits, "" for nothing."""
    if pd.api.types.is_float_dtype(values):
        return values.map(lambda value: "" if pd.isna(value) else f"{value:g}")
    return values.map(lambda value: "" if pd.isna(value) else str(value))


def _shown(row: pd.Series) -> dict[str, str]:
    return {key: str(row[key]) for key in KEYS if key in row.index and pd.notna(row[key])}


def _alike(first: str, second: str) -> bool:
    try:
        return first == second or same(float(first), float(second))
    except ValueError:
        return False


def _stems(columns: Sequence[str]) -> str:
    """Columns of numbers as a reader may name them: an interval once, without its ends."""
    return ", ".join(name.removesuffix("_mean") for name in columns if not name.endswith(("_low", "_high", "_n")))
