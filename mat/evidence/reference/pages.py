"""What README and docs say of the reference results: places that are marked, filled from the committed tables.

A place begins with ``<!-- mat:NAME ARGUMENT… -->`` and ends with ``<!-- /mat -->``. Those with ``NUMBERS`` are written
into the pages; ``LISTS``, which repeat what another file says, are filled when the site is built and stay empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.claims.load import load_claims
from mat.evidence.claims.page import combination, rule_text
from mat.evidence.reference.places import REFERENCE, Place
from mat.evidence.report import chapters, environment, erratum, matrix
from mat.evidence.report.finding import Finding, found
from mat.evidence.sensitivity import register
from mat.evidence.tables.columns import EXECUTED, stands_on
from mat.evidence.tables.results import main_rows
from mat.evidence.text import format
from mat.records.files import write_text

PLACE = re.compile(r"(<!-- mat:(\w+)((?: [^\s>]+)*) -->\n).*?(<!-- /mat -->)", re.DOTALL)


def fill(root: Path) -> list[str]:
    """Fill the places for ``NUMBERS`` in the README and the docs of ``root``; the names of the files that changed.

    Raises InputError for a place of an unknown name, or of results that are not there.
    """
    changed = []
    for path in pages(root):
        before = path.read_text(encoding="utf-8")
        after = filled(before, root)
        if after != before:
            write_text(after, path)
            changed.append(path.relative_to(root).as_posix())
    return changed


def pages(root: Path) -> list[Path]:
    """The README and the pages of the docs."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def filled(text: str, root: Path, lists: bool = False) -> str:
    """The page with its places filled, those for ``LISTS`` only if asked. Raises InputError as ``fill`` does."""
    makers = {**NUMBERS, **LISTS}

    def one(found: re.Match[str]) -> str:
        name, arguments = found[2], found[3].split()
        if name not in makers:
            raise InputError(f"unknown place mat:{name}; expected one of {', '.join(makers)}")
        content = makers[name](root, *arguments) if lists or name in NUMBERS else ""
        return f"{found[1]}{content and f'{chr(10)}{content}{chr(10)}{chr(10)}'}{found[4]}"

    return PLACE.sub(one, text)


def _place(root: Path, name: str) -> Place:
    place = Place(root, f"{REFERENCE}/{name}")
    if not place.tables.is_dir():
        raise InputError(f"{place.tables}: expected reference results, found none; name others")
    return place


def _made(place: Place, name: str) -> pd.DataFrame:
    found = catalogue.load_made(place.tables, [name])
    if name not in found:
        raise InputError(f"{place.tables / name}.csv: expected a table with rows, found none")
    return found[name]


def finding(root: Path, name: str) -> str:
    """What was found, after the erratum of the results where there is one."""
    place = _place(root, name)
    return "\n\n".join([*erratum.note(erratum.read(place.results)), _found(place).markdown])


def headline(root: Path, name: str) -> str:
    """The same in sentences without a number."""
    return _found(_place(root, name)).short


def _found(place: Place) -> Finding:
    return found(_made(place, "verdicts"), load_claims(_rule_file(place.root, "claims")))


def verdict_matrix(root: Path, name: str) -> str:
    """The verdicts at a glance, every claim a link to its words in place of them."""
    frame, claims = _made(_place(root, name), "verdicts"), load_claims(_rule_file(root, "claims"))
    return matrix.markdown(frame, claims, page="claims.md")


def results(root: Path, name: str) -> str:
    """Vanilla, MAT and what is compared with them on every task, in a few columns."""
    frame = _made(_place(root, name), "results")
    shown = pd.concat([main_rows(frame, task) for task in dict.fromkeys(frame["task"])])
    return f"{stands_on(shown)} Compute is of the {EXECUTED}.\n\n{environment.in_short(shown)}"


def runs(root: Path, name: str) -> str:
    """How many runs stand behind the results, and where their tables are."""
    place = _place(root, name)
    return f"{environment.scope(catalogue.load(place.tables, []))} Tables: `{place.tables.relative_to(root)}`."


def table(root: Path, name: str, of: str) -> str:
    """A committed page of tables, without its title."""
    return chapters.inner((_place(root, name).tables / f"{of}.md").read_text(encoding="utf-8"))


def methods(root: Path) -> str:
    """The cards of all methods."""
    cards = environment.method_cards(root / "mat/methods")
    return "\n\n".join(f"## {name}\n\n{first}\n\n```text\n{rest}\n```" for name, first, rest in cards)


def open_choices(root: Path) -> str:
    """The register of what the paper leaves open."""
    parts = []
    for one in register.load_register(_rule_file(root, "ambiguities")):
        lines = [f"## {one.id}: {format.plain(one.open)} {{#{one.id}}}", f"**Here:** {format.plain(one.default)}"]
        for label, values in (("Alternatives", one.alternatives), ("Varied by", one.sensitivity)):
            if values:
                lines.append(f"{label}: {format.plain('; '.join(values))}.")
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


def claims(root: Path) -> str:
    """Every claim with its rule, and when that was fixed."""
    found = load_claims(_rule_file(root, "claims"))
    parts = [
        f"### {one.id}: {format.plain(one.text)} {{#{one.id}}}\n\nReported: {format.plain(one.reported)}. "
        f"Fixed {format.plain(one.fixed.rstrip('.'))}.\n\n{format.plain(rule_text(one))}"
        for one in found.claims
    ]
    return "\n\n".join([combination(found), *parts])


def _rule_file(root: Path, name: str) -> Path:
    return root / catalogue.rule_files()[name].path


Maker = Callable[..., str]
NUMBERS: Mapping[str, Maker] = {
    "finding": finding,
    "headline": headline,
    "verdicts": verdict_matrix,
    "results": results,
    "runs": runs,
}
LISTS: Mapping[str, Maker] = {"table": table, "methods": methods, "open_choices": open_choices, "claims": claims}
