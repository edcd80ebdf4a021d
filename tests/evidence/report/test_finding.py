"""What was found, in plain words: which side of nothing every interval lies on, and what the rules say of it."""

import math

import pandas as pd
import pytest

from mat.evidence.claims.load import load_claims
from mat.evidence.report import finding
from mat.evidence.report.finding import AGREES, QUESTIONS, found
from mat.evidence.stats.intervals import Interval
from tests.evidence.written import CLAIMS

GAIN, OF = "gain in test accuracy", "% of vanilla's range"


@pytest.fixture(scope="module")
def claims():
    return load_claims(CLAIMS)


def frame(*rows):
    """Rows of (claim, task, verdict, part, effect, low, high), with a row over all tasks before those of each claim."""
    columns = ("claim", "task", "verdict", "part", "effect", "low", "high")
    made = pd.DataFrame(rows, columns=columns)
    tops = [(claim, "all", same["verdict"].iloc[0], "", *[math.nan] * 3) for claim, same in made.groupby("claim")]
    made = pd.concat([pd.DataFrame(tops, columns=columns), made])
    return made.assign(decides=made["part"] != "", n=3, unit=OF, ledger="none", reason="")


def test_the_headline_says_who_ends_better_and_puts_tasks_together_of_which_the_same_is_true(claims):
    said = found(
        frame(
            ("C5r", "digits", "supported", f"exact: {GAIN}", 2, 1, 3),
            ("C5r", "hmm", "not supported", f"exact: {GAIN}", -2, -3, -1),
            ("C5r", "rte", "not supported", f"exact: {GAIN}", -4, -5, -3),
            ("X7", "digits", "inconclusive", "exact: advantage in validation loss", 0, -1, 1),
        ),
        claims,
    )
    assert said.headline == (
        "On **digits (small VGG)** MAT ends better than vanilla, and is not told apart from vanilla given the same "
        "compute.",
        "On **Markov text (small BERT)** and **RTE** MAT ends worse than vanilla.",
    )
    assert "better by 2.00\u00a0[1.00,\u00a03.00] on digits (small VGG) (exact)" in said.points[0]
    assert "worse by 2.00\u00a0[1.00,\u00a03.00] on Markov text (small BERT) (exact)" in said.points[0]
    assert "Where they are not told apart a shorter schedule may do as well. X7: *inconclusive*." in said.points[1]


@pytest.mark.parametrize(
    ("second", "clause"),
    [
        ((2, 1, 3), "MAT ends better than vanilla."),
        ((2, -1, 5), "MAT ends better than vanilla under some readings of the paper."),
        ((-2, -3, -1), "MAT ends better or worse than vanilla, by how the paper is read."),
    ],
)
def test_readings_that_differ_are_said_to(claims, second, clause):
    said = found(
        frame(
            ("C5r", "digits", "inconclusive", f"detach: {GAIN}", 2, 1, 3),
            ("C5r", "digits", "inconclusive", f"detach: {GAIN} of random", -9, -10, -8),
            ("C5r", "digits", "inconclusive", f"exact: {GAIN}", *second),
        ),
        claims,
    )
    assert said.headline == (f"On **digits (small VGG)** {clause}",)
    alike = 2 if second[1] > 0 else 1
    assert f"(detach, {alike} of 2 readings alike, by its rule inconclusive)" in said.points[0]
    assert "Its rule counts quality as kept only where" in said.points[0]


def test_a_level_that_no_run_reaches_and_one_that_few_do_are_two_things(claims):
    part = "detach: saving to the final level"
    said = found(
        frame(
            ("C4b", "digits", "not supported", part, *[math.nan] * 3),
            ("C4b", "hmm", "inconclusive", part, *[math.nan] * 3),
            ("C4b", "rte", "supported", part, 40, 30, 50),
        ),
        claims,
    )
    assert said.headline == (
        "That MAT reaches vanilla's final loss with nearly half the compute is **not supported**.",
    )
    assert "not reached by any run on digits" in said.points[0]
    assert "reached by too few runs to say on Markov text" in said.points[0]
    assert "40.0\u00a0[30.0,\u00a050.0] less on RTE" in said.points[0]


def test_one_seed_says_nothing(claims):
    said = found(frame(("C5r", "digits", "inconclusive", f"exact: {GAIN}", 2, math.nan, math.nan)), claims)
    assert "not known on digits" in said.points[0]
    assert said.headline == (said.points[-1],)


def test_of_budgets_the_best_is_shown_and_a_claim_without_a_number_says_why(claims):
    rows = frame(
        ("X9r", "digits", "inconclusive", "detach: loss of mat_b25 below the line", -3, -4, -2),
        ("X9r", "digits", "inconclusive", "detach: loss of mat below the line", 1, 0.5, 1.5),
        ("X1c", "hmm", "inconclusive", "", *[math.nan] * 3),
    ).assign(reason="Only one module is kept. And more.")
    said = found(rows, claims)
    assert "better by 1.00\u00a0[0.50,\u00a01.50] on digits" in said.points[0]
    assert "left open on Markov text (small BERT): only one module is kept. X1c" in said.points[1]


def test_the_last_point_counts_claims_that_nothing_supersedes(claims):
    rows = frame(("C4", "hmm", "not supported", "saving", -1, -2, -0.5), ("C8", "hmm", "supported", "share", 1, 0, 2))
    said = found(rows, claims)
    assert said.points == ("Of 1 claims and questions judged here, 1 superseded ones left out: 1 supported (C8).",)
    assert said.headline == said.points
    assert found(rows.assign(verdict="not tested at this scale"), claims).markdown == (
        "- No claim is tested by the runs of this scale."
    )


def test_every_question_is_of_claims_that_there_are(claims):
    assert {name for question in QUESTIONS for name in question.claims} <= {claim.id for claim in claims.claims}
    assert {finding.kind_of(Interval(*value), verdict) for value in ((1, 1, 2), (0, -1, 1), (-1, -2, -1), (math.nan,))
            for verdict in ("not supported", "inconclusive")} == set(AGREES)  # fmt: skip


def test_an_advantage_at_equal_compute_that_its_rule_leaves_open_is_left_open(claims):
    """It may be one over a run that spent less."""
    part = "exact: advantage in validation loss over vanilla_short_exact"
    rows = [("X7", "hmm", verdict, part, 4, 3, 5) for verdict in ("inconclusive", "supported")]
    open_, counted = (found(frame(row), claims) for row in rows)
    assert (
        "left open on Markov text (small BERT): its rule asks for the test metric too, and that both" in open_.points[0]
    )
    assert not any("vanilla given the same compute" in said for said in open_.headline)
    assert counted.headline == ("On **Markov text (small BERT)** MAT ends better than vanilla given the same compute.",)
