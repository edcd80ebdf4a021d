"""The price list of estimators on invented measurements: exact pairs, degenerate rankings, roles, page, claim X6b."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mat.errors import InputError
from mat.evidence.claims.load import load_claims
from mat.evidence.claims.verdicts import verdicts
from mat.evidence.tables.estimator_price import candidates
from mat.evidence.tables.price_list import best, markdown, price_list
from tests.evidence.synthetic import METHODS, collected
from tests.evidence.synthetic_agreement import ESTIMATORS, measurements
from tests.evidence.written import CLAIMS, measured, write

REFERENCES = ["full", "trace", "projected"]
SMALL = {"sizes": (16, 64), "seeds": (0, 1, 2)}


def table(reach=0.8, **options):
    return price_list(pd.concat(measurements(**SMALL | options), ignore_index=True), REFERENCES, reach)


def cell(frame, **wanted):
    """The one row with these values."""
    rows = frame[np.logical_and.reduce([frame[key] == value for key, value in wanted.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


LOSS = {"share": 1, "estimator": "loss", "positions": 0, "n": 16}


def test_the_reference_is_another_probe_sets_at_its_largest_n():
    """By scipy, pair by pair."""
    frames = measurements(families=["vgg"], **SMALL)
    found = cell(price_list(pd.concat(frames), REFERENCES, 0.8), **LOSS)
    means = []
    for frame in frames:

        def ranking(probe_set, estimator, n, frame=frame):
            chosen = (frame["share"] == 1) & (frame["probe_set"] == probe_set) & (frame["normalisation"] == "raw")
            return frame.loc[chosen & (frame["estimator"] == estimator) & (frame["n"] == n), "lambda_max"]

        pairs = itertools.permutations(range(2), 2)
        means.append(np.mean([stats.kendalltau(ranking(a, "loss", 16), ranking(b, "full", 64))[0] for a, b in pairs]))
    half = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / math.sqrt(3)
    assert found["tau_mean"] == pytest.approx(np.mean(means))
    assert found["tau_low"] == pytest.approx(max(-1, np.mean(means) - half))
    assert (found["n_seeds"], found["pairs"], found["degenerate"]) == (3, 3 * 2, 0)


def test_an_estimator_without_a_ranking_counts_as_0_and_a_reference_without_one_is_left_out():
    frames = measurements(families=["vgg"], seeds=[0], sizes=(16, 64))
    frame, first = frames[0], frames[0]["probe_set"].eq(0)
    whole = cell(price_list(frame, REFERENCES, 0.8), **LOSS)
    frame.loc[first & frame["estimator"].eq("loss"), "lambda_max"] = 0.0
    half = cell(price_list(frame, REFERENCES, 0.8), **LOSS)
    assert (half["pairs"], half["degenerate"]) == (2, 1) and half["tau_mean"] != whole["tau_mean"]
    frame.loc[first & frame["estimator"].eq("full"), "lambda_max"] = math.nan
    lost = cell(price_list(frame, REFERENCES, 0.8), **LOSS)
    # what is left is the zero of probe set 0 beside the reference of set 1
    assert (lost["pairs"], lost["degenerate"], lost["tau_mean"]) == (1, 1, 0)


def test_costs_are_shares_of_an_epoch():
    found = cell(table(families=["vgg"]), **LOSS)
    assert found["macs_share"] == pytest.approx((16e6 + 1e4) / 1e9, rel=1e-12)
    assert found["seconds_share"] == pytest.approx(0.01 / 2, rel=1e-12)


def test_the_default_and_the_reference_are_one_row_each_of_every_checkpoint():
    frame = table(families=["vgg"], positions=(0, 4))
    for role, estimator in (("is_default", "sum_of_logits"), ("is_reference", "full")):
        rows = frame[frame[role]]
        assert list(rows["estimator"]) == [estimator] * 2 and list(rows["share"]) == [0, 1]
        assert set(rows["n"]) == {64} and set(rows["positions"]) == {0}
    assert frame["is_picked"].sum() == 1 and frame.loc[frame["is_picked"], "share"].eq(1).all()


def test_a_default_of_some_positions_is_the_row_at_those():
    frame = table(families=["vgg"], positions=(0, 4), default_positions=4)
    rows = frame[frame["is_default"]]
    assert list(rows["share"]) == [0, 1]
    assert set(rows["estimator"]) == {"sum_of_logits"} and set(rows["n"]) == {64} and set(rows["positions"]) == {4}


def test_an_estimator_that_a_family_has_at_fewer_n_is_a_candidate_at_those():
    """A step's kernel is of no more samples than a batch has."""
    frame = table(families=["bert", "vgg"], estimators=[*ESTIMATORS, ("step", 0, 0.0, 0.01)])
    small = frame[(frame["family"] == "bert") | (frame["estimator"] != "step") | (frame["n"] == 16)]
    found = candidates(small)
    assert set(found.loc[found["estimator"] == "step", "n"]) == {16}
    assert set(found.loc[found["estimator"] == "loss", "n"]) == {16, 64}


def test_what_is_picked_is_marked_in_every_family_also_where_all_positions_stand_for_some():
    text = [("loss", 0, 0.0, 1), ("full", 0, 0.0, 10)]
    calm = {"estimators": text, "sample_noise": 0.0}
    frames = measurements(families=["bert"], positions=(0, 4), **SMALL, **calm)
    for frame in frames:  # all positions are worthless there
        frame.loc[frame["positions"].eq(0) & frame["estimator"].eq("loss"), "lambda_max"] = 1.0
    frames += measurements(families=["vgg"], **SMALL, **calm)
    found = price_list(pd.concat(frames), REFERENCES, 0.8)
    found = found[found["is_picked"]].set_index("family")
    assert dict(found["positions"]) == {"bert": 4, "vgg": 0}
    assert set(found["estimator"]) == {"loss"} and set(found["n"]) == {16}


def test_without_a_reference_there_are_prices_alone():
    frame = table(families=["bare"], estimators=[("loss", 0, 0.1, 1)])
    assert frame["tau_mean"].isna().all() and frame["macs_share"].gt(0).all() and set(frame["reference"]) == {""}
    assert "reference none" in markdown(frame)


def test_best_is_what_no_other_beats():
    rows = pd.DataFrame({"cost": [3, 1, 2, 2, 4], "tau": [0.5, 0.2, 0.7, 0.6, 0.7]})
    assert list(best(rows, "cost", "tau").index) == [1, 2]


class TestTheClaim:
    def judged(self, **options):
        runs = collected(["digits"], {"vanilla": METHODS["vanilla"]})
        found = verdicts(replace(runs, made={"price_list": table(**options)}), load_claims(CLAIMS))
        return found[found["claim"] == "X6b"].set_index("task")

    def test_it_is_supported_where_the_default_reaches(self):
        exact = [(name, r, 0.0, passes) for name, r, _, passes in ESTIMATORS]
        found = self.judged(families=["vgg"], estimators=exact, sample_noise=0.01)
        assert set(found["verdict"]) == {"supported"}
        assert list(found.loc["vgg", "decides"]) == [True, False], "the reference with itself is shown beside"
        assert "Default sum_of_logits, n = 64. The cheapest whose lower bound" in found.loc["vgg", "reason"].iloc[0]

    def test_it_is_not_supported_where_the_default_is_noise(self):
        wild = [(name, r, 50.0 * (name == "sum_of_logits"), passes) for name, r, _, passes in ESTIMATORS]
        found = self.judged(families=["vgg"], estimators=wild, modules=24)
        assert set(found["verdict"]) == {"not supported"}

    def test_two_seeds_are_too_few(self):
        found = self.judged(families=["vgg"], seeds=(0, 1))
        assert set(found["verdict"]) == {"inconclusive"} and "needs 3" in found.loc["vgg", "reason"].iloc[0]

    def test_a_default_that_was_not_measured_leaves_it_open(self):
        found = self.judged(families=["vgg"], estimators=ESTIMATORS[:2])
        assert set(found["verdict"]) == {"inconclusive"} and "was not measured" in found.loc["vgg", "reason"]


class TestFiles:
    def test_table_and_page_come_out_and_do_not_depend_on_the_order(self, tmp_path):
        files = measured(measurements(families=["bert", "vgg"], **SMALL), tmp_path)
        for name, order in (("a", files), ("b", files[::-1])):
            write(tmp_path / name, "price_list", measured=order)
        for name in ("price_list.csv", "price_list.md"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        page = (tmp_path / "a/price_list.md").read_text()
        assert "published" in page and "default" in page and "The rule, fixed before" in page

    def test_tables_of_another_layout_are_refused_and_it_says_why(self, tmp_path):
        frames = measurements(families=["vgg"], seeds=[0], sizes=(64,))
        old = [frame.drop(columns=["positions", "epoch_macs"]) for frame in frames]
        with pytest.raises(InputError, match="lacks the columns positions, epoch_macs; was it written by this version"):
            write(tmp_path, "price_list", measured=measured(old, tmp_path / "old"))

    def test_a_claims_file_without_the_rule_is_refused(self, tmp_path):
        text = CLAIMS.read_text()
        (tmp_path / "claims.yaml").write_text(text[: text.index("  - id: X6b")])
        files = measured(measurements(families=["vgg"], seeds=[0], sizes=(64,)), tmp_path)
        with pytest.raises(InputError, match="no claim has the measure 'default_estimator'"):
            write(tmp_path, "price_list", measured=files, claims=tmp_path / "claims.yaml")
