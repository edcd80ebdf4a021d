"""A claim's effects as a forest plot of its page: one panel per number and unit, one line per task and reading.

Places on a panel's axis are percentages of its width, so a plot is as wide as the screen has room for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from mat.evidence.claims.pooling import OVER
from mat.evidence.claims.readings import apart
from mat.evidence.claims.verdict import NOT_TESTED, effect_of
from mat.evidence.stats.intervals import Interval
from mat.evidence.text import format, words
from mat.evidence.text.format import ALL

CUT = 1.0  # an interval may reach so many spans of the means beyond them before it is cut
EDGE = 4.0  # percent of the width on both sides that no number needs


@dataclass(frozen=True)
class Line:
    """One effect: of a task (``ALL``: pooled over tasks), under a reading ("": none)."""

    task: str
    reading: str
    verdict: str
    value: Interval


@dataclass(frozen=True)
class Panel:
    """The effects of one part in one unit and ledger. ``asked``: where the rule says supported, as (low, high)."""

    part: str
    unit: str
    ledger: str
    lines: tuple[Line, ...]
    asked: tuple[tuple[float, float], ...] = ()

    @property
    def ratio(self) -> bool:
        """Whether the axis is logarithmic and nothing is 1."""
        return self.unit.startswith("ratio") and all(line.value.mean > 0 for line in self.lines)


def anchor(claim: str, task: str) -> str:
    """Where a claim's numbers on a task are on the page."""
    return f"{claim}-on-{task.replace(' ', '-')}"


def panels(rows: pd.DataFrame, readings: bool) -> list[Panel]:
    """The panels of a claim's ``rows``, of what decides and what is pooled of it; ``readings``: whether its parts begin
    with one."""
    found: dict[tuple[str, str, str], list[tuple[Line, str]]] = {}
    shown = rows[(rows["decides"] | rows["part"].str.endswith(OVER)) & (rows["part"] != "") & (rows["n"] > 0)]
    for row in shown.to_dict("records"):
        reading, part = apart(row["part"], readings)
        value = effect_of(row)
        if math.isfinite(value.mean):
            line = Line(row["task"], reading, row["verdict"], value)
            key = part.removesuffix(OVER), row["unit"], row["ledger"]
            found.setdefault(key, []).append((line, row.get("asked", "")))
    made = []
    for (part, unit, ledger), lines in found.items():
        ordered = sorted((line for line, _ in lines), key=lambda line: line.task == ALL)
        asked = next((pieces(text) for _, text in lines if text), ())
        made.append(Panel(part, unit, ledger, tuple(ordered), asked))
    return made


def pieces(text: str) -> tuple[tuple[float, float], ...]:
    """A column's text of a region, such as ``0.5..inf``, as its pieces."""
    return tuple((float(low), float(high)) for low, high in (piece.split("..") for piece in text.split()))


def limits(panel: Panel) -> tuple[float, float]:
    """The axis, in its own scale: no effect, all means, edges of the region near them, and of the intervals what lies
    within ``CUT`` spans."""
    to = math.log if panel.ratio else float
    means = [0.0, *(to(line.value.mean) for line in panel.lines)]
    edges = [
        to(edge) for piece in panel.asked for edge in piece if math.isfinite(edge) and (edge > 0 or not panel.ratio)
    ]
    span = max(max(means + edges) - min(means + edges), 1e-9)
    ends = [to(end) for line in panel.lines for end in (line.value.low, line.value.high)
            if math.isfinite(end) and (end > 0 or not panel.ratio)]  # fmt: skip
    everything = [*means, *edges, *ends]
    low = max(min(everything), min(means + edges) - CUT * span)
    high = min(max(everything), max(means + edges) + CUT * span)
    return (low, high) if low < high else (low - 1, high + 1)


def ticks(low: float, high: float, ratio: bool) -> list[float]:
    """Three to six round numbers between the ends, as values."""
    if ratio:
        powers = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
        found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        inside = [value for value in found if low <= math.log(value) <= high]
        return inside if len(inside) <= 6 else [value for value in inside if f"{value:e}"[0] == "1"]
    rough = (high - low) / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def html(panel: Panel, claim: str, named: set[str]) -> str:
    """One panel. ``named``: the tasks that have an anchor on the page already, to which its own are added."""
    low, high = limits(panel)

    def at(value: float) -> float:
        """Percent of the width; ends that are cut, or not finite, lie at the panel's edge."""
        if panel.ratio:
            value = math.log(value) if value > 0 else -math.inf
        share = float(np.clip((value - low) / (high - low), -0.02, 1.02))
        return round(EDGE + (100 - 2 * EDGE) * share, 2)

    none = at(float(panel.ratio))
    marks = f'{_region(panel.asked, at)}<line class="none" x1="{none}%" x2="{none}%" y2="100%"/>'
    body = "".join(_line(line, claim, marks, at, named) for line in panel.lines)
    scale = "".join(
        f'<text x="{at(tick)}%" y="11">{format.number(tick, _decimals(tick))}</text>'
        for tick in ticks(low, high, panel.ratio)
    )
    counted = f"{panel.ledger} ledger" if panel.ledger not in ("", "none") else ""
    title = escape(", ".join(filter(None, (format.capital(words.text(panel.part)), panel.unit, counted))))
    return (
        f'<figure class="forest"><figcaption>{title}</figcaption>\n{body}'
        f'<div class="axis"><span></span><svg height="14" aria-hidden="true">{scale}</svg></div></figure>\n'
    )


def drawn(rows: pd.DataFrame, claim: str, readings: bool) -> str:
    """All panels of a claim's ``rows``, with a line that says how to read them, then what was judged without numbers;
    "" where there is nothing."""
    found, named = panels(rows, readings), set[str]()
    without = "".join(f'<p id="{place}">{escape(why)}</p>\n' for place, why in _without(rows, found, claim))
    if not found:
        return without
    shaded = " Shaded: where the rule is met." if any(panel.asked for panel in found) else ""
    pooled = " Diamond: pooled over tasks." if any(line.task == ALL for panel in found for line in panel.lines) else ""
    read = f'<p class="read">Mean with 95 % interval over seeds.{pooled}{shaded} Arrow: the interval goes on.</p>\n'
    return f'<div class="forests">{"".join(html(panel, claim, named) for panel in found)}</div>\n{read}{without}'


def _region(asked: Sequence[tuple[float, float]], at: Callable[[float], float]) -> str:
    rects = []
    for low, high in asked:
        left, right = at(low), at(high)
        if right > left:
            rects.append(f'<rect class="asked" x="{left}%" width="{round(right - left, 2)}%" height="100%"/>')
    return "".join(rects)


def _line(line: Line, claim: str, marks: str, at: Callable[[float], float], named: set[str]) -> str:
    value, pooled = line.value, line.task == ALL
    name = "pooled" if pooled else words.task(line.task)
    place = "" if pooled or line.task in named else f' id="{anchor(claim, line.task)}"'
    named.add(line.task)
    low, high = (end if math.isfinite(end) else value.mean for end in (value.low, value.high))
    left, right, middle = at(low), at(high), at(value.mean)
    arrows = "".join(
        f'<text class="cut" x="{x}%" y="14" text-anchor="middle">{arrow}</text>'
        for x, arrow, beyond in ((left, "◂", left < EDGE - 0.01), (right, "▸", right > 100 - EDGE + 0.01))
        if beyond
    )
    mark = (
        f'<svg x="{middle}%" overflow="visible"><path d="M0 4L6 10L0 16L-6 10Z"/></svg>'
        if pooled
        else f'<circle cx="{middle}%" cy="10" r="3.5"/>'
    )
    reading = f" <i>{escape(line.reading)}</i>" if line.reading else ""
    kind = "pooled" if pooled else f"f-{line.verdict.replace(' ', '-')}"
    return (
        f'<div class="effect {kind}"{place}><span>{escape(name)}{reading}</span>'
        f'<svg height="20" aria-hidden="true">{marks}<line class="ci" x1="{left}%" x2="{right}%" y1="10" y2="10"/>'
        f"{mark}{arrows}</svg><span>{format.estimate(value)} <small>n = {value.n}</small></span></div>\n"
    )


def _decimals(tick: float) -> int:
    return next((number for number in range(5) if abs(tick - round(tick, number)) < 1e-9 * max(1, abs(tick))), 5)


def _without(rows: pd.DataFrame, found: Sequence[Panel], claim: str) -> Iterator[tuple[str, str]]:
    """Anchor and reason of the tasks that were judged, and that no panel names."""
    there = {ALL, *(line.task for panel in found for line in panel.lines)}
    for row in rows[rows["verdict"] != NOT_TESTED].drop_duplicates("task").to_dict("records"):
        if row["task"] not in there:
            yield (
                anchor(claim, row["task"]),
                f"{words.task(row['task'])}: {row['verdict']}. {words.text(row['reason'])}",
            )
