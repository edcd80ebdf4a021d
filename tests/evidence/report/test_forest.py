"""The plot of a claim's effects: what is shown, on which axis, and what is shaded."""

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.evidence.report import forest
from mat.evidence.stats.intervals import Interval

ROW = {"claim": "C", "verdict": "partly", "decides": True, "unit": "%", "ledger": "executed", "reason": "Why.",
       "asked": "26.4..inf"}  # fmt: skip


def rows(*given):
    """Rows of verdicts.csv from (task, part, effect, low, high, n)."""
    names = ("task", "part", "effect", "low", "high", "n")
    return pd.DataFrame([ROW | dict(zip(names, each, strict=True)) for each in given])


def test_a_number_of_several_tasks_and_readings_is_one_panel_and_its_pooled_value_comes_last():
    found = forest.panels(
        rows(
            ("all", "", math.nan, math.nan, math.nan, 3), ("all", "exact: saving, over tasks", 5, 1, 9, 2),
            ("a", "detach: saving", 1, 0, 2, 3), ("a", "exact: saving", 4, 3, 5, 3), ("b", "exact: saving", 6, 5, 7, 3),
        ),
        readings=True,
    )  # fmt: skip
    assert [(panel.part, panel.unit, panel.asked) for panel in found] == [("saving", "%", ((26.4, math.inf),))]
    assert [(line.task, line.reading) for line in found[0].lines] == [
        ("a", "detach"), ("a", "exact"), ("b", "exact"), ("all", "exact"),
    ]  # fmt: skip


numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=5), numbers, st.sampled_from(["%", "ratio"]))
def test_the_axis_holds_every_mean_no_effect_and_the_edge_of_what_is_asked(given, edge, unit):
    lines = [forest.Line("t", "", "partly", Interval(sorted(each)[1], min(each), max(each), 3)) for each in given]
    panel = forest.Panel("part", unit, "none", tuple(lines), ((edge, math.inf),))
    low, high = forest.limits(panel)
    to = math.log if panel.ratio else float
    held = [0.0, *(to(line.value.mean) for line in lines), *([to(edge)] if edge > 0 or not panel.ratio else [])]
    assert low <= min(held) <= max(held) <= high
    assert low < high
    assert all(low <= to(tick) <= high for tick in forest.ticks(low, high, panel.ratio))


def test_what_is_asked_is_shaded_from_its_edge_and_an_interval_that_is_cut_has_an_arrow():
    html = forest.drawn(rows(("a", "saving", 20, 10, 30, 3), ("b", "saving", 10, -500, 520, 3)), "C", False)
    inside = 100 - 2 * forest.EDGE
    low, high = forest.limits(
        forest.panels(rows(("a", "saving", 20, 10, 30, 3), ("b", "saving", 10, -500, 520, 3)), False)[0]
    )
    left, width = map(float, re.search(r'class="asked" x="([\d.]+)%" width="([\d.]+)%"', html).groups())
    assert left == pytest.approx(forest.EDGE + inside * (26.4 - low) / (high - low), abs=0.01)
    assert left + width > 100 - forest.EDGE
    assert html.count("◂") == html.count("▸") == 1
    assert 'id="C-on-a"' in html
    assert "20.0 [10.0, 30.0]" in html


def test_a_task_that_was_judged_without_numbers_says_why_where_its_cell_leads():
    html = forest.drawn(rows(("a", "saving", 20, 10, 30, 3), ("b", "", math.nan, math.nan, math.nan, 0)), "C", False)
    assert '<p id="C-on-b">b: partly. Why.</p>' in html
