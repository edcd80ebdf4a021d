"""Readings of the paper: the file, and claims that are judged under each of them and over all."""

from dataclasses import replace
from functools import cache

import pandas as pd
import pytest
import yaml

from mat.errors import InputError
from mat.evidence.claims import page
from mat.evidence.claims.load import load_claims
from mat.evidence.claims.readings import labels, load_readings, over, played
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.claims.verdicts import verdicts
from mat.evidence.runs import method_groups
from mat.evidence.tables.sanity import CONVERGED
from tests.evidence.synthetic import METHODS, changed, collected
from tests.evidence.written import RULE_FILES, changed_claims, claim

READINGS = load_readings(RULE_FILES["readings"])


def judged(rules, methods, task="hmm"):
    """The first row of a claim on the task, by its id."""
    ended = pd.DataFrame({"task": [task], "verdict": ["reached"], "converged": [CONVERGED]})
    tables = replace(collected(tasks=[task], methods=methods), made={"sanity": ended})

    @cache
    def row(name):
        alone = replace(rules, claims=tuple(one for one in rules.claims if one.id == name))
        frame = verdicts(tables, alone, READINGS)
        return frame[frame["task"] == task].iloc[0]

    return row


def test_the_repository_lists_what_the_paper_leaves_open():
    by_id = {reading.id: reading for reading in READINGS}
    assert {"detach", "residual", "exact", "sum_of_logits", "per_kind", "layers", "routed", "groups", "late"} <= set(
        by_id
    )
    beside = [by_id[name].random for name in ("detach", "residual", "exact")]
    assert beside == ["random", "random_residual", "random_exact"]
    assert all(reading.method.startswith("mat") for reading in READINGS)


@pytest.mark.parametrize(
    ("plain", "strict", "verdict"),
    [
        ([NOT_SUPPORTED, SUPPORTED], [NOT_SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, NOT_SUPPORTED], [INCONCLUSIVE, NOT_SUPPORTED], INCONCLUSIVE),  # at 95 % alone
        ([SUPPORTED, NOT_SUPPORTED], [PARTLY, NOT_SUPPORTED], PARTLY),
        ([PARTLY, INCONCLUSIVE], [PARTLY, INCONCLUSIVE], PARTLY),
        ([INCONCLUSIVE], [SUPPORTED], INCONCLUSIVE),  # wider intervals make nothing stronger
        ([NOT_SUPPORTED, NOT_SUPPORTED], [INCONCLUSIVE, NOT_SUPPORTED], NOT_SUPPORTED),  # all must be: each at 95 %
        ([NOT_SUPPORTED, INCONCLUSIVE], [NOT_SUPPORTED, INCONCLUSIVE], INCONCLUSIVE),
    ],
)
def test_over_readings_one_is_enough_to_support_and_all_must_refute(plain, strict, verdict):
    assert over(plain, strict) == verdict


@pytest.mark.parametrize(
    ("costs", "verdict", "nearest"),
    [((0.3, 1.6), "supported", "detach"), ((1.6, 0.3), "supported", "exact"), ((1.6, 1.8), "not supported", "detach")],
)
def test_a_claim_is_judged_under_every_reading_that_has_runs(rules, costs, verdict, nearest):
    row = judged(rules, changed(mat={"cost": costs[0]}, mat_exact={"cost": costs[1]}))
    assert row("C4r")["verdict"] == verdict
    assert row("C4r")["reason"].startswith("Detach (mat): ")
    assert "; exact (mat_exact): " in row("C4r")["reason"]
    assert f"Nearest to supported: {nearest}." in row("C4r")["reason"]
    if nearest == "detach" and verdict == "supported":
        assert row("C4r")["p_value"] == pytest.approx(2 * row("C4")["p_value"], rel=1e-6)


def test_a_reading_that_trains_nothing_of_what_it_selects_is_invalid_and_not_failed(rules):
    row = judged(rules, changed(mat={"cost": 1.6, "reached": 0.05}, mat_exact={"cost": 0.3}))
    assert (row("C4")["verdict"], row("C4r")["verdict"]) == ("not supported", "supported")
    assert "Invalid here" in row("C4r")["reason"] and "detach (mat), 5 %" in row("C4r")["reason"]
    assert row("C4r")["part"] == "exact: saving"
    none = judged(rules, changed(mat={"reached": 0.0}, mat_exact={"reached": 0.5}))("C7r")
    assert (none["verdict"], none["after_correction"], none["decides"]) == ("invalid", "invalid", False)


def test_a_reading_without_the_runs_that_a_claim_compares_is_left_out(rules):
    row = judged(rules, METHODS)("C6r")  # random_exact was not run
    assert "detach (mat)" in row["reason"].lower() and "exact (mat_exact)" not in row["reason"]
    blind = judged(rules, {name: METHODS[name] for name in ("vanilla", "random")})("C4r")
    assert (blind["verdict"], blind["p_value"]) == (
        "not tested at this scale",
        pytest.approx(float("nan"), nan_ok=True),
    )


@pytest.mark.parametrize(
    ("task", "mat", "bad", "verdict"),
    [
        ("digits", {"cost": 0.8}, 0.3, "supported"),  # less than the saving that the paper reports
        ("digits", {"cost": 0.8}, 0.0, "inconclusive"),  # nothing can be lost
        ("digits", {"cost": 1.6, "extra_loss": 0.02}, 0.3, "not supported"),  # never reaches the loss
        ("digits", {"cost": 0.3, "extra_loss": 0.3}, 0.4, "not supported"),  # loses quality
        ("hmm", {"cost": 0.8}, 0.3, "not tested at this scale"),  # no VGG
    ],
)
def test_any_saving_that_keeps_the_quality_under_a_reading(rules, task, mat, bad, verdict):
    methods = changed(mat={"probe": 0.0, "extra_loss": -0.004, **mat}, random={"extra_loss": bad})
    row = judged(rules, {name: methods[name] for name in ("vanilla", "mat", "random")}, task)("X4r")
    assert row["verdict"] == verdict
    if task == "digits":
        assert "saving to the final level" in row["reason"] and "gain in test" in row["reason"]


def test_runs_that_do_not_record_what_was_reached_test_no_reading(rules):
    tables = collected(tasks=["hmm"])
    old = replace(
        tables,
        probes=tables.probes.assign(reached=float("nan")),
        curves=tables.curves.assign(reached_share=float("nan")),
    )
    alone = replace(rules, claims=tuple(one for one in rules.claims if one.id in ("C4r", "C7b")))
    frame = verdicts(old, alone, READINGS).query("task == 'hmm'").set_index("claim")
    assert set(frame["verdict"]) == {"not tested at this scale"}
    assert "record what a gradient reached" in frame.loc["C4r", "reason"]
    assert "do not record what a gradient reached" in frame.loc["C7b", "reason"]


def test_a_reading_has_as_many_points_as_it_was_run_over_budgets(rules):
    claim = next(one for one in rules.claims if one.id == "X9r")
    points = [one.uses["points"] for one in played(claim, READINGS)]
    whole = [reading.method for reading in READINGS]
    assert [labels[-1] for labels in points] == whole
    assert [labels[:-1] for labels in points] == [list(reading.budgets) for reading in READINGS]
    assert points[0] == next(one for one in rules.claims if one.id == "X9").uses["points"]
    assert {label for label, *_ in (reading.budgets or [""] for reading in READINGS)} == {
        "mat_b25",
        "mat_exact_b25",
        "",
    }


def test_the_page_and_the_way_back_know_the_readings(rules):
    c6 = next(one for one in rules.claims if one.id == "C6r")
    both = [{f"{name}{kind}" for name in ("mat", "random")} for kind in ("", "_residual", "_exact")]
    assert labels(c6, READINGS) == {*set().union(*both), "multirate"}
    assert labels(c6, READINGS) <= set(method_groups.METHOD_ORDER)
    tables = collected(tasks=["hmm"])
    alone = replace(rules, claims=(c6,))
    text = page.markdown(verdicts(tables, alone, READINGS), alone, "x", READINGS)
    assert "- **exact** (`mat_exact`): The gradient passes" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"readings": []}, "at least one reading, and each id once, got none"),
        ({"readings": [{"id": "a", "text": "x", "method": "mat"}] * 2}, "a twice"),
        (
            {"readings": [{"id": name, "text": "x", "method": "mat"} for name in "ab"]},
            "each method once, got mat twice",
        ),
        ({"readings": [{"id": "a", "text": "", "method": "mat"}]}, "text: expected a text, got nothing"),
        ({"readings": [{"id": "a", "text": "x"}]}, "'method' is missing"),
        ({"readings": [{"id": "a", "text": "x", "method": "mat", "mode": "exact"}]}, "unknown key 'mode'"),
        ({"reading": []}, "unknown key 'reading'"),
    ],
)
def test_a_wrong_file_of_readings_is_refused(tmp_path, content, message):
    path = tmp_path / "readings.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError, match=f"readings.yaml: .*{message}"):
        load_readings(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: claim(c, "C4").update(readings=True), "got True with none of these"),
        (lambda c: claim(c, "C4r").update(readings=False), "got False with <method>"),
        (lambda c: claim(c, "C4r")["uses"].update(method="<mode>"), "expected a label or one of <method>"),
        (lambda c: claim(c, "X5").update(readings=True, uses={"method": "<method>", "reference": "vanilla"}), "X5"),
        (lambda c: c["validity"].update(min_reached_ratio=2), "min_reached_ratio"),
    ],
)
def test_claims_say_truly_whether_they_are_judged_under_readings(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_claims(changed_claims(tmp_path, change))
