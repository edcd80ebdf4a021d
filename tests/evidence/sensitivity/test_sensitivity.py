"""The sensitivity table: alternatives stand in for the default, or read the same runs differently."""

from dataclasses import replace

import pandas as pd
import pytest

from mat.errors import InputError
from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups, pool, pooled
from mat.evidence.sensitivity import table
from mat.evidence.stats.intervals import saving_percent
from tests.evidence.synthetic import METHODS, changed, collected, made_runs
from tests.evidence.written import write

MAT = METHODS["mat"]


@pytest.fixture(scope="module")
def varied():
    more = {
        "mat_threshold_top": replace(MAT, cost=0.2),
        "mat_beta_zero": replace(MAT, extra_loss=0.3),
        "multirate_k2": replace(METHODS["multirate"], extra_loss=-0.1),
    }
    return collected(methods=changed(mat={"cost": 1.6}) | more)


@pytest.fixture(scope="module")
def frame(varied, rules, register):
    return table.sensitivity(varied, rules, register)


def test_every_label_of_the_sensitivity_group_is_in_the_register(register):
    named = {name for entry in register for name in table.alternatives(entry)}
    assert set(method_groups.GROUPS["sensitivity"]) <= named
    assert set(table.READINGS) <= named


def test_an_alternative_stands_in_for_mat(varied, rules, frame):
    row = frame.query("alternative == 'mat_threshold_top' and task == 'hmm' and claim == 'C4'").iloc[0]
    macs = {
        name: over_seeds.convergence_macs(varied, "hmm", name, "executed", rules.convergence)
        for name in ("vanilla", "mat", "mat_threshold_top")
    }
    before, after = (saving_percent(macs[name], macs["vanilla"]) for name in ("mat", "mat_threshold_top"))
    assert (row["id"], row["measure"], row["ledger"]) == ("A1", "saving", "executed")
    assert (row["effect_default"], row["effect_alternative"]) == pytest.approx((before.mean, after.mean))
    assert (row["low"], row["high"], row["n"]) == (pytest.approx(after.low), pytest.approx(after.high), 3)
    assert (row["verdict_default"], row["verdict_alternative"]) == ("not supported", "supported")
    assert row["changes"]
    assert row["says"] == "changes C4 on hmm: not supported → supported"


def test_the_loss_stands_beside_the_verdict_on_quality(varied, frame):
    row = frame.query("alternative == 'mat_beta_zero' and task == 'hmm' and claim == 'C5'").iloc[0]
    mine, theirs = (over_seeds.best_losses(varied, "hmm", name) for name in ("mat_beta_zero", "vanilla"))
    assert row["effect_alternative"] == pytest.approx((100 * (mine - theirs) / theirs).mean())
    assert row["effect_alternative"] > 5
    assert row["verdict_alternative"] == "not supported"


def test_another_multirate_is_a_question_of_c6(frame):
    rows = frame[frame["alternative"] == "multirate_k2"]
    assert set(rows["claim"]) == {"C6"}
    assert set(rows["measure"]) == {"advantage"}
    assert (rows["effect_alternative"] < rows["effect_default"]).all()
    assert set(rows["verdict_alternative"]) == {"not supported"}


def test_other_readings_need_no_runs_and_touch_c4_alone(tables, rules, register):
    frame = table.sensitivity(tables, rules, register)
    readings = frame[frame["alternative"].isin(table.READINGS)]
    assert set(readings["claim"]) == {"C4"}
    assert len(readings) == 2 * 6  # five of A11 and the ledger, of A7 and A18 alike, on two tasks
    last = readings.query("alternative == 'last_epoch' and task == 'digits'").iloc[0]
    whole = saving_percent(
        *(over_seeds.whole_run_macs(tables, "digits", name, "executed") for name in ("mat", "vanilla"))
    )
    assert last["effect_alternative"] == pytest.approx(whole.mean)
    nominal = readings.query("alternative == 'nominal_ledger' and task == 'digits' and id == 'A7 A18'").iloc[0]
    macs = [
        over_seeds.convergence_macs(tables, "digits", name, "nominal", rules.convergence) for name in ("mat", "vanilla")
    ]
    assert nominal["effect_alternative"] == pytest.approx(saving_percent(*macs).mean)
    assert nominal["ledger"] == "nominal"


def test_the_default_stands_on_the_seeds_of_the_alternative(rules, register):
    runs = made_runs(tasks=["hmm"], seeds=range(4))
    runs += made_runs(tasks=["hmm"], methods={"mat_beta_zero": MAT}, seeds=range(3))
    tables = pool.pooled(runs)
    frame = table.sensitivity(tables, rules, register)
    row = frame.query("alternative == 'mat_beta_zero' and claim == 'C4'").iloc[0]
    macs = [
        over_seeds.convergence_macs(tables, "hmm", name, "executed", rules.convergence).drop(3)
        for name in ("mat", "vanilla")
    ]
    assert row["effect_default"] == pytest.approx(saving_percent(*macs).mean)
    assert (row["n_default"], row["n"]) == (3, 3)
    assert frame.query("alternative == 'last_epoch'")["n_default"].item() == 4


def test_to_or_from_inconclusive_is_no_change(rules, register):
    runs = made_runs(tasks=["hmm"], seeds=range(3))
    few = {"mat_beta_zero": replace(MAT, extra_loss=0.3)}
    runs += made_runs(tasks=["hmm"], methods=few, seeds=range(3), diverged=[("hmm", "mat_beta_zero", 2)])
    frame = table.sensitivity(pool.pooled(runs), rules, register)
    row = frame.query("alternative == 'mat_beta_zero' and claim == 'C4'").iloc[0]
    assert row["verdict_alternative"] == "inconclusive"
    assert not row["changes"]
    assert (row["says"] == "") == (row["verdict_default"] == "inconclusive")
    reading = frame.assign(id="A1")
    assert not reading[reading["says"].str.startswith("undecided")]["changes"].any()


def test_unknown_names_are_refused_and_pointers_are_not(register):
    entry = replace(register[0], sensitivity=["mat_treshold_top"])
    with pytest.raises(InputError, match=r"A1: sensitivity names mat_treshold_top"):
        table.alternatives(entry)
    assert table.alternatives(replace(entry, sensitivity=["see another table"])) == []


def test_the_page_says_what_changes_and_what_was_not_varied(varied, tmp_path):
    pooled.save(varied, tmp_path)
    write(tmp_path, "sensitivity")
    first = (tmp_path / "sensitivity.csv").read_bytes()
    write(tmp_path, "sensitivity")
    assert (tmp_path / "sensitivity.csv").read_bytes() == first
    page = (tmp_path / "sensitivity.md").read_text(encoding="utf-8")
    assert "- A1: MAT (threshold top) changes C4 on Markov text, small BERT: not supported → supported." in page
    assert "- A4: mat_head_inputs" in page
    assert "- A3: mat_sum_of_logits" in page
    assert r"\toprule" in (tmp_path / "sensitivity.tex").read_text(encoding="utf-8")
    frame = pd.read_csv(tmp_path / "sensitivity.csv")
    assert frame["open"].str.len().max() <= 62


def test_without_mat_there_is_nothing_to_vary(tmp_path, rules, register):
    tables = collected(tasks=["hmm"], methods={"vanilla": METHODS["vanilla"]})
    assert table.sensitivity(tables, rules, register).empty
    pooled.save(tables, tmp_path)
    write(tmp_path, "sensitivity")
    assert "No alternative that was run" in (tmp_path / "sensitivity.md").read_text(encoding="utf-8")
