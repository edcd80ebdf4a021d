"""How methods and kinds of modules are drawn, alike in every figure: colour, line and marker, each telling them apart.

Colours are Okabe & Ito's, which every common colour vision tells apart. A print in grey has markers (form and filling)
and line styles: no two methods have the same marker. A family shares colour and form, and differs in the filling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib.pyplot as plt

from mat.evidence.runs import method_groups
from mat.evidence.text import words

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, BROWN, INDIGO, OLIVE = "#7A7A7A", "#8C510A", "#332288", "#6B6B00"

LAMBDA = r"$\lambda_{\max}$"

Line = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Style:
    """Colour, line style and marker of one thing; ``filling`` of the marker as matplotlib's ``fillstyle``."""

    colour: str
    line: Line
    marker: str
    filling: str = "full"

    @property
    def marked(self) -> dict[str, object]:
        """The marker and colour, as keywords of ``plot`` and ``errorbar``."""
        hollow = {"fillstyle": "full", "markerfacecolor": "white"} if self.filling == "none" else {}
        return {
            "color": self.colour, "marker": self.marker, "fillstyle": self.filling,
            "markerfacecoloralt": "white", "markeredgecolor": self.colour,
        } | hollow  # fmt: skip


STYLES = {
    "vanilla": Style(BLACK, "-", "o"),
    "mat": Style(VERMILION, "-", "s"),
    "mat_exact": Style(PURPLE, "--", "D"),
    "mat_residual": Style(PURPLE, (0, (6, 1, 2, 1)), "D", "none"),
    "random": Style(BLUE, "-.", "^"),
    "random_residual": Style(BLUE, (0, (6, 1, 2, 1)), "^", "left"),
    "multirate": Style(GREEN, (0, (1, 1)), "v"),
    "mat_modular": Style(VERMILION, (0, (8, 1.5)), "s", "none"),
    "mat_temporal": Style(VERMILION, (0, (8, 1.5, 1, 1.5)), "s", "left"),
    "misa": Style(ORANGE, (0, (5, 1)), "P"),
    "lisa": Style(SKY, (0, (3, 1, 1, 1)), "X"),
    "badam": Style(BROWN, (0, (2, 2)), "<"),
    "freezeout": Style(GREY, (0, (4, 2)), "*"),
    "autofreeze": Style(INDIGO, (0, (6, 1, 1, 1, 1, 1)), ">"),
    "grades": Style(INDIGO, (0, (1, 1, 4, 1)), ">", "none"),
    "ssprop": Style(OLIVE, (0, (4, 1, 1, 1)), "8"),
    "lcsb": Style(SKY, (0, (1, 1, 3, 2)), "X", "none"),
    "frozen_bottom": Style(GREY, (0, (8, 3)), "*", "none"),
    "vanilla_cut": Style(BLACK, (0, (1, 3)), "o", "none"),
    "vanilla_short": Style(BLACK, (0, (10, 2)), "o", "left"),
}
# labels without a style of their own share these out
SPARE = (
    Style(OLIVE, (0, (5, 3)), "d"),
    Style(INDIGO, (0, (2, 1, 1, 1, 1, 1)), "h"),
    Style(BROWN, (0, (7, 3, 2, 3)), "p"),
    Style(GREEN, (0, (3, 3)), "v", "none"),
    Style(BLUE, (0, (1, 2, 4, 2)), "^", "none"),
    Style(ORANGE, (0, (9, 1, 3, 1)), "P", "none"),
)

# no two kinds are of one lightness in grey; the printed name is a plural
KINDS = {
    "head": ("heads", Style(BLUE, "-", "o")),
    "ffn": ("FFN", Style(ORANGE, "--", "s")),
    "expert": ("experts", Style(VERMILION, "-.", "^")),
    "filters": ("filter groups", Style(PURPLE, ":", "D")),
}
_OTHER_KINDS = (Style(GREEN, (0, (5, 1)), "v"), Style(SKY, (0, (1, 2)), "P"))


def style(method: str, found: Iterable[str]) -> Style:
    """The method's style; the labels in ``found`` without one of their own share out the spare ones by name."""
    if method in STYLES:
        return STYLES[method]
    others = [name for name in method_groups.ordered(found) if name not in STYLES]
    return SPARE[others.index(method) % len(SPARE)]


def kinds(found: Iterable[str]) -> list[str]:
    """The kinds in ``found``, the known ones first, each once."""
    found = set(found)
    return [kind for kind in KINDS if kind in found] + sorted(found - set(KINDS))


def kind_style(kind: str, found: Iterable[str]) -> tuple[str, Style]:
    """Printed name and style of a kind of modules; unknown ones among ``found`` share out spare styles by name."""
    if kind in KINDS:
        return KINDS[kind]
    others = sorted(set(found) - set(KINDS))
    return kind, _OTHER_KINDS[others.index(kind) % len(_OTHER_KINDS)]


def method_name(method: str) -> str:
    """The label as printed."""
    return words.method(method).replace("λ_max", LAMBDA)


def method_handles(methods: Iterable[str], found: Iterable[str]) -> list[plt.Line2D]:
    """Legend entries of methods that are markers, in the styles that they have among ``found``, the scale's labels."""
    found = list(found)
    return [handle(method_name(name), style(name, found), markersize=5) for name in methods]


def handle(name: str, style: Style, **changes: object) -> plt.Line2D:
    """A legend entry: the marker alone."""
    return plt.Line2D([], [], label=name, **({"linestyle": "none"} | style.marked | changes))
