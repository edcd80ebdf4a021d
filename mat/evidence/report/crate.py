"""A scale's results as an RO-Crate: a ZIP of tables, figures, pages and rules with JSON-LD that says what each is.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1): a root data set, its files, and the action that made them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.evidence.catalogue import figures, tables
from mat.evidence.runs.files import relative
from mat.evidence.runs.pooled import Tables
from mat.evidence.trace import provenance

METADATA = "ro-crate-metadata.json"
TYPES = {
    ".csv": "text/csv", ".md": "text/markdown", ".tex": "application/x-tex", ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet", ".pdf": "application/pdf", ".png": "image/png", ".html": "text/html",
    ".yaml": "application/yaml",
}  # fmt: skip


def write(pooled: Tables, tables_dir: Path, figures_dir: Path, out: Path, root: Path) -> None:
    """Write the crate to ``out``, its files at their places below ``root``. Raises InputError where there is no
    report."""
    if not (tables_dir.parent / "report.html").is_file():
        raise InputError(f"expected a report in {tables_dir.parent}, got none; make it: {pooled.command}")
    named = _named(tables_dir, figures_dir, root)
    content = {relative(path, root): (name, path.read_bytes()) for path, name in named.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(METADATA, json.dumps(metadata(pooled, content, date.today()), indent=1, ensure_ascii=False))
        for place, (_, each) in sorted(content.items()):
            packed.writestr(place, each)


def metadata(pooled: Tables, content: dict[str, tuple[str, bytes]], published: date) -> dict[str, Any]:
    """The JSON-LD of files: place → (name, bytes)."""
    parts = [_file(place, *content[place]) for place in sorted(content)]
    ids = _links(part["@id"] for part in parts)
    root = {
        "@id": "./", "@type": "Dataset", "name": f"Modular Adaptive Training: a re-run at scale {pooled.scope}",
        "description": f"Tables, figures and verdicts of {len(pooled.runs)} runs. Made by: {pooled.command}",
        "datePublished": published.isoformat(), "license": {"@id": "https://spdx.org/licenses/MIT"}, "hasPart": ids,
        "mentions": {"@id": "#run"},
    }  # fmt: skip
    action = {
        "@id": "#run", "@type": "CreateAction", "name": pooled.command, "instrument": {"@id": "#workflow"},
        "result": ids,
    }  # fmt: skip
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [
            {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"},
             "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"}},
            root, action,
            {"@id": "#workflow", "@type": "SoftwareApplication", "name": "mat, a Snakemake workflow",
             "softwareVersion": ", ".join(sorted(set(pooled.runs["code_hash"].astype(str).str[:12])))},
            {"@id": "https://spdx.org/licenses/MIT", "@type": "CreativeWork", "name": "MIT License"},
            *parts,
        ],
    }  # fmt: skip


def _named(tables_dir: Path, figures_dir: Path, root: Path) -> dict[Path, str]:
    """The files of the crate and what they are called."""
    found: dict[Path, str] = {}
    for one in (*tables.there(tables_dir), *figures.there(figures_dir, root / provenance.SCRIPTS)):
        found |= dict.fromkeys(one.files.values(), one.item.title)
    pages = [path for path in tables_dir.parent.glob("*.*") if path.suffix in (".md", ".html", ".json")]
    rules = [root / file.path for file in tables.rule_files().values()]
    found |= {path: path.name for path in (*pages, *rules, tables_dir / provenance.NAME) if path.is_file()}
    return found


def _file(place: str, name: str, content: bytes) -> dict[str, Any]:
    return {
        "@id": place.replace(" ", "%20"), "@type": "File", "name": name, "contentSize": str(len(content)),
        "encodingFormat": TYPES.get(Path(place).suffix, "application/octet-stream"),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip


def _links(ids: Iterable[str]) -> list[dict[str, str]]:
    return [{"@id": one} for one in ids]
