"""The pooled tables of one scale, and the one way to ask them for a number per seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mat.errors import InputError
from mat.evidence.runs import method_groups, metrics
from mat.evidence.text import format
from mat.records.files import require, write_parquet, write_text

REFERENCE = "vanilla"
FILES = ("runs.csv", "curves.parquet", "probes.parquet")
_MAY_BE_EMPTY = ("start_hash", "mode", "estimator", "subset", "selection")
_NUMBERS = (
    *("seed", "steps", "test_loss", "test_metric", "best_val_loss", "best_step", "interval", "probe_n", "modules"),
    *("remainder_parameters", "seconds_train", "seconds_probe", "seconds_eval", "seconds_data", "epochs", "threads"),
)
_TEXT = dict.fromkeys(("run", "scale", "task", "method", "code_hash", "data_hash", "spec_hash", *_MAY_BE_EMPTY), str)


@dataclass(frozen=True)
class Tables:
    """``runs``: one row per run. ``curves``, ``probes``: all runs' rows, with a ``run`` column. ``made``: the tables
    made from them or beside them, by name; one that was not made, or has no row, is not in it. ``home``: of tables that
    were read, the folder of the scale's results, which has its ``runs`` where they are there."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    probes: pd.DataFrame
    made: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    home: Path = Path()

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

    @property
    def tasks(self) -> list[str]:
        return sorted(self.runs["task"].unique())

    def families_of(self, table: str) -> list[str]:
        """Families of one of the tables ``made``; none where it is not there."""
        return sorted(self.made[table]["family"].unique()) if table in self.made else []

    def methods(self, task: str) -> list[str]:
        """Methods with runs on ``task``: the known ones in their fixed order, then the others by name."""
        return method_groups.ordered(self.runs.loc[self.runs["task"] == task, "method"])

    def is_fine_tuning(self, task: str) -> bool:
        """Whether the task's runs start from trained weights."""
        return bool((self.runs.loc[self.runs["task"] == task, "start_hash"] != "").any())

    def sanity_of(self, task: str) -> str:
        """Whether vanilla has learned the task, as the table of sanity says; "" where no levels are stated."""
        sanity = self.made.get("sanity")
        return "" if sanity is None else " ".join(sanity.loc[sanity["task"] == task, "verdict"])

    def loss_unit(self, task: str) -> str:
        """The unit of the task's loss."""
        return str(self.runs.loc[self.runs["task"] == task, "loss_unit"].iloc[0])

    def metrics(self, task: str) -> dict[str, bool]:
        """The task's metrics, the one it is judged by first, and whether higher is better."""
        return metrics.read_names(self.runs.loc[self.runs["task"] == task, "metrics"].iloc[0])

    def bounds(self, task: str, split: str) -> dict[str, float]:
        """Known reference values of the task on ``split``, by what they are of, such as "floor"."""
        rows, found = self.runs[self.runs["task"] == task], {}
        for column in rows.columns[rows.columns.str.startswith("bound_")]:
            name, _, of = column.removeprefix("bound_").rpartition("_")
            if of == split and rows[column].notna().any():
                found[name] = float(rows[column].dropna().iloc[0])
        return found

    def of(self, task: str, method: str) -> pd.DataFrame:
        """The rows of ``runs`` of one task and method, by seed, diverged runs included; none may be there."""
        return self._by_label.get((task, method), self.runs.iloc[:0])

    def finished(self, task: str, method: str) -> pd.DataFrame:
        """The finished runs of one task and method, by seed; measures are taken on these alone."""
        return self._finished_by_label.get((task, method), self.runs.iloc[:0])

    def curve(self, run: str) -> pd.DataFrame:
        """One run's curve, ascending in step, its numbers without the run's labels; read, never changed."""
        return self._curves[run]

    def probes_of(self, run: str) -> pd.DataFrame:
        """One run's probes, by interval and module."""
        rows = self.probes.take(self._probe_rows.get(run, []))
        return rows.sort_values(["interval", "module"], ignore_index=True)

    @cached_property
    def _by_label(self) -> dict[tuple[str, str], pd.DataFrame]:
        return dict(iter(self.runs.sort_values("seed").groupby(["task", "method"])))

    @cached_property
    def _finished_by_label(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {label: rows[rows["status"] == "finished"] for label, rows in self._by_label.items()}

    @cached_property
    def _finished_rows(self) -> dict[tuple[str, str], list[pd.Series]]:
        return {label: [row for _, row in rows.iterrows()] for label, rows in self._finished_by_label.items()}

    @cached_property
    def _curves(self) -> dict[str, pd.DataFrame]:
        numbers = self.curves.select_dtypes("number")
        groups = numbers.groupby(self.curves["run"], sort=False)
        return {run: rows.sort_values("step", ignore_index=True) for run, rows in groups}

    @cached_property
    def _probe_rows(self) -> dict[str, np.ndarray]:
        """Places of each run's probes: looked up once, for a scan per run grows with the square of the runs."""
        return self.probes.groupby("run").indices

    def by_seed(self, task: str, method: str, measure: Callable[[pd.Series, pd.DataFrame], float]) -> pd.Series:
        """``measure(run row, curve)`` of every finished run, as a series over seeds."""
        rows = self._finished_rows.get((task, method), ())
        return pd.Series({int(row["seed"]): measure(row, self.curve(row["run"])) for row in rows}, dtype=float)


def save(tables: Tables, folder: Path) -> None:
    """Write ``runs.csv``, ``curves.parquet`` and ``probes.parquet`` into ``folder``."""
    rows = tables.runs.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    write_text(rows, folder / "runs.csv")
    write_parquet(tables.curves, folder / "curves.parquet")
    write_parquet(tables.probes, folder / "probes.parquet")


def load(folder: Path) -> Tables:
    """Read what ``save`` wrote. Raises InputError when a file is missing or damaged, or they are of different runs."""
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(f"expected a tables folder holding {name}, found none in {folder}; collect the runs first")
    runs, curves, probes = (_read(folder / name) for name in FILES)
    require(folder / "runs.csv", runs, (*_TEXT, *_NUMBERS))
    wrong = [name for name in _NUMBERS if runs[name].dtype.kind not in "if"]
    if wrong:
        raise InputError(f"{folder / 'runs.csv'} is damaged: expected numbers as {wrong[0]}; collect the runs again")
    for column in _MAY_BE_EMPTY:
        runs[column] = runs[column].fillna("")
    for name, table in (("curves.parquet", curves), ("probes.parquet", probes)):
        require(folder / name, table, ["run"])
    tables = Tables(runs, curves, probes, home=home(folder))
    if set(tables.curves["run"]) != set(runs["run"]):
        raise InputError(
            f"{folder} has other runs in runs.csv than in curves.parquet: one was cut off; collect them again"
        )
    return tables


def home(folder: Path) -> Path:
    """The folder of a scale's results that a folder of tables is in, those of a part of the scale included."""
    made = folder.resolve().parent
    return made.parent.parent if made.parent.name == "only" else made


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=_TEXT) if path.suffix == ".csv" else pd.read_parquet(path)
    except Exception as error:  # damaged files fail in many ways
        why = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is damaged ({type(error).__name__}: {why}); collect the runs again") from None
