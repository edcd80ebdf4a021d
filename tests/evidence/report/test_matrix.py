"""Verdicts at a glance: a matrix that can be read without colour."""

import re

import pandas as pd
import pytest

from mat.evidence.claims.load import load_claims
from mat.evidence.claims.verdict import VERDICTS
from mat.evidence.report import matrix
from tests.evidence.written import CLAIMS

GIVEN = {
    "C1": {"all": "supported", "digits": "supported"},
    "C4": {"all": "not supported", "digits": "not supported", "hmm": "not supported"},
    "C5": {"all": "inconclusive", "digits": "inconclusive", "hmm": "not tested at this scale"},
    "C8": {"all": "not tested at this scale", "digits": "not tested at this scale"},
}


@pytest.fixture(scope="module")
def claims():
    return load_claims(CLAIMS)


@pytest.fixture
def frame():
    rows = [(claim, task, verdict) for claim, given in GIVEN.items() for task, verdict in given.items()]
    return pd.DataFrame(rows, columns=["claim", "task", "verdict"])


def test_every_verdict_has_a_letter_of_its_own():
    assert set(matrix.LETTERS) == set(VERDICTS)
    assert len(set(matrix.LETTERS.values())) == len(VERDICTS)


def test_a_cell_is_a_letter_a_colour_and_a_link_to_its_numbers_and_untested_claims_are_named_below(frame, claims):
    html = matrix.html(frame, claims)
    assert '<td class="m-not-supported"><a href="#C4-on-hmm" title="not supported">N</a></td>' in html
    assert '<td class="m-inconclusive"><a href="#C5" title="inconclusive">?</a></td>' in html
    assert "<td>·</td>" in html
    assert "Not tested at this scale: C8." in html
    assert len(re.findall(r"<tr class=\"\w+\"><th scope=\"row\">", html)) == 3


def test_table_and_terminal_have_the_same_letters_in_the_same_order(frame, claims):
    table = [line.replace("**", "").split(" | ") for line in matrix.markdown(frame, claims).splitlines()[2:5]]
    lines = matrix.lines(frame, claims, 80)
    assert [cells[0].strip("| ") for cells in table] == [line[:5].strip() for line in lines[:3]] == ["C1", "C4", "C5"]
    assert [[cell.strip() for cell in cells[1:4]] for cells in table] == [
        [line[5 + 2 * place].strip() for place in range(3)] for line in lines[:3]
    ]
    assert max(map(len, lines[:3])) <= 80
