"""What every figure shares: arguments, tables, one look per method, a footer, byte-identical files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from mat.evidence.tables import Tables, load

WIDTH = 7.0  # inches, two columns
COLUMNS = 3  # of panels, where there is one for every task
DPI = 200

# Okabe & Ito's palette: told apart by every common colour vision, and by luminance in grey.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"


@dataclass(frozen=True)
class Look:
    """Colour, line style and marker of one method, the same in every figure."""

    colour: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str


LOOKS = {
    "vanilla": Look(BLACK, "-", "o"),
    "mat": Look(VERMILION, "-", "s"),
    "mat_exact": Look(PURPLE, "--", "D"),
    "random": Look(BLUE, "-.", "^"),
    "multirate": Look(GREEN, (0, (1, 1)), "v"),
}
_SPARE = (
    Look(ORANGE, (0, (5, 1)), "P"),
    Look(SKY, (0, (3, 1, 1, 1)), "X"),
    Look("#7A7A7A", (0, (4, 2)), "*"),
    Look("#8C510A", (0, (2, 2)), "<"),
)
NAMES = {"mat": "MAT", "mat_exact": "MAT (exact)"}


def look(method: str, tables: Tables) -> Look:
    """The method's look; labels without one of their own share out the spare ones in alphabetical order."""
    if method in LOOKS:
        return LOOKS[method]
    others = sorted(set(tables.runs["method"]) - set(LOOKS))
    return _SPARE[others.index(method) % len(_SPARE)]


def method_name(method: str) -> str:
    """The label as printed."""
    return NAMES.get(method, method)


def module_names(modules: list[tuple[str, str, int]]) -> dict[str, str]:
    """Short labels for (module, kind, layer): the kind, numbered within layer and kind in the given order."""
    count: dict[tuple[str, int], int] = {}
    numbered = []
    for module, kind, layer in modules:
        count[kind, layer] = count.get((kind, layer), 0) + 1
        numbered.append((module, kind, layer, count[kind, layer] - 1))
    return {
        module: kind if count[kind, layer] == 1 else f"{kind} {number}"
        for module, kind, layer, number in numbered
    }


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


def pairs(
    count: int, above: float, height: float, hspace: float | None = None
) -> tuple[Figure, list[tuple[GridSpec, int, int]]]:
    """A figure for ``count`` pairs of panels, one above the other, ``COLUMNS`` pairs in a row; ``above`` and ``height``
    (of a row of pairs) in inches. With it the place of each pair: grid, row of its upper panel, column."""
    columns, rows = min(COLUMNS, count), ceil(count / COLUMNS)
    figure = plt.figure(figsize=(WIDTH, above + height * rows))
    grid = figure.add_gridspec(2 * rows, columns, hspace=hspace)
    return figure, [(grid, 2 * (place // columns), place % columns) for place in range(count)]


def legend(figure: Figure, ncols: int, handlelength: float) -> None:
    """One legend above all panels, each label once."""
    handles: dict[str, object] = {}
    for ax in figure.axes:
        handles |= {label: line for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=ncols, handlelength=handlelength
    )


def footer(figure: Figure, *lines: Sequence[str]) -> None:
    """The lines under the figure that say what it stands on; the axes keep clear of them."""
    height = (0.05 + 0.125 * len(lines)) / figure.get_size_inches()[1]
    figure.get_layout_engine().set(rect=(0, height, 1, 1 - height))
    content = "\n".join("  ·  ".join(parts) for parts in lines)
    figure.text(
        0.008, 0.02 / figure.get_size_inches()[1], content, fontsize=7, color="0.3", ha="left", va="bottom"
    )


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name.pdf`` and ``name.png``, without dates, so that equal figures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"CreationDate": None, "ModDate": None})
    figure.savefig(paths[1], dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    return paths


def main(
    draw: Callable[[Tables], Figure], name: str, about: str | None, arguments: Sequence[str] | None = None
) -> None:
    """Command line of a figure: ``--tables`` and ``--out``; draws with the shared style."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--tables", type=Path, required=True, help="folder with runs.csv, curves.parquet, probes.parquet"
    )
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {name}.pdf and {name}.png")
    options = parser.parse_args(arguments)
    with plt.style.context(Path(__file__).with_name("style.mplstyle")):
        for path in save(draw(load(options.tables)), options.out, name):
            print(path)
