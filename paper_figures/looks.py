"""How methods and kinds of modules look, the same in every figure: colour, line and marker, each telling them apart.

Colours are Okabe & Ito's, which every common colour vision tells apart. A print in grey has markers (form and filling)
and line styles: no two methods have the same marker. A family shares colour and form, and differs in the filling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib.pyplot as plt

from mat.evidence.runs import method_groups

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, BROWN, INDIGO, OLIVE = "#7A7A7A", "#8C510A", "#332288", "#6B6B00"

LAMBDA = r"$\lambda_{\max}$"

Line = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
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


LOOKS = {
    "vanilla": Look(BLACK, "-", "o"),
    "mat": Look(VERMILION, "-", "s"),
    "mat_exact": Look(PURPLE, "--", "D"),
    "random": Look(BLUE, "-.", "^"),
    "multirate": Look(GREEN, (0, (1, 1)), "v"),
    "mat_modular": Look(VERMILION, (0, (8, 1.5)), "s", "none"),
    "mat_temporal": Look(VERMILION, (0, (8, 1.5, 1, 1.5)), "s", "left"),
    "misa": Look(ORANGE, (0, (5, 1)), "P"),
    "lisa": Look(SKY, (0, (3, 1, 1, 1)), "X"),
    "badam": Look(BROWN, (0, (2, 2)), "<"),
    "freezeout": Look(GREY, (0, (4, 2)), "*"),
    "autofreeze": Look(INDIGO, (0, (6, 1, 1, 1, 1, 1)), ">"),
    "vanilla_cut": Look(BLACK, (0, (1, 3)), "o", "none"),
    "vanilla_short": Look(BLACK, (0, (10, 2)), "o", "left"),
}
# labels without a look of their own share these out
SPARE = (
    Look(OLIVE, (0, (5, 3)), "d"),
    Look(INDIGO, (0, (2, 1, 1, 1, 1, 1)), "h"),
    Look(BROWN, (0, (7, 3, 2, 3)), "p"),
    Look(GREEN, (0, (3, 3)), "v", "none"),
    Look(BLUE, (0, (1, 2, 4, 2)), "^", "none"),
    Look(ORANGE, (0, (9, 1, 3, 1)), "P", "none"),
)
NAMES = {
    "mat": "MAT", "mat_exact": "MAT (exact)", "mat_modular": "MAT (modular policy)",
    "mat_temporal": "MAT (temporal policy)", "misa": "MISA", "lisa": "LISA", "badam": "BAdam",
    "freezeout": "FreezeOut", "autofreeze": "AutoFreeze", "vanilla_cut": "vanilla (cut)",
    "vanilla_short": "vanilla (short)", "largest": f"largest {LAMBDA}", "gradient_norm": "gradient norm",
    "random_exact": "random (exact)",
    "random_once": "random, drawn once", "shuffled": f"{LAMBDA} shuffled", "smallest": f"smallest {LAMBDA}",
    "depth_low": "lowest layers first", "depth_high": "highest layers first", "kind_head": "heads first",
    "kind_ffn": "FFNs first", "vanilla_lr_half": "vanilla, lr × ½", "vanilla_lr_double": "vanilla, lr × 2",
    "mat_lr_half": "MAT, lr × ½", "mat_lr_double": "MAT, lr × 2",
}  # fmt: skip

# no two kinds are of one lightness in grey; the printed name is a plural
KINDS = {
    "head": ("heads", Look(BLUE, "-", "o")),
    "ffn": ("FFN", Look(ORANGE, "--", "s")),
    "expert": ("experts", Look(VERMILION, "-.", "^")),
    "filters": ("filter groups", Look(PURPLE, ":", "D")),
}
_OTHER_KINDS = (Look(GREEN, (0, (5, 1)), "v"), Look(SKY, (0, (1, 2)), "P"))


def look(method: str, found: Iterable[str]) -> Look:
    """The method's look; the labels in ``found`` without one of their own share out the spare ones by name."""
    if method in LOOKS:
        return LOOKS[method]
    others = [name for name in method_groups.ordered(found) if name not in LOOKS]
    return SPARE[others.index(method) % len(SPARE)]


def kinds(found: Iterable[str]) -> list[str]:
    """The kinds in ``found``, the known ones first, each once."""
    found = set(found)
    return [kind for kind in KINDS if kind in found] + sorted(found - set(KINDS))


def kind_look(kind: str, found: Iterable[str]) -> tuple[str, Look]:
    """Printed name and look of a kind of modules; unknown ones among ``found`` share out spare looks by name."""
    if kind in KINDS:
        return KINDS[kind]
    others = sorted(set(found) - set(KINDS))
    return kind, _OTHER_KINDS[others.index(kind) % len(_OTHER_KINDS)]


def method_name(method: str) -> str:
    """The label as printed."""
    return NAMES.get(method, method)


def handle(name: str, look: Look, **changes: object) -> plt.Line2D:
    """A legend entry: the marker alone."""
    return plt.Line2D([], [], label=name, **({"linestyle": "none"} | look.marked | changes))
