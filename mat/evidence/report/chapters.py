"""The report: chapters put together from tables, figures and the files that fix rules, written as Markdown.

``chapters`` is the one description of what a report says; ``markdown`` writes it as ``REPORT.md``, and
``mat.evidence.report.html`` as a page.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mat.evidence.catalogue import figures
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.claims.claim import Claims
from mat.evidence.claims.page import combination, rule_text
from mat.evidence.report import environment, erratum, forest, matrix, verdicts
from mat.evidence.report import finding as findings
from mat.evidence.runs.files import made_as, relative
from mat.evidence.runs.pooled import Tables
from mat.evidence.text import format
from mat.evidence.trace import provenance

PAPER = (
    "Shi et al., *Train Faster, Perform Better: Modular Adaptive Training in Over-Parameterized Models*, "
    "NeurIPS 2023, arXiv 2405.07527"
)
_OWN_CHAPTER = ("provenance", "ambiguities")
FOLDED = 12  # rows of tables that a page shows unasked


@dataclass(frozen=True)
class Picture:
    """A figure with its caption; ``pdf`` is None where there is none."""

    name: str
    title: str
    caption: str
    png: Path
    pdf: Path | None


@dataclass(frozen=True)
class Section:
    """A heading with an anchor, Markdown below it, files to download, pictures, and sections inside it.

    ``command`` makes the files. ``label``: the short title of a table of contents. ``drawn``: HTML that a page shows
    below the text; ``plain``: what Markdown says in its place. ``folded``: Markdown that a page opens on demand.
    """

    anchor: str
    title: str
    text: str = ""
    files: tuple[Path, ...] = ()
    command: str = ""
    pictures: tuple[Picture, ...] = ()
    inside: tuple[Section, ...] = ()
    label: str = ""
    drawn: str = ""
    plain: str = ""
    folded: str = ""


@dataclass(frozen=True)
class Source:
    """Where a report is read from. ``root``: the repository's; ``methods``: the folder of the methods' files;
    ``erratum``: what was found wrong since, which comes before everything else."""

    tables: Tables
    claims: Claims
    tables_dir: Path
    figures_dir: Path
    methods: Path
    root: Path
    erratum: str = ""


def title(source: Source) -> str:
    """The report's title."""
    return f"Modular Adaptive Training: a re-run at scale {source.tables.scope}"


def finding(source: Source) -> findings.Finding:
    """What was found, in a few sentences, and in numbers."""
    frame = source.tables.made.get("verdicts")
    if frame is None:
        return findings.Finding(("No claim is judged on these runs.",))
    return findings.found(frame, source.claims)


def lead(source: Source) -> str:
    """What this is, in two sentences."""
    return (
        f"A re-run of {PAPER}. {environment.scope(source.tables)} Made from tables alone by "
        f"`{source.tables.command}`; every number names its seeds, unit and ledger."
    )


def chapters(source: Source) -> list[Section]:
    """All chapters of the report, verdicts first. What a scale does not have is left out."""
    made = (
        *(_verdicts(source), _summary(source), _tables(source), _figures(source), _runs(source)),
        _of_page(source, "provenance", "From data to figure", "provenance.md", provenance.NAME),
        _of_page(source, "register", "What the paper leaves open", "ambiguities.md"),
        *(_methods(source), _again(source)),
    )
    return [chapter for chapter in made if chapter is not None]


def markdown(source: Source, made: Iterable[Section], folder: Path) -> str:
    """The chapters ``made`` as one Markdown text, its links relative to ``folder``."""
    parts = [f"# {title(source)}", *erratum.note(source.erratum), finding(source).short, lead(source)]
    for chapter in made:
        parts += _written(chapter, 2, folder)
    return without_places("\n\n".join(parts))


def without_places(text: str) -> str:
    """Markdown without links to places on its own page, which only the HTML has."""
    return re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", text)


def _written(section: Section, depth: int, folder: Path) -> Iterator[str]:
    yield f"{'#' * depth} {section.title}"
    if section.files:
        links = [f"[{path.name}]({link(path, folder)})" for path in section.files]
        yield "Files: " + ", ".join(links) + (f"; made by `{section.command}`" if section.command else "")
    yield from filter(None, (section.text, section.plain, section.folded))
    for picture in section.pictures:
        yield f"![{picture.title}]({link(picture.png, folder)})"
        pdf = f" [PDF]({link(picture.pdf, folder)})" if picture.pdf else ""
        yield f"**{picture.title}.** {picture.caption}{pdf}"
    for part in section.inside:
        yield from _written(part, depth + 1, folder)


def link(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder``, as a link."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix().replace(" ", "%20")


def _verdicts(source: Source) -> Section:
    frame = source.tables.made.get("verdicts")
    if frame is None:
        return Section("verdicts", "Verdicts", "No claim is judged on these runs.")
    points = finding(source).points
    parts = [Section("in-numbers", "In numbers", format.bullets(points))] if points else []
    for claim in source.claims.claims:
        rows = frame[frame["claim"] == claim.id]
        if rows.empty:
            continue
        depends = " ".join(f"[{name}](#{name})" for name in claim.ambiguities)
        text = [verdicts.paragraph(rows, claim), verdicts.in_short(claim)]
        text.append(f"Open choices it depends on: {depends}." if depends else "")
        folded = [verdicts.by_task(rows), f"Decision rule, fixed {claim.fixed.rstrip('.')}: {rule_text(claim)}"]
        parts.append(
            Section(
                claim.id, f"{claim.id} · {claim.titled}", "\n\n".join(filter(None, text)), label=claim.id,
                drawn=forest.drawn(rows, claim.id, claim.readings), folded="\n\n".join(filter(None, folded)),
            )
        )  # fmt: skip
    every = [verdicts.MEANING, verdicts.overview(frame, source.claims), combination(source.claims)]
    return Section(
        "verdicts", "Verdicts", inside=tuple(parts), drawn=matrix.html(frame, source.claims),
        plain=matrix.markdown(frame, source.claims), folded="\n\n".join(every),
    )  # fmt: skip


def _summary(source: Source) -> Section | None:
    results = source.tables.made.get("results")
    if results is None:
        return None
    text = (
        f"Mean and 95 % interval over n finished seeds; executed ledger, 1 MAC = 2 FLOP, charged probes included. "
        f"Compute to convergence is to a run's own convergence; *to vanilla's best* says in how many seeds the method "
        f"reached the loss that vanilla converged at.\n\n{environment.in_short(results)}"
    )
    return Section("in-short", "In short", text)


def _tables(source: Source) -> Section:
    parts = []
    for found in catalogue.there(source.tables_dir):
        item, files = found.item, tuple(found.files.values())
        if item.name in _OWN_CHAPTER:
            continue
        if item.name == "verdicts":
            text = "The numbers are under [Verdicts](#verdicts), claim by claim."
        elif ".md" in found.files:
            text = inner(found.files[".md"].read_text(encoding="utf-8"))
        else:
            text = item.about + ("\n\n" + environment.listing(source.tables) if item.name == "runs" else "")
        about, folded = ("", text) if text.count("\n|") > FOLDED else (text, "")
        made = _command(source, found)
        parts.append(Section(f"table-{item.name}", item.title, about, files, made, folded=folded))
    return Section("tables", "Tables", inside=tuple(parts))


def _figures(source: Source) -> Section | None:
    pictures = tuple(
        Picture(one.item.name, one.item.title, _caption(source, one), one.files[".png"], one.files.get(".pdf"))
        for one in figures.there(source.figures_dir, source.root / provenance.SCRIPTS)
    )
    return Section("figures", "Figures", pictures=pictures) if pictures else None


def _caption(source: Source, found: catalogue.Found) -> str:
    held = found.item.held.format(seeds=seeds(source.tables, found.item.counted))
    about = f"{found.item.about} {held}".strip()
    return f"{about} Scale {source.tables.scope}. Made by `{_command(source, found)}`."


def seeds(tables: Tables, counted: str) -> str:
    """n of the runs by task and method; of a table of branches by its own rows, which are no runs of ``runs.csv``."""
    table = tables.made.get(counted)
    if table is not None:
        counts, of = table["n"], "seeds with a result per family and checkpoint"
    else:
        runs = tables.runs
        counts = runs["status"].eq("finished").groupby([runs["task"], runs["method"]]).sum()
        of = "finished seeds per task and method"
    least, most = int(counts.min()), int(counts.max())
    return f"n = {least if least == most else f'{least} to {most}'} {of}"


def _runs(source: Source) -> Section:
    tables = source.tables
    text = (
        f"{environment.scope(tables)} Sums of `seconds_train` (the wait for batches included), `seconds_probe` and "
        f"`seconds_eval` in `runs.csv`; the probes of a method that does not need them are counted too.\n\n"
        f"{environment.spent(tables)}\n\n{environment.machines(tables)}"
    )
    return Section("environment", "Seeds, hours, hardware and versions", text)


def _of_page(source: Source, anchor: str, title: str, *names: str) -> Section | None:
    """A table's page, the first of these files, as a chapter."""
    files = tuple(source.tables_dir / name for name in names)
    return Section(anchor, title, inner(files[0].read_text(encoding="utf-8")), files) if files[0].is_file() else None


def _methods(source: Source) -> Section:
    parts = tuple(
        Section(f"method-{name}", name, f"{first}\n\n```text\n{rest}\n```", label=name)
        for name, first, rest in environment.method_cards(source.methods)
    )
    used = ", ".join(sorted(source.tables.runs["method"].unique()))
    text = f"The cards of all methods, as their files in `mat/methods` have them. Runs of this scale are by: {used}."
    return Section("methods", "Methods", text, inside=parts)


def _again(source: Source) -> Section:
    tables = shlex.quote(relative(source.tables_dir, source.root))
    first = source.tables.runs.iloc[-1]
    text = f"""In a clone of the repository, with Python 3.11 or newer:

```sh
make .venv/.installed && . .venv/bin/activate
{source.tables.command}
```

Any number leads to its runs, and the committed files are what they say:

```sh
python -m mat trace --tables {tables} results {first["task"]} {first["method"]} test_metric
python -m mat trace --tables {tables} --check
```

On a CPU with the same thread count and versions a run gives the same numbers bit for bit, seconds apart."""
    return Section("reproduce", "How to reproduce", text)


def inner(page: str) -> str:
    """A table's own page without its title, its headings two levels down."""
    lines = page.strip().splitlines()
    if lines and lines[0].startswith("# "):
        lines = lines[1:]
    return "\n".join("##" + line if re.match(r"#{2,4} ", line) else line for line in lines).strip()


def _command(source: Source, found: catalogue.Found) -> str:
    kinds = [kind for kind in (".md", ".csv", ".pdf") if kind in found.files] or sorted(found.files)
    path = made_as(found.files[kinds[0]], source.root)
    return format.command(source.tables.scale, source.tables.selection, path)
