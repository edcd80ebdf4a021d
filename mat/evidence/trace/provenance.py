"""From data to figure by content: the SHA-256 of every table and figure, of what it was made from, and of the runs.

``provenance.json`` records it, ``check`` compares the record with the files that are there. Paths in the record
are relative to the repository's root; sizes in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence.catalogue import items
from mat.evidence.catalogue.items import Found
from mat.evidence.runs.files import relative, sha256, short
from mat.evidence.runs.pooled import Tables
from mat.evidence.text import format
from mat.evidence.trace import provenance_runs

NAME = "provenance.json"
_PAGES = ("provenance",)
_SCRIPTS = ("{name}.py", "common.py", "looks.py", "style.mplstyle")  # of paper_figures


def record(tables: Tables, tables_dir: Path, figures_dir: Path, root: Path) -> dict[str, Any]:
    """Every file of the tables' and the figures' folders, with its hash and the hashes of its sources.

    Keys: ``scale``, ``selection``, ``command``; ``files``: path → ``sha256``, ``bytes``, ``command``, ``from`` (path →
    SHA-256); ``runs``: one entry per run with its hashes, its test metrics and, where its folder is there, the SHA-256
    of its ``files``. Sources that are not there are left out.
    """
    files = {}
    for found, scripts in _items(tables_dir, figures_dir):
        named = [tables_dir / name for name in found.item.sources if "/" not in name]
        for name in found.item.sources:
            if name in items.MEASURED:
                named += _measured(tables, root, name)
            elif "/" in name:
                named.append(root / name.format(scale=tables.scale))
        named += [root / "paper_figures" / name.format(name=found.item.name) for name in scripts]
        sources = {relative(path, root): sha256(path) for path in named if path.is_file()}
        for path in found.files.values():
            files[relative(path, root)] = {
                "sha256": sha256(path),
                "bytes": path.stat().st_size,
                "command": format.command(tables.scale, tables.selection, relative(path, root)),
                "from": sources,
            }
    return {
        "scale": tables.scale, "selection": tables.selection, "command": tables.command,
        "files": dict(sorted(files.items())), "runs": provenance_runs.record(tables, root),
    }  # fmt: skip


def check(tables: Tables, tables_dir: Path, root: Path) -> Iterator[str]:
    """What is not as ``provenance.json`` says, one sentence each; nothing when all is.

    Files: there, and of the recorded SHA-256. Sources: the recorded hash is that of the file which is there now; tables
    that jobs measured need not be there. Runs: ``runs.csv`` has the recorded ones; a run folder that is there is the
    recorded run, file by file, and says what ``runs.csv``, ``curves.parquet`` and ``probes.parquet`` say of it.
    """
    known = load(tables_dir)
    now: dict[str, str | None] = {}

    def hashed(name: str) -> str | None:
        if name not in now:
            now[name] = sha256(root / name) if (root / name).is_file() else None
        return now[name]

    for name, file in known["files"].items():
        if hashed(name) is None:
            yield f"{name} is recorded and is not there; make it again: {file['command']}"
        elif hashed(name) != file["sha256"]:
            yield f"{name} was {short(file['sha256'])} when it was recorded and is {short(hashed(name))} now"
        for source, digest in file["from"].items():
            if hashed(source) != digest and not (hashed(source) is None and _is_measured(source)):
                yield f"{name} was made from another {source}; make it again: {file['command']}"
    folders = {(root / name).parent for name in known["files"]}
    for folder in sorted(folders):
        for found in (*items.tables(folder), *items.figures(folder)):
            for path in found.files.values():
                if found.item.name not in _PAGES and relative(path, root) not in known["files"]:
                    yield f"{relative(path, root)} is not recorded; make the record again"
    yield from provenance_runs.check(known["runs"], tables, root)


def _measured(tables: Tables, root: Path, pattern: str) -> list[Path]:
    """The jobs' tables that are there of the families and the code of this scale's own table."""
    name = "agreement" if pattern == items.AGREEMENT else "trainability"
    table = getattr(tables, name)
    if table is None:
        return []
    wanted = set(zip(table["family"], table["code_hash"], strict=True))
    found = []
    for path in sorted(root.glob(pattern.format(scale=tables.scale))):
        first = pd.read_parquet(path, columns=["family", "code_hash"]).iloc[:1]
        if set(zip(first["family"], first["code_hash"], strict=True)) <= wanted:
            found.append(path)
    return found


def _is_measured(source: str) -> bool:
    """Whether a path of the record is a table that a job measured."""
    return any(fnmatch(source, pattern.replace("{scale}", "*")) for pattern in items.MEASURED)


def load(tables_dir: Path) -> dict[str, Any]:
    """The record. Raises InputError when there is none or it is not one."""
    path = tables_dir / NAME
    if not path.is_file():
        raise InputError(
            f"expected {NAME} in {tables_dir}, found none; make it with `mat step provenance`"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error}); make it again") from None
    if not isinstance(content, dict) or {"files", "runs"} - set(content):
        raise InputError(f"{path} must hold the keys files and runs; make it again")
    return content


def markdown(made: dict[str, Any]) -> str:
    """The record as a page: files with their hashes and sources, then the code and the data of the runs."""
    rows = [
        (
            f"`{name}`",
            f"`{short(file['sha256'])}`",
            ", ".join(f"`{Path(source).name}` {short(digest)}" for source, digest in file["from"].items())
            or format.MISSING,
        )
        for name, file in made["files"].items()
    ]
    runs = pd.DataFrame(made["runs"])
    code = ", ".join(f"`{value}`" for value in sorted(runs["code_hash"].unique()))
    data = [
        (task, str(len(rows)), ", ".join(f"`{value}`" for value in sorted(rows["data_hash"].unique())))
        for task, rows in runs.groupby("task", sort=True)
    ]
    scope = " ".join(filter(None, (made["scale"], made["selection"])))
    return "\n\n".join(
        [
            f"# Provenance. Scale {scope}",
            f"SHA-256 of every file, its first 12 digits here and all of them in `{NAME}`, and of what it was made "
            f"from. `python -m mat trace --tables DIR --check` compares it with the files that are there.",
            format.markdown_table(("file", "SHA-256", "made from"), rows),
            f"`runs.csv` stands on {len(runs)} runs, trained by the code {code} on the data:",
            format.markdown_table(("task", "runs", "data, SHA-256"), data),
        ]
    )


def _items(tables_dir: Path, figures_dir: Path) -> Iterable[tuple[Found, tuple[str, ...]]]:
    for found in items.tables(tables_dir):
        if found.item.name not in _PAGES:
            yield found, ()
    for found in items.figures(figures_dir):
        yield found, _SCRIPTS
