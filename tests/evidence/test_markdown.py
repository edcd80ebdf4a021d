"""What others wrote is shown on pages as it is written; what is ours is Markdown."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mat.evidence.report import environment
from mat.evidence.tables import ceiling, results
from mat.evidence.text import format

HOSTILE = "![x](http://y) <b>bold</b> [z](http://z) `code` **strong** a|b"
READER = MarkdownIt("commonmark", {"html": False}).enable("table")


def kinds(page):
    """The kinds of what is inside the page's blocks, and its text."""
    inside = [one for token in READER.parse(page) for one in token.children or ()]
    return {one.type for one in inside}, "".join(one.content for one in inside)


@given(st.text("<>&![]()`*_\\|:ab 1,", min_size=1).map(lambda text: f"a{text}a"))
def test_a_cell_shows_any_text_as_it_is(text):
    found, said = kinds(format.markdown_table(("h",), [(text,)]))
    assert found <= {"text", "text_special"}
    assert said == f"h{text}"


@given(st.text("`a b", min_size=1).filter(lambda text: text.strip()))
def test_code_holds_any_backticks(text):
    found, said = kinds(f"x {format.code(text)}")
    assert found == {"text", "code_inline"}
    assert said == f"x {text}"


@pytest.mark.parametrize("text", ["0.5 [0.4, 0.6]", "1 [−2, 3] %, n = 4", "mean [95 % t interval]", "mat_exact"])
def test_intervals_and_names_need_no_escapes(text):
    assert format.plain(text) == text


def test_what_is_marked_stays():
    assert format.markdown_table(("a",), [(format.bold("yes_"),)]).endswith(r"| **yes\_** |")


def test_free_text_of_a_run_or_a_config_is_no_markup_on_any_page(tables):
    spoiled = replace(tables, runs=tables.runs.assign(cpu=HOSTILE, version_torch=HOSTILE, loss_unit=HOSTILE))
    names = dict.fromkeys(("label", "model", "source", "input"), "a")
    numbers = dict.fromkeys(("outputs", "batch", "modules", "dense_macs", "forward_total_macs"), 1)
    model = pd.Series({**names, **numbers, "note": HOSTILE})
    pages = {
        "machines": environment.machines(spoiled),
        "listing": environment.listing(spoiled),
        "notes": "\n".join(results.notes(spoiled, results.Convergence())[-1:]),
        "ceiling": format.markdown_table(("h",) * 10, [ceiling._model(model)]),
    }
    for name, page in pages.items():
        found, said = kinds(page)
        assert found <= {"text", "text_special"}, name
        assert HOSTILE in said, name
