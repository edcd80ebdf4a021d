"""From data to figure by content: the SHA-256 of every table and figure, of what it was made from, and of the runs.

``provenance.json`` records it, ``check`` compares the record with the files that are there. Paths in the record
are relative to the repository's root; sizes in bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence import report_items, write
from mat.evidence.collect import FILES
from mat.evidence.report_items import Found
from mat.evidence.tables import Tables

NAME = "provenance.json"
_PAGES = ("provenance",)
_SCRIPTS = ("paper_figures/{name}.py", "paper_figures/common.py", "paper_figures/style.mplstyle")
_RUN = ("run", "task", "method", "seed", "status", "spec_hash", "code_hash", "data_hash", "start_hash")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(tables: Tables, tables_dir: Path, figures_dir: Path, root: Path) -> dict[str, Any]:
    """Every file of the tables' and the figures' folders, with its hash and the hashes of its sources.

    Keys: ``scale``, ``selection``, ``command``; ``files``: path → ``sha256``, ``bytes``, ``command``, ``from`` (path →
    SHA-256); ``runs``: one entry per run with its hashes. Sources that are not there are left out.
    """
    files = {}
    for found, scripts in _items(tables_dir, figures_dir):
        named = [*(tables_dir / name for name in found.item.sources if "/" not in name)]
        named += [root / name.format(scale=tables.scale) for name in found.item.sources if "/" in name]
        named += [root / name.format(name=found.item.name) for name in scripts]
        sources = {relative(path, root): sha256(path) for path in named if path.is_file()}
        for path in found.files.values():
            files[relative(path, root)] = {
                "sha256": sha256(path),
                "bytes": path.stat().st_size,
                "command": write.command(tables.scale, tables.selection, relative(path, root)),
                "from": sources,
            }
    runs = tables.runs[list(_RUN)].to_dict("records")
    return {
        "scale": tables.scale, "selection": tables.selection, "command": tables.command,
        "files": dict(sorted(files.items())), "runs": runs,
    }  # fmt: skip


def check(tables: Tables, tables_dir: Path, root: Path) -> Iterator[str]:
    """What is not as ``provenance.json`` says, one sentence each; nothing when all is.

    Files: there, and of the recorded SHA-256. Sources: the recorded hash is that of the file which is there now.
    Runs: ``runs.csv`` has the recorded ones, and a run folder that is there is the recorded run.
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
            yield f"{name} was {_short(file['sha256'])} when it was recorded and is {_short(hashed(name))} now"
        for source, digest in file["from"].items():
            if hashed(source) != digest:
                yield f"{name} was made from another {source}; make it again: {file['command']}"
    folders = {(root / name).parent for name in known["files"]}
    for folder in sorted(folders):
        for found in (*report_items.tables(folder), *report_items.figures(folder)):
            for path in found.files.values():
                if found.item.name not in _PAGES and relative(path, root) not in known["files"]:
                    yield f"{relative(path, root)} is not recorded; make the record again"
    yield from _check_runs(known["runs"], tables, root)


def _check_runs(recorded: list[dict[str, Any]], tables: Tables, root: Path) -> Iterator[str]:
    here = {row["run"]: row for row in tables.runs[list(_RUN)].to_dict("records")}
    for run in recorded:
        name = run["run"]
        if here.pop(name, None) != run:
            yield f"run {name} is recorded otherwise than runs.csv has it"
        folder = run_folder(tables.scale, name, root)
        if all((folder / file).is_file() for file in FILES):
            made = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            for key in ("code_hash", "data_hash"):
                if made.get(key) != run[key]:
                    yield (
                        f"{relative(folder, root)} has the {key} {_short(made.get(key))}, the tables stand on "
                        f"{_short(run[key])}: it was trained again since"
                    )
    yield from (f"run {name} is in runs.csv and not in the record" for name in here)


def load(tables_dir: Path) -> dict[str, Any]:
    """The record. Raises InputError when there is none or it is not one."""
    path = tables_dir / NAME
    if not path.is_file():
        raise InputError(
            f"expected {NAME} in {tables_dir}, found none; make it with `python -m mat provenance`"
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
            f"`{_short(file['sha256'])}`",
            ", ".join(f"`{Path(source).name}` {_short(digest)}" for source, digest in file["from"].items())
            or write.MISSING,
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
            write.markdown_table(("file", "SHA-256", "made from"), rows),
            f"`runs.csv` stands on {len(runs)} runs, trained by the code {code} on the data:",
            write.markdown_table(("task", "runs", "data, SHA-256"), data),
        ]
    )


def run_folder(scale: str, run: str, root: Path) -> Path:
    """Where the workflow keeps a run."""
    return root / "results" / scale / "runs" / run


def relative(path: Path, root: Path) -> str:
    """``path`` below ``root``, with slashes; as it is when it lies elsewhere."""
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _items(tables_dir: Path, figures_dir: Path) -> Iterable[tuple[Found, tuple[str, ...]]]:
    for found in report_items.tables(tables_dir):
        if found.item.name not in _PAGES:
            yield found, ()
    for found in report_items.figures(figures_dir):
        yield found, _SCRIPTS


def _short(digest: str | None) -> str:
    return str(digest)[:12]
