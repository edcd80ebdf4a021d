"""From a number of a table to the runs behind it: which, with which values, and how each is made again.

A number is computed again from the pooled runs by the code that made its table, once for all seeds and once for
every seed alone, which gives each seed's own value. Beside that, the mean of those values is taken here, without
that code: arithmetic, or geometric for ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence import controls, learning_rate, results, rivals, scores, verdicts, wall_clock
from mat.evidence.claims import Claims
from mat.evidence.provenance_files import relative, run_folder
from mat.evidence.tables import REFERENCE, Tables
from mat.evidence.write import FLOATS, command

TOLERANCE = 1e-6  # tables are written with 8 significant digits
ALL = "all"
KEYS = ("scale", "claim", "task", "method", "metric", "part", "ledger", "verdict", "mode")
_COMPARED = ("saving", "vanilla", "advantage")  # columns of results.csv that pair seeds with vanilla's


@dataclass(frozen=True)
class Kind:
    """How a table is traced: ``again`` computes it from pooled runs, ``number`` is the column traced by default."""

    again: Callable[[Tables, Claims], pd.DataFrame]
    number: str = "mean"


KINDS: Mapping[str, Kind] = {
    "results": Kind(lambda tables, claims: results.results(tables, claims.convergence), ""),
    "scores": Kind(lambda tables, claims: scores.scores(tables)),
    "controls": Kind(lambda tables, claims: controls.controls(tables), ""),
    "rivals": Kind(lambda tables, claims: rivals.rivals(tables, claims.convergence), ""),
    "learning_rate": Kind(lambda tables, claims: learning_rate.learning_rate(tables), ""),
    "wall_clock": Kind(lambda tables, claims: wall_clock.wall_clock(tables, claims.convergence), ""),
    "verdicts": Kind(lambda tables, claims: verdicts.verdicts(tables, claims), "effect"),
}


@dataclass(frozen=True)
class Run:
    """A run behind a number; ``there``: whether its folder is here; ``command`` makes it again."""

    run: str
    task: str
    method: str
    seed: int
    status: str
    folder: str
    there: bool
    hashes: Mapping[str, str]
    hardware: str
    versions: Mapping[str, str]
    command: str


@dataclass(frozen=True)
class Trace:
    """One number and what is behind it. ``again``: computed anew from the pooled runs; ``by_seed``: each seed's own;
    ``mean``: (how, value) of the mean of those that equals the number, None where none does."""

    table: str
    row: Mapping[str, str]
    column: str
    number: float
    again: float | None
    by_seed: Mapping[int, float]
    mean: tuple[str, float] | None
    runs: tuple[Run, ...]

    @property
    def agrees(self) -> bool | None:
        """Whether the number is what the runs give; None where it is not computed again."""
        return None if self.again is None else same(self.number, self.again)


def trace(tables_dir: Path, words: Sequence[str], claims: Claims, tables: Tables, root: Path) -> list[Trace]:
    """Every number that the words name: a table, then values of its key columns and the number's column, in any order;
    or a claim's id alone. Raises InputError when they name nothing, or more than can be told apart.
    """
    name, rest = _table(words, claims)
    path = tables_dir / f"{name}.csv"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in tables_dir.glob("*.csv")))
        raise InputError(f"expected a table or a claim, got {name!r}; tables there: {there}")
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"seed": str})
    column, rows = _named(name, frame, rest)
    kind = KINDS.get(name)
    found = []
    for place in rows:
        row = frame.loc[place]
        runs = _behind(tables, row, column, claims)
        again, by_seed = None, {}
        if kind is not None:
            again, by_seed = _again(kind, tables, claims, row, column, runs)
        number = float(row[column])
        found.append(
            Trace(
                name, _shown(row), column, number, again, by_seed, _mean(number, by_seed),
                tuple(_run(tables, run, root) for _, run in runs.iterrows()),
            )
        )  # fmt: skip
    return found


def same(first: float, second: float) -> bool:
    """Whether two numbers agree to the digits that tables are written with; NaN agrees with NaN."""
    if math.isnan(first) or math.isnan(second):
        return math.isnan(first) and math.isnan(second)
    return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=1e-12)


def differences(tables_dir: Path, tables: Tables, claims: Claims) -> list[str]:
    """Numbers of the tables there that the pooled runs do not give, one sentence per table and column."""
    found = []
    for name, kind in KINDS.items():
        path = tables_dir / f"{name}.csv"
        if not path.is_file():
            continue
        written = pd.read_csv(path, dtype=str, keep_default_na=False)
        # as it would be written, so that both are read from the same text
        text = kind.again(tables, claims).to_csv(index=False, float_format=FLOATS)
        again = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
        if written.shape != again.shape or list(written.columns) != list(again.columns):
            found.append(f"{path.name} has other rows or columns than the runs give; make it again")
            continue
        for column in written.columns:
            wrong = sum(not _alike(*pair) for pair in zip(written[column], again[column], strict=True))
            if wrong:
                found.append(
                    f"{path.name}: {wrong} of {len(written)} values of {column} are not what the runs give"
                )
    return found


def _table(words: Sequence[str], claims: Claims) -> tuple[str, list[str]]:
    if not words:
        raise InputError(
            "name a table and a number in it, such as: results digits mat saving_executed_percent"
        )
    if words[0] in {claim.id for claim in claims.claims}:
        return "verdicts", list(words)
    return Path(words[0]).name.removesuffix(".csv").removesuffix(".md"), list(words[1:])


def _named(name: str, frame: pd.DataFrame, words: Sequence[str]) -> tuple[str, list[Any]]:
    """The number's column and the rows that the words name."""
    numbers = [column for column in frame.columns if pd.api.types.is_numeric_dtype(frame[column])]
    column, rows = KINDS[name].number if name in KINDS else "", frame
    for word in words:
        if word in numbers or f"{word}_mean" in numbers:
            column = word if word in numbers else f"{word}_mean"
            continue
        keys = [key for key in frame.columns if key in KEYS or not pd.api.types.is_numeric_dtype(frame[key])]
        hits = [key for key in keys if (frame[key].astype(str) == word).any()]
        if not hits:
            known = {str(value) for key in keys if key in KEYS for value in rows[key].dropna().unique()}
            raise InputError(
                f"{name}.csv has no value and no column {word!r}; values: {', '.join(sorted(known))}; "
                f"numbers: {_stems(numbers)}"
            )
        rows = rows[rows[hits[0]].astype(str) == word]
    if column not in numbers:
        raise InputError(f"name the number's column too, one of: {_stems(numbers)}")
    rows = rows[rows[column].notna()]
    if name == "verdicts" and ALL not in words:
        rows = rows[rows["task"] != ALL]
    if rows.empty:
        raise InputError(f"{name}.csv has no number {column} in the rows named {' '.join(words)}")
    return column, list(rows.index)


def _behind(tables: Tables, row: pd.Series, column: str, claims: Claims) -> pd.DataFrame:
    """The runs that a number stands on: those of its task and method and those it is compared with."""
    runs = tables.runs
    if "task" in row.index and (runs["task"] == row["task"]).any():
        runs = runs[runs["task"] == row["task"]]
    elif "task" in row.index and "claim" not in row.index:
        return runs.iloc[:0]  # an average over tasks
    if "method" in row.index:
        with_reference = any(word in column for word in _COMPARED)
        runs = runs[runs["method"].isin([row["method"], *([REFERENCE] if with_reference else [])])]
    elif "claim" in row.index:
        claim = next(one for one in claims.claims if one.id == row["claim"])
        labels = [label for labels in (claim.uses or {}).values() for label in labels]
        runs = runs[runs["method"].isin(labels)]
    return runs.sort_values(["method", "seed"])


def _again(
    kind: Kind, tables: Tables, claims: Claims, row: pd.Series, column: str, runs: pd.DataFrame
) -> tuple[float | None, dict[int, float]]:
    if "claim" in row.index:
        claims = replace(claims, claims=tuple(one for one in claims.claims if one.id == row["claim"]))
    keys = [key for key in KEYS if key in row.index and key not in ("verdict", "mode")]

    def value(rows: pd.DataFrame) -> float | None:
        made = kind.again(_only(tables, rows), claims)
        for key in keys:
            made = made[made[key].astype(str) == ("" if pd.isna(row[key]) else str(row[key]))]
        return float(made[column].iloc[0]) if len(made) == 1 and column in made.columns else None

    finished = runs[runs["status"] == "finished"]
    by_seed = {int(seed): value(rows) for seed, rows in finished.groupby("seed")}
    # every run of the task: a number may stand on more than its own row names
    of_task = tables.runs[tables.runs["task"] == row.get("task")]
    return value(of_task if len(of_task) else tables.runs), {
        seed: number for seed, number in by_seed.items() if number is not None and math.isfinite(number)
    }


def _only(tables: Tables, runs: pd.DataFrame) -> Tables:
    """The tables of these runs alone."""
    if len(runs) == len(tables.runs):
        return tables
    names = set(runs["run"])
    return replace(
        tables,
        runs=runs.reset_index(drop=True),
        curves=tables.curves[tables.curves["run"].isin(names)],
        probes=tables.probes[tables.probes["run"].isin(names)],
    )


def _mean(number: float, by_seed: Mapping[int, float]) -> tuple[str, float] | None:
    """The mean of the seeds' values that equals the number: arithmetic, geometric, or a saving by geometric mean."""
    values = list(by_seed.values())
    if not values:
        return None
    ways = {"mean": sum(values) / len(values)}
    if all(value > 0 for value in values):
        ways["geometric mean"] = math.exp(sum(map(math.log, values)) / len(values))
    if all(value < 100 for value in values):
        logs = sum(math.log(1 - value / 100) for value in values) / len(values)
        ways["100 · (1 − geometric mean of 1 − saving/100)"] = 100 * (1 - math.exp(logs))
    return next(((how, value) for how, value in ways.items() if same(value, number)), None)


def _run(tables: Tables, run: pd.Series, root: Path) -> Run:
    folder = run_folder(tables.scale, run["run"], root)
    target = f"{relative(folder, root)}/final.json"
    names = {"specification": "spec_hash", "code": "code_hash", "data": "data_hash", "start": "start_hash"}
    versions = {
        name.removeprefix("version_"): str(run[name])
        for name in run.index
        if name.startswith("version_") and pd.notna(run[name])
    }
    return Run(
        run["run"], run["task"], run["method"], int(run["seed"]), run["status"], relative(folder, root),
        (folder / "run.json").is_file(), {name: run[key] for name, key in names.items() if run[key]},
        f"{run['device']}, {run['cpu']}, {run['cores']} cores, {run['threads']} threads", versions,
        command(tables.scale, tables.selection, target),
    )  # fmt: skip


def _shown(row: pd.Series) -> dict[str, str]:
    return {key: str(row[key]) for key in KEYS if key in row.index and pd.notna(row[key])}


def _alike(first: str, second: str) -> bool:
    try:
        return first == second or same(float(first), float(second))
    except ValueError:
        return False


def _stems(columns: Sequence[str]) -> str:
    """Columns of numbers as a reader may name them: an interval once, without its ends."""
    return ", ".join(
        name.removesuffix("_mean") for name in columns if not name.endswith(("_low", "_high", "_n"))
    )
