"""From data to figure by content: the SHA-256 of every table and figure, of what it was made from, and of the runs.

``provenance.json`` records it, ``check`` compares the record with the files that are there. Paths in the record
are relative to the repository's root; sizes in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence.catalogue import figures
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.runs.files import made_as, relative, sha256, short
from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.record import Table
from mat.evidence.text import format
from mat.evidence.trace import provenance_runs
from mat.records.files import read_record

NAME = "provenance.json"
SCRIPTS = "paper_figures"


def record(tables: Tables, tables_dir: Path, figures_dir: Path, root: Path) -> dict[str, Any]:
    """Every file of the tables' and the figures' folders, with its hash and the hashes of its sources.

    Keys: ``scale``, ``selection``, ``command``; ``kept``: how many runs' records are there; ``files``: path →
    ``sha256``, ``bytes``, ``command``, ``from`` (path → SHA-256); ``runs``: one entry per run with its hashes, its test
    metrics and, where its folder is there, the SHA-256 of its ``files``. Sources that are not there are left out.
    """
    made: list[tuple[Mapping[str, Path], list[Path]]] = []  # files, what they are made from
    there = list(_tables(tables_dir))
    for found in there:
        named = catalogue.sources(found.item, tables.scale)
        places = [root / name if "/" in name else tables_dir / name for name in named]
        made.append((found.files, [*places, *_measured(tables, root, found.item)]))
    names = {found.item.name for found in there}
    for found in figures.there(figures_dir, root / SCRIPTS):
        scripts = [root / SCRIPTS / name for name in (f"{found.item.name}.py", *figures.SHARED)]
        made.append((found.files, [*(tables_dir / name for name in found.item.sources(names)), *scripts]))
    files = {}
    for those, from_ in made:
        sources = {relative(path, root): sha256(path) for path in from_ if path.is_file()}
        for path in those.values():
            files[relative(path, root)] = {
                "sha256": sha256(path),
                "bytes": path.stat().st_size,
                "command": format.command(tables.scale, tables.selection, made_as(path, root)),
                "from": sources,
            }
    return {
        "scale": tables.scale, "selection": tables.selection, "command": tables.command,
        "kept": provenance_runs.kept(tables), "files": dict(sorted(files.items())),
        "runs": provenance_runs.record(tables),
    }  # fmt: skip


def carry(before: dict[str, Any], made: dict[str, Any]) -> None:
    """Add to a record the hashes that an earlier one of the same runs and files has of records not there any more."""
    known = {run["run"]: run for run in before["runs"]}
    for run in made["runs"]:
        earlier = known.get(run["run"], {})
        if "files" not in run and {**run, "files": earlier.get("files")} == earlier:
            run["files"] = earlier["files"]
    for name, file in made["files"].items():
        earlier = before["files"].get(name, {"from": {}})["from"]
        file["from"] = {source: digest for source, digest in earlier.items() if _is_measured(source)} | file["from"]


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
    for folder in sorted({(root / name).parent for name in known["files"]}):
        for found in (*_tables(folder), *figures.there(folder, root / SCRIPTS)):
            for path in found.files.values():
                if relative(path, root) not in known["files"]:
                    yield f"{relative(path, root)} is not recorded; make the record again"
    yield from provenance_runs.check(known["runs"], tables, root)


def _measured(tables: Tables, root: Path, table: Table) -> list[Path]:
    """The jobs' tables that are there of the families and the code of this scale's own table."""
    if not table.measured or table.name not in tables.made:
        return []
    own = tables.made[table.name]
    wanted = set(zip(own["family"], own["code_hash"], strict=True))
    found = []
    for path in sorted(root.glob(table.measured.format(scale=relative(tables.home, root / "results")))):
        first = read_record(path, ("family", "code_hash"), "measure it again").iloc[:1]
        if set(zip(first["family"], first["code_hash"], strict=True)) <= wanted:
            found.append(path)
    return found


def _is_measured(source: str) -> bool:
    """Whether a path of the record is a table that a job measured: too large to commit, recorded where it is."""
    folders = {table.measured.rpartition("/")[0] for table in catalogue.tables().values()} - {""}
    return any(fnmatch(source, f"{folder.format(scale='*')}/*") for folder in folders)


def load(tables_dir: Path) -> dict[str, Any]:
    """The record. Raises InputError when there is none or it is not one."""
    path = tables_dir / NAME
    if not path.is_file():
        raise InputError(f"expected {NAME} in {tables_dir}, found none; make it with `mat step provenance`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error}); make it again") from None
    if not isinstance(content, dict) or {"files", "runs"} - set(content):
        raise InputError(f"{path} must hold the keys files and runs; make it again")
    return content


def markdown(made: dict[str, Any]) -> str:
    """The record as a page: files with their hashes and sources, then the code and the data of the runs."""
    rows = []
    for name, file in made["files"].items():
        sources = [f"{format.code(Path(source).name)} {short(digest)}" for source, digest in file["from"].items()]
        made_from = format.Marked(", ".join(sources) or format.MISSING)
        rows.append((format.code(name), format.code(short(file["sha256"])), made_from))
    runs = pd.DataFrame(made["runs"])
    code = _codes(runs["code_hash"])
    data = [(task, str(len(rows)), _codes(rows["data_hash"])) for task, rows in runs.groupby("task", sort=True)]
    scope = " ".join(filter(None, (made["scale"], made["selection"])))
    return "\n\n".join(
        [
            f"# Provenance. Scale {scope}",
            f"SHA-256 of every file, its first 12 digits here and all of them in `{NAME}`, and of what it was made "
            f"from. `python -m mat trace --tables DIR --check` compares it with the files that are there.",
            format.markdown_table(("file", "SHA-256", "made from"), rows),
            f"`runs.csv` stands on {len(runs)} runs{_kept(made, len(runs))}, trained by the code {code} on the data:",
            format.markdown_table(("task", "runs", "data, SHA-256"), data),
        ]
    )


def _codes(hashes: pd.Series) -> format.Marked:
    return format.Marked(", ".join(map(format.code, sorted(hashes.unique()))))


def _kept(made: dict[str, Any], runs: int) -> str:
    if made["kept"] == runs:
        return ", whose records are kept"
    return f", of which the records of {made['kept'] or 'none'} were kept"


def _tables(folder: Path) -> Iterator[catalogue.Found]:
    """The tables in ``folder`` but for the record itself."""
    return (found for found in catalogue.there(folder) if found.item.name != Path(NAME).stem)
