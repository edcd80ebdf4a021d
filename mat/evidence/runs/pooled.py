"""The pooled tables of one scale, and the one way to ask them for a number per seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mat.errors import InputError
from mat.evidence.runs import method_groups, metrics
from mat.evidence.text import format
from mat.records.files import write_parquet, write_text

REFERENCE = "vanilla"
_MAY_BE_EMPTY = ("start_hash", "mode", "estimator", "subset", "selection")
_TEXT = dict.fromkeys(
    ("run", "scale", "task", "method", "code_hash", "data_hash", "spec_hash", *_MAY_BE_EMPTY), str
)


@dataclass(frozen=True)
class Tables:
    """``runs``: one row per run. ``curves``, ``probes``: all runs' rows, with a ``run`` column. ``agreement``:
    the table of ``mat.evidence.tables.agreement``, None at a scale that does not compare estimators. ``ceiling``,
    ``ceiling_parts``: the tables of ``mat.experiments.studies.ceiling.compute``, None at a scale that does not ask for them. ``sanity``: the table
    of ``mat.evidence.tables.sanity``, None where no levels are stated. ``trainability``, ``generalisation``: the tables of
    these names, None at a scale that trains no branches; ``trainability_modules``: what the first stands on, a row per
    module. ``results``, ``sensitivity``, ``rivals``: the tables of these names, None where they were not made. A table
    without a row is None too."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    probes: pd.DataFrame
    agreement: pd.DataFrame | None = None
    ceiling: pd.DataFrame | None = None
    ceiling_parts: pd.DataFrame | None = None
    sanity: pd.DataFrame | None = None
    trainability: pd.DataFrame | None = None
    generalisation: pd.DataFrame | None = None
    trainability_modules: pd.DataFrame | None = None
    results: pd.DataFrame | None = None
    sensitivity: pd.DataFrame | None = None
    rivals: pd.DataFrame | None = None

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
        """Families of the table ``agreement``, ``trainability`` or ``generalisation``; none where there is none."""
        found = getattr(self, table)
        return [] if found is None else sorted(found["family"].unique())

    def methods(self, task: str) -> list[str]:
        """Methods with runs on ``task``: the known ones in their fixed order, then the others by name."""
        return method_groups.ordered(self.runs.loc[self.runs["task"] == task, "method"])

    def is_fine_tuning(self, task: str) -> bool:
        """Whether the task's runs start from trained weights."""
        return bool((self.runs.loc[self.runs["task"] == task, "start_hash"] != "").any())

    def sanity_of(self, task: str) -> str:
        """Whether vanilla has learned the task, as the table of sanity says; "" where no levels are stated."""
        if self.sanity is None:
            return ""
        return " ".join(self.sanity.loc[self.sanity["task"] == task, "verdict"])

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
        """One run's curve, ascending in step; read, never changed."""
        return self._curves[run]

    def probes_of(self, run: str) -> pd.DataFrame:
        """One run's probes, by interval and module."""
        rows = self.probes[self.probes["run"] == run]
        return rows.sort_values(["interval", "module"], ignore_index=True)

    @cached_property
    def _by_label(self) -> dict[tuple[str, str], pd.DataFrame]:
        return dict(iter(self.runs.sort_values("seed").groupby(["task", "method"])))

    @cached_property
    def _finished_by_label(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {label: rows[rows["status"] == "finished"] for label, rows in self._by_label.items()}

    @cached_property
    def _curves(self) -> dict[str, pd.DataFrame]:
        groups = self.curves.groupby("run", sort=False)
        return {run: rows.sort_values("step", ignore_index=True) for run, rows in groups}

    def by_seed(
        self, task: str, method: str, measure: Callable[[pd.Series, pd.DataFrame], float]
    ) -> pd.Series:
        """``measure(run row, curve)`` of every finished run, as a series over seeds."""
        rows = self.finished(task, method)
        return pd.Series(
            {int(row["seed"]): measure(row, self.curve(row["run"])) for _, row in rows.iterrows()},
            dtype=float,
        )


def save(tables: Tables, folder: Path) -> None:
    """Write ``runs.csv``, ``curves.parquet`` and ``probes.parquet`` into ``folder``."""
    rows = tables.runs.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    write_text(rows, folder / "runs.csv")
    write_parquet(tables.curves, folder / "curves.parquet")
    write_parquet(tables.probes, folder / "probes.parquet")


def load(folder: Path) -> Tables:
    """Read what ``save`` wrote, and of the tables made from it or beside it those that are there.

    Raises InputError when a table is missing.
    """
    for name in ("runs.csv", "curves.parquet", "probes.parquet"):
        if not (folder / name).is_file():
            raise InputError(
                f"expected a tables folder holding {name}, found none in {folder}; collect the runs first"
            )
    runs = pd.read_csv(folder / "runs.csv", dtype=_TEXT)
    for column in _MAY_BE_EMPTY:
        runs[column] = runs[column].fillna("")
    return Tables(
        runs,
        pd.read_parquet(folder / "curves.parquet"),
        pd.read_parquet(folder / "probes.parquet"),
        load_agreement(folder),
        load_ceiling(folder, "ceiling.csv"),
        load_ceiling(folder, "ceiling_parts.csv"),
        load_sanity(folder),
        load_branches(folder, "trainability.csv"),
        load_branches(folder, "generalisation.csv"),
        load_branches(folder, "trainability_modules.csv"),
        load_by_method(folder, "results.csv"),
        load_sensitivity(folder),
        load_by_method(folder, "rivals.csv"),
    )


def load_agreement(folder: Path) -> pd.DataFrame | None:
    """``agreement.csv`` of ``folder``."""
    return _read(
        folder / "agreement.csv", ("checkpoint", "family", "scale", "code_hash", "reference"), ("reference",)
    )


def load_ceiling(folder: Path, name: str) -> pd.DataFrame | None:
    """``ceiling.csv`` or ``ceiling_parts.csv`` of ``folder``."""
    return _read(folder / name, ("scale", "label", "note"), ("note",))


def load_sanity(folder: Path) -> pd.DataFrame | None:
    """``sanity.csv`` of ``folder``."""
    texts = ("scale", "task", "metric", "direction", "verdict", "baselines", "source")
    return _read(folder / "sanity.csv", texts, texts)


def load_branches(folder: Path, name: str) -> pd.DataFrame | None:
    """``trainability.csv``, ``trainability_modules.csv`` or ``generalisation.csv`` of ``folder``."""
    return _read(folder / name, ("checkpoint", "family", "scale", "task", "code_hash"), ("given", "minus"))


def load_by_method(folder: Path, name: str) -> pd.DataFrame | None:
    """``results.csv`` or ``rivals.csv`` of ``folder``, rows by task and method."""
    return _read(
        folder / name, ("scale", "task", "method", "group", "mode", "metric", "loss_unit", "ledger"), ()
    )


def load_sensitivity(folder: Path) -> pd.DataFrame | None:
    """``sensitivity.csv`` of ``folder``."""
    texts = (
        "id", "open", "alternative", "task", "claim", "measure", "unit", "ledger", "verdict_default",
        "verdict_alternative",
    )  # fmt: skip
    frame = _read(folder / "sensitivity.csv", texts, texts)
    return None if frame is None else frame.assign(changes=frame["changes"].astype(bool))


def _read(path: Path, texts: tuple[str, ...], filled: tuple[str, ...]) -> pd.DataFrame | None:
    """A table whose columns ``texts`` are text, those of ``filled`` with "" where nothing is; None where there is no
    such file or it has no row: a selection of a scale may leave nothing to compare."""
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        return None
    frame = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    if frame.empty:
        return None
    return frame.assign(**{name: frame[name].fillna("") for name in filled if name in frame})
