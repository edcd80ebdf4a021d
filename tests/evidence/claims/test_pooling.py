"""Over tasks: counts, pooled effects, and a rule that is asked on them."""

from dataclasses import replace

import pytest

from mat.evidence.claims.judge import chance_over, overall
from mat.evidence.claims.rule import Effect, Outcome, decided
from mat.evidence.claims.rules import saving
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTED, PARTLY, SUPPORTED
from mat.evidence.stats.intervals import Interval

LIMITS = {"reported_low_percent": 26.4, "min_reached_share": 0.5}


@pytest.fixture
def claim(rules):
    found = next(each for each in rules.claims if each.id == "C4b")
    assert found.over_tasks == "pooled"
    return found


def task(saved, deviation=0.1, reached=1.0, unit="%"):
    value = Interval(saved, n=3, deviation=deviation, link="saving").at()
    return decided(
        [Effect("saving", value, unit, "executed")],
        lambda values: saving.saves(values[0], reached, LIMITS) if reached else NOT_SUPPORTED,
        "Because.",
    )


def over(claim, *found, judged="pooled"):
    return overall(replace(claim, over_tasks=judged), dict(zip("abcdefg", found, strict=False)))


def test_open_tasks_together_may_decide(claim):
    found = over(claim, *[task(40 + shift, 0.15) for shift in (-1, 0, 0, 1, 2)])
    assert {task(40 + shift, 0.15).verdict for shift in (-1, 0, 0, 1, 2)} == {PARTLY}
    assert found.verdict == SUPPORTED
    first, pooled, new = found.effects
    assert (first.part, first.interval.n, first.decides) == ("", 3, False)
    assert pooled.decides and pooled.interval.n == 5 and 39 < pooled.interval.mean < 42
    assert not new.decides and new.interval.low < pooled.interval.low
    assert chance_over(claim, found, {}) < 0.025
    assert found.reason.startswith("partly 5: a: partly (saving 39.0")
    assert "Over 5 tasks saving 40.4 [" in found.reason


def test_one_open_task_hides_no_two_refutations(claim):
    tasks = task(0.0, reached=0), task(5.0, reached=0), task(30.0, deviation=2.0)
    assert [each.verdict for each in tasks] == [NOT_SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE]
    assert over(claim, *tasks).verdict == NOT_SUPPORTED
    listed = over(claim, *tasks, judged="verdicts")
    assert listed.verdict == INCONCLUSIVE
    assert listed.reason.startswith("not supported 2, inconclusive 1: ")
    assert not any(effect.decides for effect in listed.effects)


def test_a_task_of_another_unit_and_one_not_tested_stay_out_of_the_pool(claim):
    found = over(claim, task(40.0), task(41.0), task(-50.0, unit="points"), Outcome(NOT_TESTED, "No runs."))
    assert [(effect.unit, effect.interval.n) for effect in found.effects[1:]] == [("%", 2)], "two tasks foretell none"


def test_without_a_common_part_the_verdicts_stand_as_they_are(claim):
    assert over(claim, task(40.0, 0.01)).verdict == SUPPORTED
    assert over(claim, task(40.0, 0.01), task(-5.0, 0.01, unit="points")).verdict == PARTLY  # mixed
    assert over(claim, Outcome(NOT_TESTED, "No runs.")).verdict == NOT_TESTED
