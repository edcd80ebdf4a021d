"""Numbers and tables as text: CSV, Markdown, LaTeX; units; deterministic to the byte."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from mat.evidence.stats.intervals import Interval
from mat.records.files import write_text

MISSING = "–"
ALL = "all"  # the task or checkpoint of a row that stands for all of them
FLOATS = "%.8g"  # numbers in tables
_MARKUP = re.compile(r"(?P<brackets>(?<![!\w\]])\[[^\[\]\\`*_!]*\](?![\[(:]))|[\\`*\[\]]|(?<!\w)_|_(?!\w)")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
    "×": r"$\times$", "−": r"$-$", "±": r"$\pm$", "–": "--", "≥": r"$\geq$", "≤": r"$\leq$", "·": r"$\cdot$",
    "λ": r"$\lambda$", "τ": r"$\tau$", "α": r"$\alpha$", "β": r"$\beta$", "ρ": r"$\rho$",
    "ε": r"$\varepsilon$",
    "⌈": r"$\lceil$", "⌉": r"$\rceil$", "½": r"$\frac{1}{2}$", "″": "''", "σ": r"$\sigma$", "∞": r"$\infty$",
    "Δ": r"$\Delta$", "Θ": r"$\Theta$", "…": r"\ldots{}",
}  # fmt: skip


def decimals_for(largest: float, digits: int = 3) -> int:
    """Decimals that give ``largest`` that many significant digits, between 0 and 6."""
    if not math.isfinite(largest) or largest == 0:
        return digits - 1
    return min(6, max(0, digits - 1 - math.floor(math.log10(abs(largest)))))


def number(value: float, decimals: int) -> str:
    """Fixed-point text; a dash for NaN, and no negative zero."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def interval(value: Interval, decimals: int) -> str:
    """``mean [low, high]``; the mean alone when there is no interval."""
    mean = number(value.mean, decimals)
    if not math.isfinite(value.low):
        return mean
    return f"{mean} [{number(value.low, decimals)}, {number(value.high, decimals)}]"


def estimate(value: Interval) -> str:
    """``mean [low, high]`` with three significant digits of the mean."""
    size = abs(value.mean) if math.isfinite(value.mean) else 1.0
    return interval(value, decimals_for(max(size, 1e-3)))


def command(scale: str, selection: str = "", target: str = "") -> str:
    """The command that makes a scale's tables, or those of a part of it; or one file of them alone."""
    parts = ["snakemake --cores all", *([shlex.quote(target)] if target else []), "--config", f"scale={scale}"]
    return " ".join([*parts, *selection.split()])


def listed(names: Iterable[str]) -> str:
    """``a, b and c``; the empty list is none."""
    names = list(map(str, names))
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names) or "none"


def bullets(lines: Iterable[str]) -> str:
    """A list, a line each."""
    return "\n".join(f"- {line}" for line in lines)


def how_to_read(notes: Iterable[str]) -> str:
    """The last chapter of a page."""
    return f"## How to read it\n\n{bullets(notes)}"


def capital(text: str) -> str:
    """The text as a sentence begins, but for the name of a quantity: λ_max is no Λ_max."""
    return text if text.startswith("λ") else text[:1].upper() + text[1:]


def csv(frame: pd.DataFrame, path: Path) -> None:
    """Write ``frame`` in the row order given, floats with 8 significant digits, line feed endings."""
    write_text(frame.to_csv(index=False, float_format=FLOATS, lineterminator="\n"), path)


class Marked(str):
    """A text that is Markdown: a table takes it as it is, and shows any other text ``plain``."""


def bold(text: object) -> Marked:
    """The text in bold."""
    return Marked(f"**{plain(text)}**")


def code(text: object) -> Marked:
    """The text as code, whatever backticks are in it."""
    fence = "`" * (1 + max(map(len, re.findall("`+", str(text))), default=0))
    room = " " if fence != "`" else ""
    return Marked(f"{fence}{room}{text}{room}{fence}")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; cells are shown ``plain``, those ``Marked`` apart, in one line each."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def plain(content: object) -> str:
    """A text from a config or a run's folder as Markdown that shows it as it is: no HTML, link, picture, code or
    emphasis comes of it. An underscore inside a word formats nothing and stays, and so do brackets that no link or
    picture comes of, such as those of an interval."""
    text = str(content).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(lambda found: found["brackets"] or f"\\{found[0]}", text)


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, label: str) -> str:
    """A ``table*`` with booktabs rules, scaled to the text width; every cell is escaped.

    Needs the packages booktabs and graphicx.
    """
    body = [" & ".join(latex(cell) for cell in line) + r" \\" for line in rows]
    return "\n".join(
        [
            r"\begin{table*}", r"\centering", rf"\caption{{{latex(caption)}}}", rf"\label{{{label}}}",
            r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule",
            " & ".join(latex(cell) for cell in header) + r" \\", r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}}", r"\end{table*}",
        ]
    )  # fmt: skip


def latex(content: str) -> str:
    """``content`` with every character that LaTeX would read as a command escaped."""
    return "".join(_LATEX.get(character, character) for character in content)


def _cell(content: str) -> str:
    text = content if isinstance(content, Marked) else plain(content)
    return text.replace("|", r"\|").replace("\n", " ").strip()
