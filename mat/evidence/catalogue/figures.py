"""Every figure: what its script says of it. A script has a literal ``FIGURE``, which is read without running it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from mat.errors import InputError
from mat.evidence.catalogue import tables
from mat.evidence.runs import method_groups, pooled

SHARED = ("common.py", "styles.py", "style.mplstyle")  # what every script stands on
LEDGER = "{seeds}; executed ledger, 1 MAC = 2 FLOP."


@dataclass(frozen=True)
class Figure:
    """A figure: ``name`` of its script and files, ``title``, ``about`` (one or two sentences), shown at ``place``.

    ``reads``: the tables it is drawn from beside the pooled runs; without one of them at a scale there is no figure.
    ``beside``: tables that it reads where a scale has them. ``needs``: labels or groups of methods; of each tuple one
    must have runs. ``held``: n, unit and ledger, for the caption; ``{seeds}`` is replaced by the n of its runs, or of
    the table ``counted`` where one is named.
    """

    name: str
    title: str
    about: str = ""
    reads: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()
    held: str = LEDGER
    counted: str = ""
    place: int = 1000

    def sources(self, there: Collection[str]) -> list[str]:
        """The tables it is drawn from, by file name, where the tables ``there`` are."""
        return [*pooled.FILES, *(f"{name}.csv" for name in (*self.reads, *self.beside) if name in there)]


def known(folder: Path) -> dict[str, Figure]:
    """The figures whose scripts are in ``folder``, by name, in the report's order."""
    found = filter(None, (_read(path.name, path.read_text(encoding="utf-8")) for path in folder.glob("*.py")))
    return {figure.name: figure for figure in sorted(found, key=lambda one: (one.place, one.name))}


@cache
def _read(name: str, script: str) -> Figure | None:
    """What a script says of its figure; None where it has no ``FIGURE``. Raises InputError when that is no literal with
    the fields of ``Figure``."""
    for node in ast.parse(script).body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "FIGURE" for target in node.targets):
            try:
                return Figure(Path(name).stem, **ast.literal_eval(node.value))
            except (TypeError, ValueError) as error:
                allowed = ", ".join(one.name for one in fields(Figure)[1:])
                raise InputError(f"{name}: FIGURE must be a literal with keys of {allowed}: {error}") from None
    return None


def of_scale(folder: Path, asked: Collection[str], labels: Collection[str]) -> list[Figure]:
    """The figures of a scale that asks for these studies and rules and has runs of these methods."""
    there = {table.name for table in tables.of_scale(asked)}
    groups = {method_groups.group(label) for label in labels} | set(labels)
    return [
        figure
        for figure in known(folder).values()
        if set(figure.reads) <= there and all(groups & set(one_of) for one_of in figure.needs)
    ]


def there(folder: Path, scripts: Path) -> Iterator[tables.Found]:
    """The figures in ``folder`` that have a PNG, in the report's order; one without a script has its name as title."""
    files = tables.by_stem(folder, (".png", ".pdf", ".svg"))
    listed = known(scripts)
    for name in [*(name for name in listed if name in files), *(name for name in files if name not in listed)]:
        if ".png" in files[name]:
            yield tables.Found(listed.get(name) or Figure(name, tables.titled(name)), files[name])
