"""Where results are: those that the pipeline makes, and the reference results that are committed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mat.errors import InputError
from mat.records.archive import NAME

RESULTS, FIGURES, REFERENCE = Path("results"), Path("paper_figures"), "reference"
PAGES = ("REPORT.md", "REPRODUCIBILITY.md", "report.html", "claims.json")


class Place(NamedTuple):
    """Results of a scale, or of a part of it, below a repository's ``root``; ``name``: ``demo``, ``subset/only/glue``,
    or one of the reference, ``reference/demo``."""

    root: Path
    name: str

    @property
    def results(self) -> Path:
        return self.root / RESULTS / self.name

    @property
    def tables(self) -> Path:
        return self.results / "tables"

    @property
    def figures(self) -> Path:
        return self.root / FIGURES / self.name

    @property
    def records(self) -> Path:
        """The runs' records, packed; of a reference whose records were not kept it is not there."""
        return self.results / NAME

    def files(self) -> list[Path]:
        """Tables, figures and pages that are there."""
        pages = (self.results / name for name in PAGES)
        folders = (path for folder in (self.tables, self.figures) for path in folder.glob("*"))
        return sorted(path for path in (*pages, *folders) if path.is_file() and not path.name.startswith("."))

    def other(self, path: Path, place: Place) -> Path:
        """The file of ``place`` that ``path`` is here."""
        for mine, theirs in ((self.results, place.results), (self.figures, place.figures)):
            if path.is_relative_to(mine):
                return theirs / path.relative_to(mine)
        raise ValueError(f"{path} is no file of {self.name}")


def reference_of(tables: Path, root: Path) -> Path:
    """The reference's folder of tables beside a folder of one's own. Raises InputError where there is none."""
    own, results = tables.resolve(), (root / RESULTS).resolve()
    found = root / RESULTS / REFERENCE / own.relative_to(results) if own.is_relative_to(results) else None
    if found is None or not (found / "runs.csv").is_file():
        has = ", ".join(str(place.tables) for place in references(root)) or "none"
        raise InputError(f"{tables} has no reference results beside it; name what to compare with; references: {has}")
    return found


def references(root: Path) -> Iterator[Place]:
    """The reference results that are committed, those of parts included."""
    for path in sorted((root / RESULTS / REFERENCE).rglob("tables/runs.csv")):
        yield Place(root, path.parents[1].relative_to(root / RESULTS).as_posix())
