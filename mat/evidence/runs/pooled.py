"""The pooled tables of one scale, and the one way to ask them for a number per seed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from mat.errors import InputError
from mat.evidence.runs import method_groups, metrics
from mat.evidence.text import format
from mat.records.columns import NEWER, SPECTRA_COLUMNS
from mat.records.files import missing, require, write_parquet, write_text
from mat.records.seal import SEAL, check_seal, write_seal

Measured = TypeVar("Measured")

REFERENCE = "vanilla"
FILES = ("runs.csv", "curves.parquet", "probes.parquet")
SPECTRA = "spectra.parquet"
WRITTEN = (*FILES, SPECTRA)  # by a collection; those made before spectra were recorded have none
_ORDER = ["interval", "module"]
_NEWER = "objective"  # what tables were once pooled without
_MAY_BE_EMPTY = ("start_hash", "mode", _NEWER, "estimator", "subset", "selection")
_TEXT = dict.fromkeys(("run", "scale", "task", "method", "code_hash", "data_hash", "spec_hash", *_MAY_BE_EMPTY), str)


@dataclass(frozen=True)
class Tables:
    """``runs``: one row per run. ``curves``, ``probes``, ``spectra`` (of the probes' sums; a run may have none): all
    runs' rows, with a ``run`` column. ``made``: the tables
    made from them or beside them, by name; one that was not made, or has no row, is not in it. ``whole``: the tables
    that these are a ``part`` of. ``home``: of tables that were read, the folder of the scale's results, which has its
    ``runs`` where they are there.

    What is asked of a task, a method or a run is looked up in an index that is made once: to filter a frame once a run
    grows with the square of the runs."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    probes: pd.DataFrame
    made: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    home: Path = Path()
    whole: Tables | None = field(default=None, repr=False)
    spectra: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*SPECTRA_COLUMNS, "run"]))

    def part(self, runs: pd.DataFrame) -> Tables:
        """The tables of some of these ``runs`` alone; what is known of each run is shared."""
        return replace(self, runs=runs, whole=self.whole or self)

    @property
    def scale(self) -> str:
        return str(self.runs["scale"].iloc[0])

    @property
    def selection(self) -> str:
        """What was selected of the scale, as the command line has it; "" for all of it."""
        return str(self.runs["selection"].iloc[0])

    @property
    def scope(self) -> str:
        """The scale, and what was selected of it, as it is printed."""
        return f"{self.scale} ({self.selection})" if self.selection else self.scale

    @property
    def command(self) -> str:
        """What makes these tables."""
        return format.command(self.scale, self.selection)

    @cached_property
    def tasks(self) -> list[str]:
        return sorted(self.runs["task"].unique())

    @cached_property
    def labels(self) -> list[str]:
        """The labels of all methods: the known ones in their fixed order, then the others by name."""
        return method_groups.ordered(self.runs["method"].unique())

    @cached_property
    def seeds(self) -> frozenset[int]:
        """The seeds of all runs."""
        return frozenset(self.runs["seed"])

    def families_of(self, table: str) -> list[str]:
        """Families of one of the tables ``made``; none where it is not there."""
        return sorted(self.made[table]["family"].unique()) if table in self.made else []

    def methods(self, task: str) -> list[str]:
        """Methods with runs on ``task``: the known ones in their fixed order, then the others by name."""
        return method_groups.ordered(self._of_task(task)["method"].unique())

    def is_fine_tuning(self, task: str) -> bool:
        """Whether the task's runs start from trained weights."""
        return bool((self._of_task(task)["start_hash"] != "").any())

    def sanity_of(self, task: str) -> str:
        """Whether vanilla has learned the task, as the table of sanity says; "" where no levels are stated."""
        sanity = self.made.get("sanity")
        return "" if sanity is None else " ".join(sanity.loc[sanity["task"] == task, "verdict"])

    def converged(self, task: str) -> str:
        """Whether vanilla has converged on the task, as the table of sanity says; "" where it does not say."""
        sanity = self.made.get("sanity")
        known = sanity is not None and "converged" in sanity
        return " ".join(sanity.loc[sanity["task"] == task, "converged"]) if known else ""

    def loss_unit(self, task: str) -> str:
        """The unit of the task's loss."""
        return str(self.first(task)["loss_unit"])

    def metrics(self, task: str) -> dict[str, bool]:
        """The task's metrics, the one it is judged by first, and whether higher is better."""
        return metrics.read_names(self.first(task)["metrics"])

    def bounds(self, task: str, split: str) -> dict[str, float]:
        """Known reference values of the task on ``split``, by what they are of, such as "floor"."""
        rows, found = self._of_task(task), {}
        for column in rows.columns[rows.columns.str.startswith("bound_")]:
            name, _, of = column.removeprefix("bound_").rpartition("_")
            if of == split and rows[column].notna().any():
                found[name] = float(rows[column].dropna().iloc[0])
        return found

    def first(self, task: str) -> Mapping[str, Any]:
        """The first row of ``runs`` on the task: what all its runs share."""
        return self._first_of_task[task]

    def of(self, task: str, method: str) -> pd.DataFrame:
        """The rows of ``runs`` of one task and method, by seed, diverged runs included; none may be there."""
        return self._by_label.get((task, method), self.runs.iloc[:0])

    def finished(self, task: str, method: str) -> pd.DataFrame:
        """The finished runs of one task and method, by seed; measures are taken on these alone."""
        return self._finished_by_label.get((task, method), self.runs.iloc[:0])

    def curve(self, run: str) -> pd.DataFrame:
        """One run's curve, ascending in step, its numbers without the run's labels; read, never changed."""
        return self.whole.curve(run) if self.whole else self._curves[run]

    def probes_of(self, *runs: str) -> pd.DataFrame:
        """The probes of one run or of some, by interval and module."""
        found = self.probes.take(self._probe_places(runs))
        return found.reset_index(drop=True) if len(runs) < 2 else found.sort_values(_ORDER, ignore_index=True)

    def probe_columns(self, columns: Sequence[str], runs: Sequence[str]) -> pd.DataFrame:
        """These columns of the probes of some runs, run by run, each by interval and module."""
        return self.probes[list(columns)].take(self._probe_places(runs))

    def _probe_places(self, runs: Sequence[str]) -> Sequence[int]:
        rows = (self.whole or self)._ordered_probe_rows
        places = [rows[run] for run in runs if run in rows]
        return np.concatenate(places) if places else []

    def recorded(self, run: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The probes and the spectra of one run, in the order in which it recorded them."""
        known = self.whole or self
        rows = ((self.probes, known._probe_rows), (self.spectra, known._spectrum_rows))
        probes, spectra = (frame.take(places.get(run, [])) for frame, places in rows)
        return probes, spectra

    def by_seed(self, task: str, method: str, measure: Callable[..., float], *settings: Hashable) -> pd.Series:
        """``measured`` of every finished run, as a series over seeds."""
        runs = self.finished_runs(task, method)
        return pd.Series({int(run["seed"]): self.measured(run, measure, *settings) for run in runs}, dtype=float)

    def finished_runs(self, task: str, method: str) -> Sequence[Mapping[str, Any]]:
        """The rows of ``finished`` one by one."""
        return self._finished_rows.get((task, method), ())

    def measured(self, run: Mapping[str, Any], measure: Callable[..., Measured], *settings: Hashable) -> Measured:
        """``measure(run's row, its curve, *settings)``: a function of these alone, asked once a run."""
        known, key = self.whole._measured if self.whole else self._measured, (run["run"], measure, settings)
        if key not in known:
            known[key] = measure(run, self.curve(run["run"]), *settings)
        return known[key]

    def _of_task(self, task: str) -> pd.DataFrame:
        return self._by_task.get(task, self.runs.iloc[:0])

    @cached_property
    def _by_task(self) -> dict[str, pd.DataFrame]:
        return dict(iter(self.runs.groupby("task")))

    @cached_property
    def _first_of_task(self) -> dict[str, Mapping[str, Any]]:
        return {row["task"]: row for row in self.runs.drop_duplicates("task").to_dict("records")}

    @cached_property
    def _by_label(self) -> dict[tuple[str, str], pd.DataFrame]:
        return dict(iter(self.runs.sort_values("seed").groupby(["task", "method"])))

    @cached_property
    def _finished(self) -> pd.DataFrame:
        return self.runs[self.runs["status"] == "finished"].sort_values("seed")

    @cached_property
    def _finished_by_label(self) -> dict[tuple[str, str], pd.DataFrame]:
        return dict(iter(self._finished.groupby(["task", "method"])))

    @cached_property
    def _finished_rows(self) -> dict[tuple[str, str], Sequence[Mapping[str, Any]]]:
        found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for row in self._finished.to_dict("records"):
            found.setdefault((row["task"], row["method"]), []).append(row)
        return found

    @cached_property
    def _measured(self) -> dict[tuple[Any, ...], Any]:
        return {}

    @cached_property
    def _curves(self) -> dict[str, pd.DataFrame]:
        numbers = self.curves.select_dtypes("number")
        groups = numbers.groupby(self.curves["run"], sort=False)
        return {run: rows.sort_values("step", ignore_index=True) for run, rows in groups}

    @cached_property
    def _probe_rows(self) -> dict[str, np.ndarray]:
        """Places of each run's probes."""
        return self.probes.groupby("run").indices

    @cached_property
    def _ordered_probe_rows(self) -> dict[str, np.ndarray]:
        """Places of each run's probes, by interval and module: all runs' are sorted at once, not each when asked."""
        modules, _ = self.probes["module"].factorize(sort=True)
        places = np.lexsort((modules, self.probes["interval"]))
        runs = self.probes["run"].take(places)
        return {run: places[rows] for run, rows in runs.groupby(runs).indices.items()}

    @cached_property
    def _spectrum_rows(self) -> dict[str, np.ndarray]:
        """Places of each run's spectra."""
        return self.spectra.groupby("run").indices


def save(tables: Tables, folder: Path) -> None:
    """Write ``WRITTEN`` into ``folder``, and their seal last."""
    rows = tables.runs.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    write_text(rows, folder / "runs.csv")
    write_parquet(tables.curves, folder / "curves.parquet")
    write_parquet(tables.probes, folder / "probes.parquet")
    write_parquet(tables.spectra, folder / SPECTRA)
    seal(folder)


def seal(folder: Path) -> None:
    """Seal the pooled tables in ``folder`` as they are."""
    write_seal(folder / SEAL, there(folder))


def there(folder: Path) -> tuple[str, ...]:
    """The pooled tables that are in ``folder``, which has all of ``FILES``."""
    return FILES if missing(folder, [SPECTRA]) else WRITTEN


def load(folder: Path) -> Tables:
    """Read what ``save`` wrote. Raises InputError when a file is missing, or is not as it was written."""
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(f"expected a tables folder holding {name}, found none in {folder}; collect the runs first")
    names = there(folder)
    check_seal(folder / SEAL, names, "collect the runs again")
    runs = pd.read_csv(folder / "runs.csv", dtype=_TEXT)
    if _NEWER not in runs:
        runs[_NEWER] = ""
    require(folder / "runs.csv", runs, _TEXT)
    for column in _MAY_BE_EMPTY:
        runs[column] = runs[column].fillna("")
    frames = {Path(name).stem: pd.read_parquet(folder / name) for name in names[1:]}
    for frame, name in zip((frames["curves"], frames["probes"]), NEWER, strict=True):
        if name not in frame:
            frame[name] = np.nan
    return Tables(runs, home=home(folder), **frames)


def home(folder: Path) -> Path:
    """The folder of a scale's results that a folder of tables is in, those of a part of the scale included."""
    made = folder.resolve().parent
    return made.parent.parent if made.parent.name == "only" else made
