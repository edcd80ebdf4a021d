import re
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mat.evidence.report import environment
from mat.evidence.text import format


@given(st.text("<>&![]()`*_\\ab", min_size=1).map(lambda text: f"a{text}a"))
def test_what_a_config_says_is_shown_as_it_is(text):
    (inline,) = (token for token in MarkdownIt("commonmark").parse(format.plain(text)) if token.type == "inline")
    assert {token.type for token in inline.children} <= {"text", "text_special"}
    assert "".join(token.content for token in inline.children) == text


@pytest.mark.parametrize("column", ["cpu", "device", "version_torch"])
def test_no_markup_of_a_run_folder_enters_the_page(tables, column):
    spoiled = replace(tables, runs=tables.runs.assign(**{column: "![x](http://y) <b>"}))
    assert not re.search(r"(?<!\\)\[|<b>", environment.machines(spoiled))


def test_a_page_lists_a_bounded_number_of_runs_and_seeds(tables):
    one = tables.runs.iloc[:1]

    def many(count: int) -> str:
        runs = pd.concat([one] * count, ignore_index=True).assign(seed=range(count))
        made = replace(tables, runs=runs)
        return environment.scope(made) + environment.spent(made) + environment.listing(made)

    assert abs(len(many(4000)) - len(many(400))) < 40  # digits of counts and sums
    assert "And 160 more" in many(400)
