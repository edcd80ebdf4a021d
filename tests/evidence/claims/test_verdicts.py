"""Verdicts on whole tables: invented runs for which the answer is known."""

from dataclasses import replace
from functools import cache

import pandas as pd
import pytest

from mat.errors import InputError
from mat.evidence.claims import page as verdicts_text
from mat.evidence.claims.judge import outcome, places
from mat.evidence.claims.load import load_claims
from mat.evidence.claims.rule import Case
from mat.evidence.claims.verdicts import verdicts
from mat.evidence.report import terminal
from mat.evidence.runs import pool, pooled
from mat.evidence.stats.multiplicity import LEVEL
from mat.evidence.tables.sanity import PLATEAU
from mat.experiments.config.scale import read_scale
from tests.evidence.synthetic import METHODS, TASKS, Behaviour, changed, collected, made_runs
from tests.evidence.synthetic_tables import step_times
from tests.evidence.written import RULE_FILES, changed_claims, claim, write

CLAIMS = RULE_FILES["claims"]


@pytest.fixture(scope="module")
def frame(tables, rules):
    return verdicts(tables, rules)


def only(rules, *names):
    """The claims file with these claims alone."""
    return replace(rules, claims=tuple(claim for claim in rules.claims if claim.id in names))


def judged(rules, methods, seeds=(0, 1, 2), diverged=(), task="hmm", made=None):
    """Two functions of a claim's id: its verdict on one task, and the reason; ``made``: tables beside the runs."""
    tables = replace(collected(tasks=[task], methods=methods, seeds=seeds, diverged=diverged), made=made or {})

    @cache
    def row(name):
        frame = verdicts(tables, only(rules, name))
        return frame[frame["task"] == task].iloc[0]

    return lambda name: row(name)["verdict"], lambda name: row(name)["reason"]


def test_every_row_says_what_it_stands_on(frame, rules):
    assert list(frame["claim"].drop_duplicates()) == [claim.id for claim in rules.claims]
    assert list(frame[frame["task"] == "all"]["claim"].drop_duplicates()) == [claim.id for claim in rules.claims]
    shown = frame[frame["part"] != ""]
    assert shown[["unit", "ledger", "scale", "ambiguities", "reason"]].ne("").all().all()
    assert frame["reason"].str.endswith(".").all()
    c4 = frame[(frame["claim"] == "C4") & (frame["task"] == "digits")]
    assert list(c4["ledger"]) == ["executed", "nominal", "executed"]
    assert list(c4["decides"]) == [True, False, False]


def test_claims_without_runs_are_not_tested_and_say_why(frame):
    frame = frame[frame["task"] == "all"].set_index("claim")
    for name in ("X5", "X6"):
        assert frame.loc[name, "verdict"] == "not tested at this scale"
        assert len(frame.loc[name, "reason"]) > 20


def test_missing_methods_leave_a_claim_untested(rules):
    few = {name: METHODS[name] for name in ("vanilla", "mat", "random")}
    found, reasons = judged(rules, few)
    assert found("C6") == found("X3") == "not tested at this scale"
    assert "No runs of multirate" in reasons("C6")
    assert found("C7") == "supported"


def test_too_few_seeds_are_inconclusive_and_say_how_many(rules):
    found, reasons = judged(rules, METHODS, diverged=[("hmm", "mat", 0)])
    for name in ("C4", "C5", "C6", "C7", "C8", "X1", "X3"):
        assert found(name) == "inconclusive"
        assert "needs 3 finished seeds" in reasons(name)
        assert "has 2 (1 of their runs diverged)" in reasons(name)
    assert found("C1") == "supported"  # it stands on vanilla's spectra


def test_all_runs_of_a_method_diverged(rules):
    found, reasons = judged(rules, METHODS, diverged=[("hmm", "mat", seed) for seed in range(3)])
    assert found("C4") == "inconclusive"
    assert "has 0 (3 of their runs diverged)" in reasons("C4")


def test_a_method_that_costs_more_saves_nothing(rules):
    found, _ = judged(rules, changed(mat={"cost": 1.6}, mat_exact={"cost": 1.8}))
    assert (found("C4"), found("X3")) == ("not supported", "not supported")


def test_a_cheap_method_saves(rules):
    found, reasons = judged(rules, changed(mat={"cost": 0.3}, mat_exact={"cost": 0.3}))
    assert found("C4") == "supported"
    assert "(nominal)" in reasons("C4")


def test_a_method_that_learns_less_loses_quality_and_to_the_baselines(rules):
    found, _ = judged(rules, changed(mat={"extra_loss": 0.3}))
    assert found("C5") == "not supported"
    assert found("C6") == "not supported"
    assert found("X1") == "not supported"


def test_quality_in_accuracy_is_higher_is_better(rules):
    found, reasons = judged(rules, changed(mat={"extra_loss": 0.3}), task="digits")
    assert found("C5") == "not supported"
    assert "percentage points" in reasons("C5")


@pytest.mark.parametrize(
    ("metric", "unit", "margin"),
    [
        ("accuracy_matched", "percentage points", "0.5"),
        *((name, "points (× 100)", "1") for name in ("f1", "matthews_correlation", "pearson", "combined_score")),
    ],
)
def test_quality_in_other_scores_has_its_own_margin(rules, metric, unit, margin):
    """0.03 of 2.24 in the loss are 0.022 of a score that falls by a third of the loss."""
    shapes = {"glue": replace(TASKS["digits"], metric=metric)}
    verdict = {}
    for name, extra in (("worse", 0.03), ("as good", 0.0)):
        methods = changed(mat={"extra_loss": extra})
        tables = collected(tasks=["glue"], methods=methods, shapes=shapes)
        found = verdicts(tables, only(rules, "C5")).query("task == 'glue'").iloc[0]
        verdict[name] = found["verdict"]
        assert found["unit"] == unit
        assert f"the margin is {margin} {unit}" in found["reason"]
    assert verdict == {"worse": "not supported", "as good": "supported"}


@pytest.mark.parametrize(("share", "verdict"), [(0.34, "supported"), (0.44, "partly"), (0.8, "not supported")])
def test_active_share(rules, share, verdict):
    assert judged(rules, changed(mat={"share": share}))[0]("C7") == verdict


@pytest.mark.parametrize(("probe", "verdict"), [(0.8, "supported"), (4.0, "partly"), (40.0, "not supported")])
def test_probe_cost(rules, probe, verdict):
    assert judged(rules, changed(mat={"probe": probe}))[0]("C8") == verdict


def test_an_empty_comparison_of_selections_is_inconclusive(rules):
    found, reasons = judged(rules, changed(mat={"share": 0.99}, random={"share": 0.99}))
    assert found("X1") == "inconclusive"
    assert "empty" in reasons("X1")


def test_selections_of_unequal_share_are_inconclusive(rules):
    found, reasons = judged(rules, changed(random={"share": 0.5}))
    assert found("X1") == "inconclusive"
    assert "active shares differ" in reasons("X1")


CONTROLS = {
    name: Behaviour(0.60, extra, 0.36, mode="exact")
    for name, extra in {
        "largest": 0.0, "random_exact": 0.05, "random_once": 0.05, "smallest": 0.2, "shuffled": 0.05, "depth_low": 0.1,
        "depth_high": 0.1, "gradient_norm": 0.0, "kind_head": 0.05,
    }.items()
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "supported"),
        ({"depth_low": -0.02}, "inconclusive"),  # the lowest layers do better: λ_max is not what helps most
        ({"shuffled": -0.02}, "not supported"),  # somebody else's λ_max does better: it is not λ_max
    ],
)
def test_selection_is_compared_with_every_control(rules, changes, verdict):
    controls = CONTROLS | {name: replace(CONTROLS[name], extra_loss=extra) for name, extra in changes.items()}
    found, reasons = judged(rules, METHODS | controls)
    assert found("X1b") == verdict
    assert found("X1") == "supported"  # the old rule, on mat and random alone
    for name in ("gradient_norm", "kind_head"):
        assert f"advantage in best validation loss over {name}" in reasons("X1b")
    assert "mean active share" in reasons("X1b") and "mean number of active modules" in reasons("X1b")


@pytest.mark.parametrize(
    ("changes", "verdict", "why"),
    [
        ({}, "supported", "advantage over shuffled"),
        ({"shuffled": -0.02}, "not supported", "loss of smallest against vanilla"),
        (
            dict.fromkeys(("random_exact", "random_once", "shuffled", "smallest"), 0.0),
            "inconclusive",
            "No selection known",
        ),
    ],
)
def test_selection_is_judged_where_it_matters_what_is_selected(rules, changes, verdict, why):
    controls = CONTROLS | {name: replace(CONTROLS[name], extra_loss=extra) for name, extra in changes.items()}
    found, reasons = judged(rules, METHODS | controls)
    assert found("X1c") == verdict
    assert why in reasons("X1c")


def test_what_is_chosen_at_the_start_alone_is_no_selection(rules):
    """After the first interval one module is kept: the one with the largest value, whatever the threshold says."""
    few = {name: replace(each, share=0.1) for name, each in CONTROLS.items()}  # of 10 modules
    tables = collected(tasks=["hmm"], methods=METHODS | few)
    first = tables.probes["interval"] == 0
    all_at_first = tables.probes.assign(
        active=tables.probes["active"] | first, reached=tables.probes["reached"].where(~first, 1.0)
    )
    for each in (tables, replace(tables, probes=all_at_first)):
        row = verdicts(each, only(rules, "X1c")).query("task == 'hmm'").iloc[0]
        assert row["verdict"] == "inconclusive"
        assert row["reason"].startswith("After the first interval largest trains 2 modules or more in only 0 % of them")


def test_selections_that_no_gradient_reaches_or_that_differ_in_share_are_not_compared(rules):
    for change, why in (({"reached": 0.2}, "trains 2 modules or more in"), ({"share": 0.9}, "reached share differs")):
        found, reasons = judged(rules, METHODS | CONTROLS | {"largest": replace(CONTROLS["largest"], **change)})
        assert found("X1c") == "inconclusive"
        assert why in reasons("X1c")
    found, reasons = judged(rules, METHODS | {"largest": CONTROLS["largest"]})
    assert (found("X1c"), found("X1b")) == ("not tested at this scale",) * 2


@pytest.mark.parametrize(
    ("extra", "bad", "verdict"),
    [(-0.004, 0.05, "supported"), (0.3, 0.05, "not supported"), (-0.004, 0.0, "inconclusive")],
)
def test_quality_is_kept_where_a_bad_selection_loses_it(rules, extra, bad, verdict):
    """In percent of what vanilla learns; where even random selection keeps it, it was not at stake."""
    for task in ("hmm", "digits"):
        found, reasons = judged(rules, changed(mat={"extra_loss": extra}, random={"extra_loss": bad}), task=task)
        assert found("C5b") == verdict
        assert ("where none does, nothing is kept" in reasons("C5b")) == (bad == 0)


@pytest.mark.parametrize(
    ("share", "reached", "verdict"),
    [(0.34, 1, "supported"), (0.34, 0.5, "not supported"), (0.8, 0.42, "supported"), (0.443, 1, "inconclusive")],
)
def test_what_counts_is_what_a_gradient_reached(rules, share, reached, verdict):
    assert judged(rules, changed(mat={"share": share, "reached": reached}))[0]("C7b") == verdict


@pytest.mark.parametrize(
    ("exact", "detach", "verdict"),
    [
        ({"cost": 0.3}, {"cost": 0.5}, "supported"),
        ({"cost": 0.6}, {"cost": 0.3}, "partly"),
        ({"cost": 1.6}, {"cost": 0.3}, "not supported"),
        ({"cost": 1.6}, {"cost": 1.6}, "inconclusive"),  # nothing is saved
        ({"cost": 0.4, "extra_loss": 0.3}, {"cost": 0.4}, "inconclusive"),  # not at vanilla's quality
    ],
)
def test_the_source_of_a_saving_is_asked_for_where_there_is_one(rules, exact, detach, verdict):
    found, reasons = judged(rules, changed(mat=detach, mat_exact=exact))
    assert found("X3b") == verdict
    assert ("mat_exact reached vanilla's best loss in 0 of 3" in reasons("X3b").lower()) == ("extra_loss" in exact)


def test_a_spread_over_layers_is_no_spread_within_them(rules):
    tables = collected(tasks=["hmm"])
    by_depth = replace(tables, probes=tables.probes.assign(lambda_max=10.0 ** (2 * tables.probes["layer"])))
    ranked = by_depth.probes["effective_rank"] - by_depth.probes["layer"]
    by_depth = replace(by_depth, probes=by_depth.probes.assign(effective_rank=ranked.where(ranked.notna(), 1.0)))
    frame = verdicts(by_depth, only(rules, "C1", "C1b")).query("task == 'hmm'")
    spread = frame[frame["part"].str.contains("spread")].set_index("claim")["effect"]
    assert (spread["C1"], spread["C1b"]) == (pytest.approx(100), pytest.approx(1))
    apart = replace(tables, probes=tables.probes.assign(layer=tables.probes.groupby(["run", "interval"]).cumcount()))
    row = verdicts(apart, only(rules, "C1b")).query("task == 'hmm'").iloc[0]
    assert row["reason"] == "The modules of kind head have no spread within layers."


def test_controls_that_cannot_be_compared_are_left_out_and_named(rules):
    some = {name: CONTROLS[name] for name in ("largest", "smallest", "shuffled", "random_once")}
    some["random_once"] = replace(some["random_once"], mode="detach")
    lost = [("hmm", "smallest", 0)]
    found, reasons = judged(rules, METHODS | some, diverged=lost)
    assert found("X1b") == "supported"
    assert "Not run: random_exact, depth_low, depth_high." in reasons("X1b")
    assert "Left out, as the backward mode is another: random_once." in reasons("X1b")
    assert "Left out, with too few finished seeds: smallest (2 finished)." in reasons("X1b")


def test_where_hardly_anything_is_selected_selections_are_not_compared(rules):
    few = {name: replace(each, share=0.1) for name, each in CONTROLS.items()}  # of 10 modules
    found, reasons = judged(rules, METHODS | few)
    assert found("X1b") == "inconclusive"
    assert "Hardly anything is selected: largest keeps" in reasons("X1b")


def test_reasons_name_what_is_missing(rules):
    found, reasons = judged(rules, {name: METHODS[name] for name in ("vanilla", "mat")})
    assert (found("X1"), reasons("X1")) == ("not tested at this scale", "No runs of random on hmm.")
    assert reasons("X1b") == "No runs of largest on hmm."
    _, reasons = judged(rules, METHODS | {"largest": CONTROLS["largest"]})
    assert reasons("X1b") == "Largest was run on this task, but none of its controls."


@pytest.mark.parametrize(
    ("mat", "lost", "c5", "c6"),
    [
        ({}, "mat", "inconclusive", "inconclusive"),
        ({"extra_loss": 0.3}, "mat", "not supported", "not supported"),  # they would have counted against it too
        ({"extra_loss": 0.3}, "vanilla", "inconclusive", "not supported"),
        ({}, "random", "supported", "inconclusive"),
    ],
)
def test_survivors_alone_do_not_decide(rules, mat, lost, c5, c6):
    """Three of four seeds are enough, but the fourth diverged."""
    found, reasons = judged(rules, changed(mat=mat), seeds=range(4), diverged=[("hmm", lost, 3)])
    assert (found("C5"), found("C6")) == (c5, c6)
    if lost != "vanilla":
        assert f"Diverged runs: {lost} 1;" in reasons("C6")


def test_quality_that_was_never_there_is_not_kept(rules):
    tables = collected(tasks=["digits"], bounds={"majority_accuracy_test": 0.99})
    row = verdicts(tables, only(rules, "C5")).query("task == 'digits'").iloc[0]
    assert row["verdict"] == "inconclusive"
    assert "majority class's 99.0 %: nothing was learned" in row["reason"]
    tables = collected(tasks=["digits"])
    same = replace(tables, runs=tables.runs.assign(test_metric=0.5))
    row = verdicts(same, only(rules, "C5")).query("task == 'digits'").iloc[0]
    assert (row["verdict"], row["effect"]) == ("inconclusive", 0)
    assert "exactly equal over seeds" in row["reason"]


@pytest.mark.parametrize("name", ["X4", "X4r", "X5r"])
def test_the_tasks_that_a_claim_names_are_those_of_the_configs(rules, name):
    """VGGs; and what starts from weights that vanilla has trained, or others have published."""
    named = next(claim for claim in rules.claims if claim.id == name).tasks
    found = set()
    for path in (CLAIMS.parent / "config").glob("*.yaml"):
        config = read_scale(path)
        for label, task in config.tasks.items():
            if name.startswith("X4"):
                found |= {label} if config.of_task(label).model.name == "vgg" else set()
            elif task.start is not None and getattr(task.start, "method", "vanilla") == "vanilla":
                found.add(label)
    assert set(named) == found


@pytest.mark.parametrize(
    ("mat", "overhead", "verdict", "why"),
    [
        ({"cost": 0.5, "probe": 0.1}, 0.0, "supported", "saving in reference seconds of the whole run"),
        ({"cost": 0.5, "probe": 0.1}, 0.5, "not supported", "CPU seconds of steps beside dense ones on a processor"),
        ({"cost": 0.5, "probe": 0.1}, None, "not tested at this scale", "No step times of hmm were measured"),
        ({"cost": 1.4}, 0.0, "inconclusive", "no FLOP saving that could survive"),
    ],
)
def test_savings_in_seconds(rules, mat, overhead, verdict, why):
    made = {} if overhead is None else {"step_times": step_times(["hmm"], TASKS["hmm"].macs, overhead)}
    found, reasons = judged(rules, changed(mat=mat), made=made)
    assert found("X2") == verdict
    assert why in reasons("X2")


def test_vgg_is_judged_by_the_rules_of_c4_and_c5_on_its_tasks_with_freezeout_beside(rules):
    methods = changed(mat={"cost": 0.3}) | {"freezeout": Behaviour(0.8, 0.2, 0.5, mode="detach")}
    found, reasons = judged(rules, methods, task="digits")
    assert (found("C4"), found("C5"), found("X4")) == ("supported", "supported", "supported")
    assert "freezeout: saving" in reasons("X4")
    found, _ = judged(rules, changed(mat={"extra_loss": 0.3}), task="digits")
    assert (found("C5"), found("X4")) == ("not supported", "not supported")
    assert judged(rules, methods)[0]("X4") == "not tested at this scale"


@pytest.mark.parametrize(
    ("cost", "worse", "verdict"),
    [
        (0.3, (), "supported"),
        (0.3, ("digits",), "supported"),  # from scratch, which is only shown
        (0.3, ("hmm",), "not supported"),
        (1.6, ("hmm", "digits"), "not supported"),  # it fails everywhere alike
    ],
)
def test_fine_tuning_is_judged_by_c4_and_c5_on_its_own_tasks(rules, cost, worse, verdict):
    """hmm starts from trained weights."""
    runs = []
    for task in ("digits", "hmm"):
        methods = changed(mat={"cost": cost, "extra_loss": 0.1 if task in worse else -0.004})
        runs += made_runs(tasks=[task], methods=methods, start_hash="5ea1" if task == "hmm" else None)
    frame = verdicts(pool.pooled(runs), only(rules, "X5"))
    assert list(frame["task"].unique()) == ["all", "all tasks together"]
    assert set(frame["verdict"]) == {verdict}
    assert "From small to large is not tested" in frame["reason"].iloc[-1]
    decides = frame.set_index("part")["decides"]
    assert decides["saving on hmm, fine-tuning"] and not decides["saving on digits, from scratch"]


def test_a_correction_asks_more_of_every_claim_and_only_ever_leaves_it_open(frame, rules):
    superseded = {claim.id for claim in rules.claims if claim.superseded_by}
    old = frame["claim"].isin(superseded)
    assert set(frame[old]["after_correction"]) == {""} and frame[old]["confidence_corrected"].isna().all()
    frame = frame[~old]
    every = frame[frame["task"] == "all"].drop_duplicates("claim").set_index("claim")
    tested = every[every["verdict"] != "not tested at this scale"]
    assert set(frame["claims_tested"]) == {len(tested)}
    assert 0.95 <= tested["confidence_corrected"].min() < 1 - 0.05 / len(tested)
    assert tested["confidence_corrected"].max() == pytest.approx(1 - 0.05 / len(tested))
    assert every["confidence_corrected"].isna().eq(every["verdict"] == "not tested at this scale").all()
    kept = frame["after_correction"] == frame["verdict"]
    assert (kept | (frame["after_correction"] == "inconclusive")).all()
    asked = frame[(frame["p_value"] < 1)]
    held = asked["p_value"] <= (1 - asked["confidence_corrected"]) / 2
    assert kept[asked.index].eq(held).all()
    assert 0 < held.sum() < len(held)
    assert (asked["p_value"] <= LEVEL).all()
    of_tasks = frame[frame["task"] != "all"].groupby("claim")["p_value"].max()
    assert every["p_value"].dropna().ge(of_tasks[every["p_value"].dropna().index]).all()


def test_a_superseded_claim_changes_no_correction_and_is_named(frame, tables, rules):
    """The same verdicts, with and without it; what is more, as a claim that decides it would change them."""
    few = [claim for claim in rules.claims if claim.superseded_by is None]
    alone = verdicts(tables, replace(rules, claims=tuple(few)))
    again = frame[frame["claim"].isin([claim.id for claim in few])].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, again)
    deciding = tuple(replace(claim, superseded_by=None) for claim in rules.claims)
    levels = verdicts(tables, replace(rules, claims=deciding)).drop_duplicates("claim").set_index("claim")
    before = alone.drop_duplicates("claim").set_index("claim")["confidence_corrected"].dropna()
    assert (levels.loc[before.index, "confidence_corrected"] >= before).all()
    assert levels["confidence_corrected"].max() > before.max()
    text = verdicts_text.markdown(frame, rules, "x")
    assert "(Superseded by C4b.)" in text and "make no correction stricter; that was fixed after" in text


@pytest.mark.parametrize(("share", "after"), [(0.34, "supported"), (0.42, "inconclusive")])
def test_a_verdict_can_be_lost_by_correction(rules, share, after):
    """The active share's interval is inside the range at 95 %; at the level of all claims it may reach beyond."""
    tables = collected(tasks=["hmm"], methods=changed(mat={"share": share}))
    deciding = replace(rules, claims=tuple(replace(claim, superseded_by=None) for claim in rules.claims))
    found = verdicts(tables, deciding).query("claim == 'C7' and task == 'hmm'").iloc[0]
    assert (found["verdict"], found["after_correction"]) == ("supported", after)


def test_inconclusive_says_how_many_seeds_it_would_take_and_what_would_be_seen(rules):
    tables = collected(tasks=["hmm"], methods=changed(mat={"extra_loss": -0.004}), seeds=(0, 1))
    frame = verdicts(tables, rules)
    c5 = frame.query("claim == 'C5' and task == 'hmm'").iloc[0]
    assert c5["verdict"] == "inconclusive"
    assert int(c5["seeds_needed"]) >= 3
    assert f"it would take {c5['seeds_needed']} seeds at this spread, where 2 were run" in c5["reason"]
    assert pd.isna(c5["detectable"])  # its threshold is a margin, not 0
    c6 = frame.query("claim == 'C6' and task == 'hmm'").iloc[0]
    assert "With 80 % power 2 seeds show no less than" in c6["reason"]
    assert c6["detectable"] > 0
    decided = frame[(frame["verdict"] != "inconclusive")]
    assert (decided["seeds_needed"] == "").all()
    every = frame.query("claim == 'C5' and task == 'all'").iloc[0]
    assert every["seeds_needed"] == c5["seeds_needed"]


def test_the_bootstrap_stands_beside_and_is_narrower(tables, rules, frame):
    shown = frame[frame["bootstrap_low"].notna() & (frame["high"] > frame["low"]) & (frame["n"] == 3)]
    assert len(shown) > 15
    assert (shown["bootstrap_high"] - shown["bootstrap_low"] < shown["high"] - shown["low"] + 1e-9).all()
    pd.testing.assert_frame_equal(frame, verdicts(tables, rules))


def test_every_outcome_on_numbers_can_be_decided_again(tables, rules):
    for one in rules.claims:
        for place in places(tables, one):
            found = outcome(Case(tables, place, one, rules.convergence))
            if found.verdict != "not tested at this scale" and len(found.effects):
                assert found.decide is not None, one.id
                if min(value.n for value in found.deciding) >= one.min_seeds:
                    assert found.decide(found.deciding) == found.verdict


def test_a_task_that_vanilla_has_not_learned_says_so_beside_the_verdict(tables, rules, frame):
    sanity = pd.DataFrame({"task": ["digits", "hmm"], "verdict": ["not reached", "reached"]})
    with_levels = replace(tables, made={"sanity": sanity})
    frame, plain = verdicts(with_levels, rules), frame
    assert set(frame.loc[frame["task"] == "digits", "sanity"]) == {"not reached"}
    assert set(frame.loc[frame["task"] == "all", "sanity"]) == {""}
    assert list(frame["verdict"]) == list(plain["verdict"])
    text = verdicts_text.markdown(frame, rules, "x")
    assert "vanilla has not learned this task: the comparison may be empty" in text
    assert "may be empty)" not in verdicts_text.markdown(plain, rules, "x")


@pytest.mark.parametrize(
    ("ended", "tested"),
    [("converged", True), ("still improving", False), (PLATEAU, False), ("no vanilla runs", False), (None, False)],
)
def test_a_claim_that_needs_convergence_is_not_tested_where_vanilla_still_improved(tables, rules, ended, tested):
    claim = only(rules, "C4").claims[0]
    sanity = pd.DataFrame({"task": ["hmm"], "verdict": ["reached"]} | ({"converged": [ended]} if ended else {}))
    case = Case(replace(tables, made={"sanity": sanity}), "hmm", replace(claim, needs="converged"), rules.convergence)
    found, plain = outcome(case), outcome(case._replace(claim=claim))
    assert (found.verdict == plain.verdict) == tested
    if not tested:
        assert found.verdict == "not tested at this scale"
        assert (ended or "no level is stated") in found.reason


def test_what_a_claim_needs_is_known_and_asked_of_tasks_alone(tmp_path):
    for name, needs, message in (
        ("C4", "convergence", r"\(C4\).needs: expected 'converged'"),
        ("C2", "converged", r"\(C2\).needs: .*trainability is not judged by task"),
    ):
        path = changed_claims(
            tmp_path, lambda content, name=name, needs=needs: claim(content, name).update(needs=needs)
        )
        with pytest.raises(InputError, match=message):
            load_claims(path)


def test_exact_beside_detach_needs_both_modes(rules):
    found, reasons = judged(rules, changed(mat={"mode": "exact"}))
    assert found("X3") == "not tested at this scale"
    assert "modes are exact and exact" in reasons("X3")


def test_spectra_come_from_mat_when_vanilla_has_none(rules):
    _, reasons = judged(rules, changed(vanilla={"observes": False}))
    assert reasons("C1").startswith("In mat runs")


def test_no_spectra_and_unknown_metrics_leave_claims_untested(rules):
    blind = changed(**{name: {"observes": False, "charges": False} for name in METHODS})
    tables = collected(tasks=["hmm"], methods=blind, metrics=[{"name": "bleu", "higher_is_better": True}])
    frame = verdicts(tables, only(rules, "C1", "C5")).query("task == 'hmm'").set_index("claim")
    assert frame.loc["C1", "verdict"] == frame.loc["C5", "verdict"] == "not tested at this scale"
    assert "bleu" in frame.loc["C5", "reason"]


def test_thresholds_come_from_the_file(tables, tmp_path):
    for low, high, verdict in ((24, 44, "supported"), (60, 70, "not supported")):
        moved = {"thresholds": {"min_percent": low, "max_percent": high}}
        path = changed_claims(tmp_path, lambda content, moved=moved: claim(content, "C7").update(moved))
        frame = verdicts(tables, only(load_claims(path), "C7"))
        assert frame[frame["task"] == "all"]["verdict"].iloc[0] == verdict


def test_tasks_can_be_left_out_and_roles_must_be_single(tables, tmp_path):
    path = changed_claims(tmp_path, lambda content: claim(content, "C7").update(tasks=["hmm"]))
    rows = verdicts(tables, only(load_claims(path), "C7")).set_index("task")
    assert rows.loc["digits", "verdict"] == "not tested at this scale"
    assert rows.loc["all", "verdict"] == rows.loc["hmm", "verdict"] == "supported"
    path = changed_claims(tmp_path, lambda content: claim(content, "C7").update(uses={"method": ["mat", "random"]}))
    with pytest.raises(InputError, match="needs exactly one label"):
        verdicts(tables, only(load_claims(path), "C7"))


def test_files_are_written_and_read_back_for_the_terminal(tables, tmp_path):
    pooled.save(tables, tmp_path)
    write(tmp_path, "verdicts")
    first = (tmp_path / "verdicts.csv").read_bytes()
    write(tmp_path, "verdicts")
    assert (tmp_path / "verdicts.csv").read_bytes() == first
    assert len(pd.read_csv(tmp_path / "verdicts.csv")) > 20
    page = (tmp_path / "verdicts.md").read_text(encoding="utf-8")
    assert "**supported**" in page
    assert "min_spread 3" in page
    assert "Fixed before any run of its controls, after X1's result on digits at demo scale." in page
    assert "fixed before the runs" not in page
    assert "\nC4   " in terminal.scale(tmp_path, CLAIMS)
