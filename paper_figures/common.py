"""What every figure shares: arguments, tables, grids of panels, legends, a footer, byte-identical files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mat.evidence.catalogue.tables import load
from mat.evidence.measures.over_seeds import Row
from mat.evidence.measures.spectra import has_spectra
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval
from mat.evidence.text import words

WIDTH = 7.0  # inches, two columns
PAGE = 9.8  # inches, the tallest figure: a page without its margins
COLUMNS = 3  # of panels, where there is one for every task
MANY = 10  # panels
MOST_POWERS = 5  # of ten that are labelled on an axis
DPI = 150  # of the PNG, for screens; the PDF is for print
GRID = 200  # points of a band
SOURCES = ("vanilla", "mat")  # of spectra, before any other method
DECORATION = 0.62  # inches of a panel's title, tick labels and axis label
BESIDE = 0.45  # inches of the labels at a panel's left


def nothing(tables: Tables, text: str) -> Figure:
    """A figure that says that there is nothing to show, and at which scale."""
    figure, ax = plt.subplots(figsize=(WIDTH, 1.2))
    ax.text(0.5, 0.5, text, ha="center", va="center")
    ax.set_axis_off()
    footer(figure, f"scale {tables.scope}")
    return figure


def module_names(modules: list[tuple[str, str, int]]) -> dict[str, str]:
    """Short labels for (module, kind, layer): the kind, numbered within layer and kind in the given order."""
    count: dict[tuple[str, int], int] = {}
    numbered = []
    for module, kind, layer in modules:
        count[kind, layer] = count.get((kind, layer), 0) + 1
        numbered.append((module, kind, layer, count[kind, layer] - 1))
    return {module: kind if count[kind, layer] == 1 else f"{kind} {number}" for module, kind, layer, number in numbered}


def seeds_text(tables: Tables, methods: Sequence[str] | None = None) -> str:
    """``n = 3 seeds`` or ``n = 2 to 3 finished seeds``: per task and method shown (default: all methods)."""
    runs = tables.runs if methods is None else tables.runs[tables.runs["method"].isin(methods)]
    done = runs["status"].eq("finished").groupby([runs["task"], runs["method"]]).sum()
    if done.empty:
        return "no runs"
    least, most = int(done.min()), int(done.max())
    if most == 1:
        return "n = 1 seed"
    return f"n = {most} seeds" if least == most else f"n = {least} to {most} finished seeds"


def source(tables: Tables, task: str) -> tuple[Row, pd.DataFrame] | None:
    """The run whose spectra are shown: the lowest finished seed of the first method with spectra; with its probes."""
    others = [method for method in tables.methods(task) if method not in SOURCES]
    for method in [*SOURCES, *others]:
        for run in tables.finished_runs(task, method):
            probes = tables.probes_of(run["run"])
            if has_spectra(probes):
                return run, probes
    return None


def estimators(sources: Iterable[tuple[Row, pd.DataFrame]]) -> str:
    """The kernel estimators of the runs shown."""
    found = sorted({str(run["estimator"]) for run, _ in sources} - {""})
    return ", ".join(found) or "as in run.json"


def pairs(
    count: int, above: float, height: float, hspace: float | None = None
) -> tuple[Figure, list[tuple[GridSpec, int, int]]]:
    """A figure for ``count`` pairs of panels, one above the other, ``COLUMNS`` pairs in a row; ``above`` and ``height``
    (of a row of pairs) in inches. With it the place of each pair: grid, row of its upper panel, column."""
    columns, rows = min(COLUMNS, count), ceil(count / COLUMNS)
    figure = plt.figure(figsize=(WIDTH, above + height * rows))
    grid = figure.add_gridspec(2 * rows, columns, hspace=hspace)
    return figure, [(grid, 2 * (place // columns), place % columns) for place in range(count)]


def panels(count: int, above: float, height: float, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each of ``count``, and the panels, row by row; ``above`` and ``height`` (of a row) in
    inches, the height cut so that the figure fits a page. ``columns``: ``COLUMNS``, one more for many panels. Places
    beyond ``count`` are left empty."""
    columns = columns or (COLUMNS if count < MANY else COLUMNS + 1)
    columns, rows = min(columns, count), ceil(count / columns)
    height = row_height(rows, above, height)
    figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=(WIDTH, above + height * rows))
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:count])


def row_height(rows: int, above: float, height: float) -> float:
    """``height`` (inches of a row of panels) cut so that so many rows fit a page, ``above`` all of them aside."""
    return min(height, max((PAGE - above) / rows, DECORATION + 0.7))


def task_title(ax: Axes, text: str) -> None:
    """A task's name over its panel; smaller where a long name stands over one of many panels."""
    first, *more = text.split("\n")
    text = "\n".join([words.task(first), *more])
    narrow = ax.get_gridspec().ncols > COLUMNS and max(map(len, text.split("\n"))) > 18
    ax.set_title(text, **({"fontsize": 7} if narrow else {}))


def decades(axis: Axis) -> None:
    """A logarithmic axis labelled at powers of ten; at 1 and 3, or 1, 2 and 5, of each where it has hardly one power:
    as many labels as do not meet on an axis of an inch."""
    low, high = sorted(axis.get_view_interval())
    ratio = high / low if low > 0 else float("inf")
    if not isfinite(ratio):
        return
    digits = (1, 2, 5) if ratio < 7 else (1, 3) if ratio < 30 else (1,)
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    step = ceil(len(powers) / MOST_POWERS)
    ticks = [digit * 10.0**power for power in powers[::step] for digit in digits]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter(FuncFormatter(_power))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float, _: int) -> str:
    """A number of one digit and a power of ten."""
    digit, power = f"{value:.0e}".split("e")
    ten = f"10^{{{int(power)}}}"
    return f"${ten}$" if digit == "1" else rf"${digit}\times{ten}$"


def pages(items: Iterable[Any], most: int) -> list[list[Any]]:
    """The items, at most so many on a page."""
    items = list(items)
    return [items[first : first + most] for first in range(0, len(items), most)]


def title(first: str, second: str) -> str:
    """A panel's title, in two lines where one is too long."""
    return f"{first}: {second}" if len(first) + len(second) <= 26 else f"{first}\n{second}"


def legend_inches(entries: int, ncols: int, title: bool = False) -> float:
    """Inches that a legend above all panels takes."""
    return 0.12 + 0.15 * (ceil(entries / ncols) + title)


def bars(value: Interval) -> list[list[float]] | None:
    """An interval as matplotlib's error bar; None where it is not known."""
    if not (isfinite(value.low) and isfinite(value.high)):
        return None
    return [[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]]


def rows(ax: Axes, labels: Sequence[str]) -> None:
    """A labelled row for each of ``labels``, from the top."""
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0)


def band(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Columns x, mean, low, high of curves (x, y), from their latest start to their earliest end, linear between their
    points: so every row stands on all of them."""
    x = np.linspace(max(each[0] for each, _ in curves), min(each[-1] for each, _ in curves), GRID)
    values = np.array([np.interp(x, *curve) for curve in curves])
    return pd.DataFrame({"x": x, "mean": values.mean(axis=0), "low": values.min(axis=0), "high": values.max(axis=0)})


def legend(figure: Figure, ncols: int, handlelength: float) -> None:
    """One legend above all panels, each label once."""
    handles: dict[str, object] = {}
    for ax in figure.axes:
        handles |= {label: line for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=ncols, handlelength=handlelength)


def footer(figure: Figure, *lines: str) -> None:
    """The lines under the figure that say what it stands on; the axes keep clear of them. It comes last: titles, labels
    and these lines are broken where they are longer than their places."""
    for ax in figure.axes:
        keep_apart(ax)
    place = 0.008, 0.02 / figure.get_size_inches()[1]
    text = figure.text(*place, "\n".join(lines), fontsize=7, color="0.3", ha="left", va="bottom")
    broken(text, (1 - 2 * place[0]) * figure.bbox.width)
    height = (0.05 + 0.125 * len(text.get_text().split("\n"))) / figure.get_size_inches()[1]
    figure.get_layout_engine().set(rect=(0, height, 1, 1 - height))


def keep_apart(ax: Axes) -> None:
    """Break a panel's title and labels where they would reach into its neighbours."""
    if (place := ax.get_subplotspec()) is None:
        return
    grid, figure = place.get_gridspec(), ax.get_figure(root=False)
    widths, heights = grid.get_width_ratios(), grid.get_height_ratios()
    wide = sum(widths[place.colspan.start : place.colspan.stop]) / sum(widths) * figure.bbox.width
    high = sum(heights[place.rowspan.start : place.rowspan.stop]) / sum(heights) * figure.bbox.height
    for text in (ax.title, ax.xaxis.label):
        broken(text, wide - BESIDE * figure.dpi)
    broken(ax.yaxis.label, high - DECORATION * figure.dpi)


def broken(text: Text, room: float) -> None:
    """Break a text's lines between words where they are longer than ``room`` (pixels)."""
    length = measure(text)
    lines = []
    for line in text.get_text().split("\n"):
        first, *more = line.split(" ") if length(line) > room else [line]
        lines.append(first)
        for word in more:
            if length(f"{lines[-1]} {word}") <= room:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
    text.set_text("\n".join(lines))


def measure(text: Text) -> Callable[[str], float]:
    """How long (pixels) a line is in the font of ``text``."""
    renderer = text.get_figure(root=True).canvas.get_renderer()
    font = text.get_fontproperties()
    return lambda line: renderer.get_text_width_height_descent(line, font, "$" in line)[0]


def save(pages: Sequence[Figure], folder: Path, name: str) -> list[Path]:
    """Write the pages of a figure as ``name.pdf`` and, below each other, as ``name.png`` (whose text ``pages`` has
    their heights, pixels), without dates, so that equal figures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    with PdfPages(paths[0], metadata={"CreationDate": None, "ModDate": None}) as pdf:
        for page in pages:
            pdf.savefig(page)
    pictures = []
    for page in pages:
        page.savefig(picture := BytesIO(), dpi=DPI, metadata={"Software": None})
        pictures.append(Image.open(picture))
        plt.close(page)
    whole = Image.new("RGB", (pictures[0].width, sum(each.height for each in pictures)), "white")
    for number, each in enumerate(pictures):
        whole.paste(each, (0, sum(before.height for before in pictures[:number])))
    (said := PngInfo()).add_text("pages", " ".join(str(each.height) for each in pictures))
    whole.save(paths[1], optimize=True, pnginfo=said if len(pages) > 1 else None)
    return paths


def main(draw: Callable[[Tables], Figure | list[Figure]], script: str, arguments: Sequence[str] | None = None) -> None:
    """Command line of a figure's script: ``--tables`` and ``--out``; draws with the shared style."""
    name = Path(script).stem
    parser = argparse.ArgumentParser(description=sys.modules[draw.__module__].__doc__)
    tables = "folder with runs.csv, curves.parquet, probes.parquet"
    parser.add_argument("--tables", type=Path, required=True, help=tables)
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {name}.pdf and {name}.png")
    options = parser.parse_args(arguments)
    with plt.style.context(Path(__file__).with_name("style.mplstyle")):
        drawn = draw(load(options.tables))
        for path in save(drawn if isinstance(drawn, list) else [drawn], options.out, name):
            print(path)
