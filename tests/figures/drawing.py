"""Drawing a figure's script in this process, and what a reader would see of it: texts, overlaps, entries of legends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mat.evidence.catalogue.tables import load
from mat.evidence.runs.pooled import Tables
from tests.evidence.written import ROOT

SCRIPTS = ROOT / "paper_figures"


@contextmanager
def scripts() -> Iterator[None]:
    """The scripts' folder is on the path, as it is when one is run."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield
    finally:
        sys.path.remove(str(SCRIPTS))


def script(name: str) -> ModuleType:
    """A script as a module."""
    with scripts():
        return __import__(name)


def draw(name: str, tables: Path, out: Path) -> tuple[Path, Path]:
    """Run one script as its command line does; the PDF and the PNG."""
    with scripts():
        arguments = ["--tables", str(tables), "--out", str(out)]
        __import__("common").main(__import__(name).draw, name, arguments)
    return out / f"{name}.pdf", out / f"{name}.png"


def drawn(name: str, tables: Path | Tables) -> Figure:
    """A script's figure, to be looked into."""
    return pictured(name, tables)[0]


def pictured(name: str, tables: Path | Tables) -> tuple[Figure, np.ndarray]:
    """A script's figure, or its first page, and its picture: (height, width, 4) bytes."""
    return paged(name, tables)[0]


def paged(name: str, tables: Path | Tables) -> list[tuple[Figure, np.ndarray]]:
    """The same of every page."""
    given = load(tables) if isinstance(tables, Path) else tables
    try:
        with plt.style.context(SCRIPTS / "style.mplstyle"), scripts():
            found = __import__(name).draw(given)
            pages = found if isinstance(found, list) else [found]
            for page in pages:
                page.canvas.draw()
            return [(page, np.array(page.canvas.buffer_rgba())) for page in pages]
    finally:
        plt.close("all")


def visible(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Every text that is printed, with its place in pixels; tick labels beyond their axis are not printed."""
    skipped = set()
    for ax in figure.axes:
        if not ax.axison:
            skipped |= set(ax.get_xticklabels() + ax.get_yticklabels()) | {ax.xaxis.label, ax.yaxis.label}
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    skipped |= {tick.label1, tick.label2}
    found = [text for text in figure.findobj(Text) if text.get_text().strip() and text not in skipped]
    return [(text, text.get_window_extent()) for text in found if text.get_visible()]


def outside(figure: Figure) -> list[str]:
    """Texts that leave the paper."""
    paper = figure.bbox.padded(1)
    return [
        text.get_text() for text, box in visible(figure)
        if not (paper.contains(box.x0, box.y0) and paper.contains(box.x1, box.y1))
    ]  # fmt: skip


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie over each other by more than a pixel; slanted ones have no upright box."""
    upright = [(text, box.padded(-1)) for text, box in visible(figure) if text.get_rotation() % 90 == 0]
    return [
        (first.get_text(), second.get_text())
        for number, (first, box) in enumerate(upright)
        for second, other in upright[number + 1 :]
        if box.overlaps(other)
    ]


def grey(colour: object) -> float:
    """Luminance in [0, 1] (ITU-R BT.709), as a print in grey has it."""
    return float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))


def signs(figure: Figure) -> list[list[tuple]]:
    """Per legend, what its entries look like in grey: line, marker and its filling, hatch, one of twelve levels."""
    found = []
    for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)]:
        if legend is not None:
            found.append([sign(handle) for handle in legend.legend_handles])
    for part in figure.subfigs:
        found += signs(part)
    return found


def sign(handle: object) -> tuple:
    if hasattr(handle, "get_hatch"):
        return handle.get_hatch(), round(12 * grey(handle.get_facecolor()))
    hollow = to_rgb(handle.get_markerfacecolor()) == (1, 1, 1)
    line = handle._dash_pattern if handle.get_linestyle() != "None" else None
    return (
        str(line), handle.get_marker(), handle.get_fillstyle(), hollow, round(handle.get_linewidth(), 1),
        round(12 * grey(handle.get_color())),
    )  # fmt: skip
