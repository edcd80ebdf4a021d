"""Verdicts on whole tables: invented runs for which the answer is known."""

import copy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mat.errors import InputError
from mat.evidence import cli, collect
from mat.evidence import tables as pooled
from mat.evidence.claims import load_claims
from mat.evidence.verdicts import verdicts
from tests.evidence.synthetic import METHODS, TASKS, changed, edit, write_runs

CLAIMS = Path(__file__).parents[2] / "workflows" / "claims.yaml"


@pytest.fixture(scope="module")
def rules():
    return load_claims(CLAIMS)


def judged(root, rules, methods, seeds=(0, 1, 2), diverged=(), task="hmm"):
    """Verdict per claim, and reason per claim, on one task."""
    runs = write_runs(root, tasks=[task], methods=methods, seeds=seeds, diverged=diverged)
    frame = verdicts(collect.collect(runs), rules)
    by_task = frame[frame["task"] == task].drop_duplicates("claim").set_index("claim")
    return by_task["verdict"].to_dict(), by_task["reason"].to_dict()


def test_every_row_says_what_it_stands_on(tables, rules):
    frame = verdicts(tables, rules)
    assert list(frame["claim"].drop_duplicates()) == [claim.id for claim in rules.claims]
    assert (frame["task"] == "all").sum() == len(rules.claims)
    shown = frame[frame["part"] != ""]
    assert shown[["unit", "ledger", "scale", "ambiguities", "reason"]].ne("").all().all()
    assert frame["reason"].str.endswith(".").all()
    c4 = frame[(frame["claim"] == "C4") & (frame["task"] == "digits")]
    assert list(c4["ledger"]) == ["executed", "nominal", "executed"]
    assert list(c4["decides"]) == [True, False, False]


def test_claims_without_runs_are_not_tested_and_say_why(tables, rules):
    frame = verdicts(tables, rules)
    frame = frame[frame["task"] == "all"].set_index("claim")
    for name in ("X5", "X6"):
        assert frame.loc[name, "verdict"] == "not tested at this scale"
        assert len(frame.loc[name, "reason"]) > 20


def test_missing_methods_leave_a_claim_untested(tmp_path, rules):
    few = {name: METHODS[name] for name in ("vanilla", "mat", "random")}
    found, reasons = judged(tmp_path, rules, few)
    assert found["C6"] == found["X3"] == "not tested at this scale"
    assert "No runs of multirate" in reasons["C6"]
    assert found["C7"] == "supported"


def test_too_few_seeds_are_inconclusive_and_say_how_many(tmp_path, rules):
    found, reasons = judged(tmp_path, rules, METHODS, diverged=[("hmm", "mat", 0)])
    for name in ("C4", "C5", "C6", "C7", "C8", "X1", "X3"):
        assert found[name] == "inconclusive"
        assert "needs 3 finished seeds" in reasons[name]
        assert "has 2 (1 of the task's runs diverged)" in reasons[name]
    assert found["C1"] == "supported"  # it stands on vanilla's spectra


def test_all_runs_of_a_method_diverged(tmp_path, rules):
    found, reasons = judged(tmp_path, rules, METHODS, diverged=[("hmm", "mat", seed) for seed in range(3)])
    assert found["C4"] == "inconclusive"
    assert "has 0 (3 of the task's runs diverged)" in reasons["C4"]


def test_a_method_that_costs_more_saves_nothing(tmp_path, rules):
    found, _ = judged(tmp_path, rules, changed(mat={"cost": 1.6}, mat_exact={"cost": 1.8}))
    assert (found["C4"], found["X3"]) == ("not supported", "not supported")


def test_a_cheap_method_saves(tmp_path, rules):
    found, reasons = judged(tmp_path, rules, changed(mat={"cost": 0.3}, mat_exact={"cost": 0.3}))
    assert found["C4"] == "supported"
    assert "(nominal)" in reasons["C4"]


def test_a_method_that_learns_less_loses_quality_and_to_the_baselines(tmp_path, rules):
    found, _ = judged(tmp_path, rules, changed(mat={"extra_loss": 0.3}))
    assert found["C5"] == "not supported"
    assert found["C6"] == "not supported"
    assert found["X1"] == "not supported"


def test_quality_in_accuracy_is_higher_is_better(tmp_path, rules):
    found, reasons = judged(tmp_path, rules, changed(mat={"extra_loss": 0.3}), task="digits")
    assert found["C5"] == "not supported"
    assert "percentage points" in reasons["C5"]


@pytest.mark.parametrize(
    ("metric", "unit", "margin"),
    [
        ("accuracy_matched", "percentage points", "0.5"),
        *(
            (name, "points (× 100)", "1")
            for name in ("f1", "matthews_correlation", "pearson", "combined_score")
        ),
    ],
)
def test_quality_in_other_scores_has_its_own_margin(tmp_path, rules, metric, unit, margin):
    """0.03 of 2.24 in the loss are 0.022 of a score that falls by a third of the loss."""
    shapes = {"glue": replace(TASKS["digits"], metric=metric)}
    verdict = {}
    for name, extra in (("worse", 0.03), ("as good", 0.0)):
        methods = changed(mat={"extra_loss": extra})
        runs = write_runs(tmp_path / name, tasks=["glue"], methods=methods, shapes=shapes)
        found = verdicts(collect.collect(runs), rules).query("claim == 'C5' and task == 'glue'").iloc[0]
        verdict[name] = found["verdict"]
        assert found["unit"] == unit
        assert f"the margin is {margin} {unit}" in found["reason"]
    assert verdict == {"worse": "not supported", "as good": "supported"}


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.34, "supported"), (0.44, "partly"), (0.8, "not supported")]
)
def test_active_share(tmp_path, rules, share, verdict):
    assert judged(tmp_path, rules, changed(mat={"share": share}))[0]["C7"] == verdict


@pytest.mark.parametrize(("probe", "verdict"), [(0.8, "supported"), (4.0, "partly"), (40.0, "not supported")])
def test_probe_cost(tmp_path, rules, probe, verdict):
    assert judged(tmp_path, rules, changed(mat={"probe": probe}))[0]["C8"] == verdict


def test_an_empty_comparison_of_selections_is_inconclusive(tmp_path, rules):
    found, reasons = judged(tmp_path, rules, changed(mat={"share": 0.99}, random={"share": 0.99}))
    assert found["X1"] == "inconclusive"
    assert "empty" in reasons["X1"]


def test_selections_of_unequal_share_are_inconclusive(tmp_path, rules):
    found, reasons = judged(tmp_path, rules, changed(random={"share": 0.5}))
    assert found["X1"] == "inconclusive"
    assert "active shares differ" in reasons["X1"]


def test_exact_beside_detach_needs_both_modes(tmp_path, rules):
    found, reasons = judged(tmp_path, rules, changed(mat={"mode": "exact"}))
    assert found["X3"] == "not tested at this scale"
    assert "modes are exact and exact" in reasons["X3"]


def test_spectra_come_from_mat_when_vanilla_has_none(tmp_path, rules):
    _, reasons = judged(tmp_path, rules, changed(vanilla={"observes": False}))
    assert reasons["C1"].startswith("In mat runs")


def test_no_spectra_and_unknown_metrics_leave_claims_untested(tmp_path, rules):
    blind = changed(**{name: {"observes": False, "charges": False} for name in METHODS})
    runs = write_runs(tmp_path, tasks=["hmm"], methods=blind)
    for run in runs:
        edit(run, metrics=[{"name": "bleu", "higher_is_better": True}])
    frame = verdicts(collect.collect(runs), rules).query("task == 'hmm'").set_index("claim")
    assert frame.loc["C1", "verdict"] == frame.loc["C5", "verdict"] == "not tested at this scale"
    assert "bleu" in frame.loc["C5", "reason"]


def test_thresholds_come_from_the_file(tables, tmp_path):
    content = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    found = {}
    for name, low, high in (("as it is", 24, 44), ("moved", 60, 70)):
        changed_content = copy.deepcopy(content)
        c7 = next(claim for claim in changed_content["claims"] if claim["id"] == "C7")
        c7["thresholds"] = {"min_percent": low, "max_percent": high}
        path = tmp_path / "claims.yaml"
        path.write_text(yaml.safe_dump(changed_content), encoding="utf-8")
        frame = verdicts(tables, load_claims(path))
        found[name] = frame[(frame["claim"] == "C7") & (frame["task"] == "all")]["verdict"].item()
    assert found == {"as it is": "supported", "moved": "not supported"}


def test_tasks_can_be_left_out_and_roles_must_be_single(tables, tmp_path):
    content = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    c7 = next(claim for claim in content["claims"] if claim["id"] == "C7")
    c7["tasks"] = ["hmm"]
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    frame = verdicts(tables, load_claims(path))
    rows = frame[frame["claim"] == "C7"].set_index("task")
    assert rows.loc["digits", "verdict"] == "not tested at this scale"
    assert rows.loc["all", "verdict"] == rows.loc["hmm", "verdict"] == "supported"
    c7["uses"] = {"method": ["mat", "random"]}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError, match="needs exactly one label"):
        verdicts(tables, load_claims(path))


def test_files_are_written_and_read_back_for_the_terminal(tables, tmp_path):
    pooled.save(tables, tmp_path)
    cli.verdicts(tmp_path, CLAIMS)
    first = (tmp_path / "verdicts.csv").read_bytes()
    cli.verdicts(tmp_path, CLAIMS)
    assert (tmp_path / "verdicts.csv").read_bytes() == first
    assert len(pd.read_csv(tmp_path / "verdicts.csv")) > 20
    page = (tmp_path / "verdicts.md").read_text(encoding="utf-8")
    assert "**supported**" in page
    assert "min_spread 3" in page
    assert "C4   " in cli.summary(tmp_path, CLAIMS)
