"""The report as one page that needs nothing else: tables, files and pictures are inside it, nothing is fetched
(files larger than ``LARGE`` are linked).

Markdown is rendered by markdown-it-py; template, style and script are in ``workflows/report``. The same inputs give
the same bytes: the page has no dates.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from mat.errors import InputError
from mat.evidence.claims.verdict import VERDICTS
from mat.evidence.report import erratum
from mat.evidence.report.chapters import Picture, Section, Source, finding, lead, link, title
from mat.evidence.text.format import MISSING

LARGE = 1 << 14  # bytes; a larger file, such as all runs' curves, lies beside the page and is no part of it
COLOURS = 64  # of a picture on the page; the file beside it has all
TALL = 24  # rows of a table that scrolls within its box
SHORT, LONG = 24, 60  # characters of a cell that stays on one line, of one that gets some width
_TYPES = {
    ".csv": "text/csv;charset=utf-8", ".md": "text/markdown;charset=utf-8", ".tex": "application/x-tex",
    ".json": "application/json", ".parquet": "application/vnd.apache.parquet", ".pdf": "application/pdf",
    ".png": "image/png",
}  # fmt: skip
_NUMBER = re.compile(r"[\s\d.,:;%×/+\-−–≥≤<>\[\]()e*]*(?: of \d+\)?)?(?: ?[GTPM]?FLOP)?")
_COLOURED = (*VERDICTS, "reached", "not reached", "no level stated")


def page(source: Source, made: Iterable[Section], assets: Path, folder: Path) -> str:
    """The whole page of the chapters ``made``. ``assets``: the folder with ``page.html.j2``, ``page.css`` and
    ``page.js``; ``folder``: where the page will lie, from which files larger than ``LARGE`` are linked.

    Raises InputError when one of them is missing.
    """
    environment = Environment(loader=FileSystemLoader(assets), autoescape=True, undefined=StrictUndefined)
    try:
        template = environment.get_template("page.html.j2")
        style, script = ((assets / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    except (TemplateNotFound, OSError) as error:
        raise InputError(f"expected page.html.j2, page.css and page.js in {assets}: {error}") from None
    html = template.render(
        title=title(source),
        erratum=Markup(render("\n\n".join(erratum.note(source.erratum)), "erratum")),
        finding=Markup(render(finding(source).short, "top")),
        lead=Markup(render(lead(source), "top")),
        sections=[_section(chapter, folder) for chapter in made],
        style=Markup(style.strip()),
        script=Markup(script.strip()),
    )
    return without_dead_links(html)


def render(text: str, anchor: str) -> str:
    """Markdown as HTML: tables in boxes of their own, headings with anchors that begin with ``anchor``.

    Raw HTML is escaped, except for a line break inside a cell; links that lead neither to a place on the page nor to
    the web become text.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", f"{anchor}-{slug(tokens[place + 1].content)}")
        elif token.type == "inline":
            token.children = list(_linked(token.children or []))
    _mark_cells(tokens)
    html = reader.renderer.render(list(_boxed(tokens)), reader.options, {})
    html = html.replace("&lt;br&gt;", "<br>")
    for verdict in _COLOURED:
        name = verdict.replace(" ", "-")
        html = html.replace(f"<strong>{verdict}</strong>", f'<strong class="verdict v-{name}">{verdict}</strong>')
    return html


def slug(text: str) -> str:
    """A heading as an anchor."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-") or "section"


def without_dead_links(html: str) -> str:
    """Links to places that the page does not have become text."""
    there = set(re.findall(r'\bid="([^"]+)"', html))
    link = re.compile(r'<a href="#([^"]+)">(.*?)</a>', re.DOTALL)
    return link.sub(lambda found: found[0] if found[1] in there else found[2], html)


def data_uri(path: Path) -> str:
    """A file as a data URI."""
    kind = _TYPES.get(path.suffix, "application/octet-stream")
    return _uri(kind, path.read_bytes())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _section(section: Section, folder: Path) -> dict[str, Any]:
    html = render(section.text, section.anchor)
    if section.anchor == "register":
        html = re.sub(r"(<td[^>]*)>(A\d+)</td>", r'\1 id="\2">\2</td>', html)
    return {
        "anchor": section.anchor,
        "title": section.title,
        "label": section.label or section.title,
        "html": Markup(html),
        "drawn": Markup(section.drawn),
        "folded": Markup(render(section.folded, section.anchor)) if section.folded else "",
        "files": [_file(path, folder) for path in section.files],
        "command": section.command,
        "pictures": [_picture(picture, folder) for picture in section.pictures],
        "inside": [_section(part, folder) for part in section.inside],
    }


def _file(path: Path, folder: Path) -> dict[str, str]:
    size = path.stat().st_size
    uri = link(path, folder) if size > LARGE else data_uri(path)
    return {"name": path.name, "uri": uri, "size": f"{size / 1024:.0f} kB" if size >= 1024 else f"{size} B"}


def _picture(picture: Picture, folder: Path) -> dict[str, Any]:
    caption = re.sub(r"</?p>", "", render(picture.caption, picture.name)).strip()
    return {
        "name": picture.name, "title": picture.title, "caption": Markup(caption), "alt": picture.caption.split("`")[0],
        "shown": shown(picture.png), "pdf": None if picture.pdf is None else _file(picture.pdf, folder),
    }  # fmt: skip


def shown(path: Path) -> list[dict[str, Any]]:
    """The pages of a PNG as data URIs, in as few colours as a screen needs. Raises InputError when it is none."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            heights = [int(each) for each in image.info.get("pages", str(image.height)).split()]
    except OSError as error:
        raise InputError(f"expected a PNG picture, got another file: {path}; draw the figure again") from error
    found = []
    for top, bottom in itertools.pairwise(itertools.accumulate(heights, initial=0)):
        few.crop((0, top, few.width, bottom)).save(packed := BytesIO(), "PNG", optimize=True)
        found.append({"uri": _uri(_TYPES[".png"], packed.getvalue()), "width": few.width, "height": bottom - top})
    return found


def _linked(tokens: Sequence[Token]) -> Iterable[Token]:
    keeps = True
    for token in tokens:
        if token.type == "link_open":
            keeps = str(token.attrGet("href")).startswith(("#", "http"))
        if keeps or token.type not in ("link_open", "link_close"):
            yield token


def _mark_cells(tokens: Sequence[Token]) -> None:
    """Classes that say how a cell is set: ``num`` (to the right), ``short`` (one line), ``long`` (with some width).

    A column is of numbers when every cell is one or is empty or a dash, and some cell is one.
    """
    columns: dict[int, list[tuple[Token, str]]] = {}
    for opened, content in itertools.pairwise([*tokens, Token("end", "", 0)]):
        if opened.type == "tr_open":
            place = 0
        elif opened.type in ("th_open", "td_open"):
            columns.setdefault(place, []).append((opened, content.content))
            place += 1
        elif opened.type == "table_close":
            for cells in columns.values():
                _mark_column(cells)
            columns = {}


def _mark_column(cells: list[tuple[Token, str]]) -> None:
    said = [text for opened, text in cells if opened.type == "td_open" and text not in ("", MISSING)]
    numbers = bool(said) and all(_NUMBER.fullmatch(text) and re.search(r"\d", text) for text in said)
    for opened, text in cells:
        if numbers:
            opened.attrSet("class", "num")
        elif opened.type == "td_open" and (len(text) <= SHORT or _NUMBER.fullmatch(text)):
            opened.attrSet("class", "short")
        elif opened.type == "td_open" and len(text) > LONG:
            opened.attrSet("class", "long")


def _boxed(tokens: Sequence[Token]) -> Iterable[Token]:
    for place, token in enumerate(tokens):
        if token.type == "table_open":
            of_table = itertools.takewhile(lambda one: one.type != "table_close", tokens[place:])
            tall = " tall" if sum(one.type == "tr_open" for one in of_table) > TALL else ""
            box = f'<div class="scroll{tall}" tabindex="0" role="region" aria-label="table">\n'
            yield Token("html_block", "", 0, content=box)
        yield token
        if token.type == "table_close":
            yield Token("html_block", "", 0, content="</div>\n")
