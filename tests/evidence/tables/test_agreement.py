"""Rank agreement: closed forms, scipy's values, degenerate rankings, the choice, and claim X6 on invented tables."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.claims.rules.rankings import survives
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.claims.verdicts import verdicts
from mat.evidence.stats.intervals import Interval
from mat.evidence.stats.rank_correlation import spearman
from mat.evidence.tables import agreement, estimator_choice
from mat.evidence.tables.agreement import reference_of, summary
from mat.ranking import kendall, signs
from tests.evidence.synthetic import METHODS, collected
from tests.evidence.synthetic_agreement import ESTIMATORS, measurements
from tests.evidence.written import CLAIMS, measured, write

REFERENCES = ["full", "trace", "projected"]
THRESHOLDS = {"survive_tau": 0.8, "lost_tau": 0.6}


def both(first, second):
    """τ_b and ρ of two rankings."""
    a, b = (signs(np.array([values], dtype=float)) for values in (first, second))
    return kendall(a, b)[0], spearman(a, b)[0]


def table(**options):
    return summary(pd.concat(measurements(**options), ignore_index=True), REFERENCES)


def cell(frame, **wanted):
    """The one row with these values."""
    rows = frame[np.logical_and.reduce([frame[key] == value for key, value in wanted.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


DEFAULT = {"checkpoint": "trained", "estimator": "sum_of_logits", "normalisation": "raw", "n": 64}


def test_closed_forms():
    assert both([1, 2, 3, 4], [10, 20, 30, 40]) == (1, 1)
    assert both([1, 2, 3, 4], [4, 3, 2, 1]) == (-1, -1)
    tau, rho = both([1, 2, 3, 4], [1, 2, 4, 3])  # one of six pairs swapped
    assert tau == pytest.approx(4 / 6) and rho == pytest.approx(0.8)
    tau, _ = both([1, 1, 2], [1, 2, 3])  # a tie: 2 of 3 pairs ordered in the first
    assert tau == pytest.approx(2 / math.sqrt(2 * 3))


@given(st.data())
def test_both_are_what_scipy_says(data):
    ranks = st.lists(st.integers(0, 5), min_size=8, max_size=8).filter(lambda v: len(set(v)) > 1)
    first, second = data.draw(ranks), data.draw(ranks)
    tau, rho = both(first, second)
    assert tau == pytest.approx(stats.kendalltau(first, second).statistic, abs=1e-12)
    assert rho == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def test_rounding_errors_are_ties_and_scales_do_not_matter():
    assert both([1.0, 1.0 + 1e-9, 2.0], [5, 5, 7])[0] == 1
    assert both([1e-9, 2e-9, 3e-9], [1e9, 2e9, 3e9])[0] == 1
    assert both([0.0, 1e-30, 1.0], [1, 2, 3])[0] == 1, "a zero kernel is below every other"


@pytest.mark.parametrize("bad", [[0, 0, 0], [2, 2, 2], [math.nan, 1, 2], [math.inf, 1, 2]])
def test_a_degenerate_ranking_has_no_correlation(bad):
    assert np.isnan(both(bad, [1, 2, 3])).all()
    assert np.isnan(both([1, 2, 3], bad)).all()


def test_degenerate_rankings_are_counted_and_left_out():
    frames = measurements(families=["vgg"])
    broken = frames[0]["estimator"].eq("sum_of_logits") & frames[0]["share"].eq(1)
    frames[0].loc[broken, "lambda_max"] = 0.0
    found = cell(summary(pd.concat(frames), REFERENCES), **DEFAULT, comparison="reference")
    assert (found["rankings"], found["degenerate"]) == (3 * 2, 2)
    assert found["n_seeds"] == 2 and found["tau_mean"] > 0.6
    for frame in frames:
        frame["lambda_max"] = 0.0
    found = cell(summary(pd.concat(frames), REFERENCES), **DEFAULT, comparison="reference")
    assert found["degenerate"] == found["rankings"] == 6
    assert found["n_seeds"] == 0 and math.isnan(found["tau_mean"])


def test_without_noise_everything_agrees():
    exact = [(name, r, 0.0, passes) for name, r, _, passes in ESTIMATORS]
    frame = table(
        families=["vgg"], estimators=exact, sample_noise=0, normalisations={"raw": 0, "cosine": 0, "per_parameter": 0}
    )
    assert (frame["tau_mean"] == 1).all() and (frame["degenerate"] == 0).all()
    assert set(frame["comparison"]) == {"reference", "largest_n", "probe_sets", "raw"}


def test_the_mean_is_scipys_and_the_interval_is_over_seeds():
    frames = measurements(families=["vgg"])
    found = cell(summary(pd.concat(frames), REFERENCES), **DEFAULT, comparison="reference")
    means = []
    for frame in frames:
        chosen = frame[(frame["n"] == 64) & (frame["normalisation"] == "raw") & (frame["share"] > 0)]
        values = [
            stats.kendalltau(
                *(rows.loc[rows["estimator"] == name, "lambda_max"] for name in ("sum_of_logits", "full"))
            ).statistic
            for _, rows in chosen.groupby(["share", "probe_set"])
        ]
        assert len(values) == 2
        means.append(np.mean(values))
    half = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / math.sqrt(3)
    assert found["tau_mean"] == pytest.approx(np.mean(means))
    assert found["tau_low"] == pytest.approx(max(-1, np.mean(means) - half))
    assert found["n_seeds"] == 3


def test_a_reference_is_not_compared_with_itself_nor_the_largest_n():
    frame = table(families=["vgg"])
    assert not ((frame["comparison"] == "reference") & (frame["estimator"] == "full")).any()
    assert not ((frame["comparison"] == "largest_n") & (frame["n"] == 128)).any()
    assert not ((frame["comparison"] == "raw") & (frame["normalisation"] == "raw")).any()


def test_more_samples_and_less_noise_agree_more():
    frame = table(families=["vgg"], modules=24, sample_noise=3)
    rows = frame[(frame["checkpoint"] == "trained") & (frame["normalisation"] == "raw")]
    tau = rows[(rows["comparison"] == "reference") & (rows["n"] == 64)].set_index("estimator")["tau_mean"]
    assert list(tau.sort_values().index) == ["loss", "sum_of_logits", "projected_8", "trace"]
    tau = rows[(rows["comparison"] == "probe_sets") & (rows["estimator"] == "trace")].set_index("n")["tau_mean"]
    assert tau[16] < tau[128]


def test_the_reference_is_the_first_that_is_measured_at_the_default_n():
    frame = agreement.named(measurements(families=["vgg"], seeds=[0])[0])
    assert reference_of(frame, REFERENCES) == "full"
    few = frame[(frame["estimator"] != "full") | (frame["n"] < 64)]
    assert reference_of(few, REFERENCES) == "trace"
    text = [("sum_of_logits", 0, 0.1, 1), ("projected", 8, 0.1, 8), ("projected", 64, 0.1, 64)]
    frame = agreement.named(measurements(families=["bert"], seeds=[0], estimators=text)[0])
    assert reference_of(frame, REFERENCES) == "projected_64"
    assert reference_of(frame, ["full", "trace"]) is None


def test_without_a_reference_there_are_no_comparisons_with_one():
    only = [("sum_of_logits", 0, 0.1, 1), ("loss", 0, 0.1, 1)]
    frame = table(families=["bert"], estimators=only)
    assert "reference" not in set(frame["comparison"])
    assert estimator_choice.choose(frame, 0.05).picked is None
    assert math.isnan(estimator_choice.changes(frame, "bert")["reference"].mean)
    assert "none" not in agreement.markdown(frame).splitlines()[0]


class TestTheChoice:
    def test_the_cheapest_within_the_margin_is_picked(self):
        frame = table(modules=24)
        strict, loose = (estimator_choice.choose(frame, margin) for margin in (0.02, 0.2))
        assert loose.picked == "sum_of_logits" and "is the one picked" in loose.reason
        assert strict.picked != "sum_of_logits" and "is not the one picked" in strict.reason
        assert list(loose.candidates["estimator"]) == ["loss", "sum_of_logits", "projected_8", "trace"]

    def test_one_family_in_which_it_fails_is_enough(self):
        good = measurements(families=["bert"], modules=24)
        bad = [(n, r, 1.5 if n == "sum_of_logits" else s, p) for n, r, s, p in ESTIMATORS]
        frame = summary(pd.concat(good + measurements(families=["vgg"], estimators=bad, modules=24)), REFERENCES)
        assert estimator_choice.choose(frame, 0.2).picked == "projected_8"

    def test_what_is_not_measured_in_every_family_is_no_candidate(self):
        text = [("sum_of_logits", 0, 0.1, 1), ("projected", 8, 0.3, 8), ("projected", 32, 0.0, 32)]
        frame = summary(
            pd.concat(measurements(families=["vgg"]) + measurements(families=["bert"], estimators=text)), REFERENCES
        )
        choice = estimator_choice.choose(frame, 2.0)
        assert set(choice.candidates["estimator"]) == {"sum_of_logits", "projected_8"}

    def test_where_nothing_is_good_enough_the_least_bad_is_picked_and_it_is_said(self):
        frame = table(estimators=[("full", 0, 0, 10), ("trace", 0, 0.0, 10), ("sum_of_logits", 0, 2.0, 1)])
        assert estimator_choice.choose(frame, 0.05).picked == "trace"
        bert = measurements(families=["bert"], estimators=[("trace", 0, 0, 9), ("sum_of_logits", 0, 2.0, 1)])
        vgg = measurements(
            families=["vgg"], estimators=[("full", 0, 0, 10), ("trace", 0, 0, 9), ("sum_of_logits", 0, 2.0, 1)]
        )
        choice = estimator_choice.choose(summary(pd.concat(bert + vgg), REFERENCES), 0.05)
        assert choice.picked == "sum_of_logits" and not choice.candidates["eligible"].any()
        assert "No candidate is within 0.05" in choice.reason and "falls short least" in choice.reason


def between(low, high):
    return Interval((low + high) / 2, low, high, 3)


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([between(0.8, 0.9), between(0.85, 1)], SUPPORTED),
        ([between(0.8, 0.9), between(0.1, 0.59)], PARTLY),
        ([between(0.7, 0.9), between(0.1, 0.59)], NOT_SUPPORTED),
        ([between(0.8, 0.9), between(0.5, 0.9)], INCONCLUSIVE),
        ([between(0.8, 0.9), Interval(1, math.nan, math.nan, 1)], INCONCLUSIVE),
    ],
)
def test_survival(parts, verdict):
    assert survives(parts, THRESHOLDS) == verdict


class TestTheClaim:
    @pytest.fixture
    def judged(self, rules):
        """What X6 says of invented measurements; of none without options."""
        alone = replace(rules, claims=tuple(claim for claim in rules.claims if claim.id == "X6"))
        runs = collected(tasks=("digits",), methods={"vanilla": METHODS["vanilla"]})
        return lambda **how: verdicts(replace(runs, made={"agreement": table(**how)} if how else {}), alone)

    def test_supported_when_every_change_is_survived(self, judged):
        exact = [(name, r, 0.0, passes) for name, r, _, passes in ESTIMATORS]
        calm = {"raw": 0.0, "cosine": 0.01, "per_parameter": 0.0}
        found = judged(estimators=exact, normalisations=calm, sample_noise=0.01)
        assert set(found["verdict"]) == {"supported"}
        assert set(found["task"]) == {"all", "bert", "switch", "vgg"}
        assert (found["task"] == "vgg").sum() == 5
        assert found["unit"].iloc[1] == "Kendall τ_b" and found["n"].min() == 3
        assert "reference full. The rule picks" in found["reason"].iloc[1]

    def test_a_lost_normalisation_makes_it_partly(self, judged):
        exact = [(name, r, 0.0, passes) for name, r, _, passes in ESTIMATORS]
        wild = {"raw": 0.0, "cosine": 50.0, "per_parameter": 0.0}
        found = judged(families=["vgg"], estimators=exact, normalisations=wild, sample_noise=0.01, modules=24)
        assert set(found["verdict"]) == {"partly"}

    def test_nothing_survives(self, judged):
        wild = {"raw": 0.0, "cosine": 50.0, "per_parameter": 50.0}
        noisy = [(n, r, 50.0, p) for n, r, _, p in ESTIMATORS]
        found = judged(families=["vgg"], estimators=noisy, normalisations=wild, modules=24)
        assert set(found["verdict"]) == {"not supported"}

    def test_a_change_that_was_not_measured_leaves_it_open(self, judged):
        exact = [(name, r, 0.0, passes) for name, r, _, passes in ESTIMATORS]
        calm = {"raw": 0.0, "cosine": 0.0, "per_parameter": 0.0}
        found = judged(families=["vgg"], estimators=exact, normalisations=calm, sizes=(16, 64), sample_noise=0)
        assert set(found["verdict"]) == {"inconclusive"}

    def test_too_few_seeds_are_inconclusive(self, judged):
        found = judged(families=["vgg"], seeds=(0, 1))
        assert set(found["verdict"]) == {"inconclusive"}

    def test_a_scale_without_estimators_is_not_tested(self, judged):
        found = judged()
        assert list(found["verdict"]) == ["not tested at this scale"]
        assert "Nothing was measured" in found["reason"].item()


class TestFiles:
    def test_table_and_page_come_out_and_do_not_depend_on_the_order(self, tmp_path):
        files = measured(measurements(modules=6), tmp_path)
        for name, order in (("a", files), ("b", files[::-1])):
            write(tmp_path / name, "agreement", measured=order)
        for name in ("agreement.csv", "agreement.md"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        page = (tmp_path / "a/agreement.md").read_text()
        assert "default n" in page and "reference" in page and "0 of 6" in page
        again = catalogue.load_made(tmp_path / "a", ["agreement"])["agreement"]
        assert {"0", "1", "trained"} == set(again["checkpoint"])
        assert catalogue.load_made(tmp_path, ["agreement"]) == {}

    @pytest.mark.parametrize(
        ("column", "message"), [("scale", "different scale"), ("code", "different code: mat.controller"),
                                ("setup", "different setup"), ("data_hash", "different data_hash")]
    )  # fmt: skip
    def test_mixtures_are_refused(self, tmp_path, column, message):
        frames = measurements(families=["vgg"])
        frames[0][column] = '{"mat.controller": "other"}' if column == "code" else "other"
        with pytest.raises(InputError, match=message):
            agreement.load(measured(frames, tmp_path))

    def test_a_seed_twice_nothing_and_broken_files_are_refused(self, tmp_path):
        frames = measurements(families=["vgg"], seeds=[0])
        with pytest.raises(InputError, match="each seed of family vgg once"):
            agreement.load(measured(frames * 2, tmp_path / "a"))
        with pytest.raises(InputError, match="at least one table"):
            agreement.load([])
        with pytest.raises(InputError, match="lacks the columns kind"):
            agreement.load(measured([frames[0].drop(columns="kind")], tmp_path / "b"))
        (damaged,) = measured(frames, tmp_path / "c")
        damaged.write_bytes(damaged.read_bytes()[:-1])
        with pytest.raises(InputError, match=r"is not what 0\.csv\.gz\.sha256 beside it was written for"):
            agreement.load([damaged])

    def test_a_claims_file_without_the_rule_is_refused(self, tmp_path):
        text = CLAIMS.read_text()
        (tmp_path / "claims.yaml").write_text(text[: text.index("  - id: X6")])
        with pytest.raises(InputError, match="no claim has the measure 'rankings'"):
            write(tmp_path, "agreement", claims=tmp_path / "claims.yaml")
