"""The files that a reader gets, written; where a number comes from; whether all is as it was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.evidence.catalogue import tables
from mat.evidence.claims import load as claims_file
from mat.evidence.claims import readings
from mat.evidence.report import chapters as reporting
from mat.evidence.report import crate as crates
from mat.evidence.report import erratum, html, machine
from mat.evidence.report import reproducibility as reproducibility_page
from mat.evidence.sensitivity import register as ambiguities
from mat.evidence.text import format
from mat.evidence.trace import number as tracing
from mat.evidence.trace import page as trace_text
from mat.evidence.trace import provenance as recording
from mat.evidence.trace import provenance_runs
from mat.records.files import write_text


def provenance(tables_dir: Path, figures_dir: Path, root: Path, before: Path | None = None) -> None:
    """Write ``provenance.json`` and ``provenance.md``: the hashes of tables, figures, their sources and runs; what the
    record in ``before``, a folder of the same tables, says of records that are no longer there, stays."""
    made = recording.record(tables.load(tables_dir), tables_dir, figures_dir, root)
    if before is not None:
        recording.carry(recording.load(before), made)
    write_text(json.dumps(made, indent=1, ensure_ascii=False), tables_dir / recording.NAME)
    write_text(recording.markdown(made), tables_dir / "provenance.md")


def report(tables_dir: Path, figures_dir: Path, claims: Path, methods: Path, page: Path, out: Path, root: Path) -> None:
    """Write ``REPORT.md``, ``report.html`` and ``claims.json`` into ``out``, with its ``ERRATUM.md``."""
    pooled, rules = tables.load(tables_dir), claims_file.load_claims(claims)
    source = reporting.Source(pooled, rules, tables_dir, figures_dir, methods, root, erratum.read(out))
    made = reporting.chapters(source)
    write_text(reporting.markdown(source, made, out), out / "REPORT.md")
    write_text(html.page(source, made, page, out), out / "report.html")
    write_text(machine.text(pooled, rules), out / machine.NAME)


def reproducibility(tables_dir: Path, claims: Path, register: Path, out: Path) -> None:
    """Write ``REPRODUCIBILITY.md`` into ``out``: the scale in the words of the ML Reproducibility Challenge; an
    ``ERRATUM.md`` that lies there comes first."""
    page = reproducibility_page.markdown(
        tables.load(tables_dir), claims_file.load_claims(claims), ambiguities.load_register(register), erratum.read(out)
    )
    write_text(page, out / "REPRODUCIBILITY.md")


def crate(tables_dir: Path, figures_dir: Path, out: Path, root: Path) -> None:
    """Write the tables, figures, pages and rules of a scale as an RO-Crate, a ZIP file, into ``out``."""
    crates.write(tables.load(tables_dir), tables_dir, figures_dir, out, root)


def trace(tables_dir: Path, words: list[str], claims: Path, root: Path, as_json: bool) -> str:
    """What is behind the numbers that the words name, as text or JSON; the erratum that lies beside the folder of
    tables comes before the text."""
    found = tracing.trace(tables_dir, words, _rules(claims), tables.load(tables_dir), root)
    if as_json:
        return trace_text.as_json(found)
    return "\n\n".join([*erratum.note(erratum.read(tables_dir.parent)), trace_text.text(found)])


def check(tables_dir: Path, claims: Path, root: Path) -> str:
    """One sentence when tables, figures and runs are what is recorded and what the runs give.

    Raises InputError, naming everything that is not.
    """
    pooled, rules = tables.load(tables_dir), _rules(claims)
    wrong = [*recording.check(pooled, tables_dir, root), *tracing.differences(tables_dir, pooled, rules)]
    if wrong:
        raise InputError("\n".join([f"{len(wrong)} of what is there is not as recorded:", *wrong]))
    recorded = recording.load(tables_dir)
    there = sorted(path.stem for path in tables_dir.glob("*.csv"))
    again = format.listed(f"{name}.csv" for name in there if name in tracing.traced_tables())
    alone = [f"{name}.csv" for name in there if name not in (*tracing.traced_tables(), "runs")]
    folders = provenance_runs.kept(pooled)
    read = (
        f"{folders} run folders are here and say what the pooled tables say"
        if folders
        else "no run folder is here, so the pooled tables were not compared with their runs"
    )
    hashed = f". Not computed again, compared by hash alone: {format.listed(alone)}" if alone else ""
    return (
        f"{len(recorded['files'])} tables and figures and {len(recorded['runs'])} runs are as recorded; {read}; the "
        f"pooled runs give {again} again{hashed}"
    )


def _rules(claims: Path) -> dict[str, Any]:
    """The claims file, and the readings of the paper that lie beside it."""
    return {"claims": claims_file.load_claims(claims), "readings": readings.load_beside(claims)}
