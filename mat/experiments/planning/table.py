"""The plan's rows and their sums as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mat.experiments.planning.rows import Row
from mat.records.costs import FLOPS_PER_MAC, flop_unit

PARTS = ("train", "probe", "eval", "total")


def table(found: Sequence[Row], rates: Mapping[str, float]) -> str:
    """The rows, the sum per tag (a task of two tags is in both sums) and the sum of all, as text."""
    sums = [
        (f"tag {tag}", [row for row in found if tag in row.tags])
        for tag in dict.fromkeys(tag for row in found for tag in row.tags)
    ]
    lines = [(row.task, row.method, str(row.steps), [row]) for row in found]
    lines += [(name, "", "", part) for name, part in (*sums, ("all", found))]
    total = FLOPS_PER_MAC * sum(sum(row.cost) for row in found)
    factor, unit = flop_unit(total)
    header = ("task", "method", "runs", "steps", *(f"{part} {unit}" for part in PARTS), "hours")
    cells = [header]
    for task, method, steps, part in lines:
        costs = [sum(row.cost[i] for row in part) for i in range(len(PARTS) - 1)]
        flops = [FLOPS_PER_MAC * macs / factor for macs in (*costs, sum(costs))]
        hours = sum(row.hours(rates) for row in part)
        cells.append((task, method, str(sum(row.runs for row in part)), steps, *map(number, (*flops, hours))))
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    made = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
    rule = "-" * max(map(len, made))
    return "\n".join([made[0], rule, *made[1 : len(found) + 1], rule, *made[len(found) + 1 :]])


def number(value: float) -> str:
    """Three significant digits, at most six decimals; 0 for nothing."""
    return f"{value:.{min(6, max(0, 2 - math.floor(math.log10(value))))}f}" if value else "0"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Texts to the left, numbers to the right."""
    return [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
