"""Tables and rules of branches: correlations against formulas, differences by hand, verdicts where they are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.claims.rules.generalisation import harms
from mat.evidence.claims.rules.trainability import goes_with
from mat.evidence.claims.verdicts import verdicts
from mat.evidence.stats.intervals import Interval
from mat.evidence.stats.rank_correlation import partial_spearman
from mat.evidence.tables import branches, generalisation, trainability
from tests.evidence import synthetic_branches
from tests.evidence.written import measured, write

TABLES = ("trainability", "generalisation")


def made(folder, *names, **options):
    """These tables of invented branches, as they are read back."""
    return tables_of(measured(synthetic_branches.branches(**options), folder / "jobs"), folder, *names)


def tables_of(files, folder, *names):
    write(folder, *names, measured=files)
    found = catalogue.load_made(folder, names)
    return [found[name] for name in names]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with the tables of the default branches and their pages, and the two tables."""
    folder = tmp_path_factory.mktemp("branches")
    return folder, made(folder, *TABLES, "trainability_modules")[:2]


def test_the_plain_correlation_is_spearmans():
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 6, (2, 15))  # with ties
    assert partial_spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def test_partial_correlations_are_those_of_the_formula():
    """First order: (ρ_xy − ρ_xz ρ_yz) / √((1 − ρ_xz²)(1 − ρ_yz²)); any order: −P_xy / √(P_xx P_yy), P = R⁻¹."""
    draw = np.random.default_rng(1)
    values = draw.standard_normal((4, 20)) + draw.standard_normal(20)
    x, y, z, w = values
    xy, xz, yz = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    by_hand = (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5
    assert partial_spearman(x, y, [z]) == pytest.approx(by_hand)
    precision = np.linalg.inv(stats.spearmanr(values.T).statistic)
    second = -precision[0, 1] / (precision[0, 0] * precision[1, 1]) ** 0.5
    assert partial_spearman(x, y, [z, w]) == pytest.approx(second)
    assert abs(second - xy) > 0.1


def test_a_correlation_without_values_is_unknown():
    x = np.arange(6.0)
    assert np.isnan(partial_spearman(np.ones(6), x))
    assert np.isnan(partial_spearman(x, x[::-1] ** 3, [x**2]))  # the control has the same ranks
    assert np.isnan(partial_spearman(x[:3], x[:3]))
    assert np.isnan(partial_spearman(x[:4], [1, 0, 3, 2], [[0, 1, 3, 2]]))


def test_the_decrease_is_counted_from_the_branch_that_trains_nothing(tmp_path):
    frame = branches.load(measured(synthetic_branches.branches(spread=0), tmp_path))
    rows = trainability.modules(frame)
    assert len(rows) == 2 * 3 * 2 * 12 and "none" not in set(rows["module"])
    np.testing.assert_allclose(rows["loss_decrease"], 0.1 * np.log(rows["lambda_max"]), atol=1e-12)
    np.testing.assert_allclose(rows["val_loss_decrease"], rows["loss_decrease"], atol=1e-12)


def test_trainability_of_known_rankings(tmp_path):
    (table,) = made(tmp_path, "trainability", weights={"lambda_max": 1.0, "gradient_norm": 2.0})
    assert set(table["checkpoint"]) == {"0.1", "0.5", "all"}
    cells = set(zip(table["quantity"], table["given"], strict=True))
    assert cells == {(name, "") for name in trainability.QUANTITIES} | set(trainability.PARTIAL)
    every = table[(table["family"] == "vgg") & (table["checkpoint"] == "all")].set_index(["quantity", "given"])
    assert every.loc[("gradient_norm", ""), "mean"] > 0.7
    assert every.loc[("lambda_max", "gradient_norm"), "mean"] > every.loc[("lambda_max", ""), "mean"]
    assert abs(every.loc[("trace", ""), "mean"]) < 0.4
    assert (every["n"] == 3).all() and (every["left_out"] == 0).all()


def test_all_is_each_seeds_mean_over_its_checkpoints(tmp_path):
    frame = branches.load(measured(synthetic_branches.branches(families=["vgg"]), tmp_path))
    each = trainability.by_seed(trainability.modules(frame)).query("quantity == 'trace' and given == ''")
    means = each.groupby("seed")["rho"].mean()
    found = trainability.summary(frame).query("quantity == 'trace' and given == '' and checkpoint == 'all'").iloc[0]
    assert found["mean"] == pytest.approx(means.mean())
    half = stats.t.ppf(0.975, 2) * means.std() / 3**0.5
    assert found["high"] == pytest.approx(min(1, means.mean() + half))


def test_diverged_branches_are_left_out_and_counted(tmp_path):
    frames = synthetic_branches.branches(families=["vgg"])
    frames[0].loc[0, "train_loss_after"] = np.nan
    last = frames[1].index[(frames[1]["branch"] == "top") & (frames[1]["step"] == 1)]
    frames[1].loc[last, ["train_loss_after", "val_loss_after", "memorised_after"]] = np.nan
    table, sets = tables_of(measured(frames, tmp_path / "jobs"), tmp_path, *TABLES)
    assert table.groupby("checkpoint")["left_out"].first().to_dict() == {"0.1": 1, "0.5": 0, "all": 1}
    counts = sets[(sets["set"] == "top") & (sets["minus"] == "bottom") & (sets["measure"] == "memorised")]
    assert counts.set_index("checkpoint")["n"].to_dict() == {"0.1": 3, "0.5": 2, "all": 2}
    assert "diverged: 1 modules" in (tmp_path / "trainability.md").read_text()
    assert "diverged: 1." in (tmp_path / "generalisation.md").read_text()


def test_differences_between_sets_are_paired_and_in_the_units_they_say(tmp_path):
    (table,) = made(tmp_path, "generalisation", spread=0, families=["vgg"])

    def mean(name, minus, measure):
        return generalisation.at(table, "vgg", name, minus, measure).mean

    assert mean("top", "", "val_loss_change") == pytest.approx(-0.3)
    assert mean("top", "bottom", "val_loss_change_percent") == pytest.approx(100 * -0.2 / 2.2)
    assert mean("top", "bottom", "memorised") == pytest.approx(-30)
    assert mean("top", "", "memorised_change") == pytest.approx(10)
    assert mean("top", "", "gap_change") == pytest.approx(-0.3 + 0.45)
    assert mean("top", "random", "train_loss_decrease") == pytest.approx(0.05)
    assert table.groupby("measure")["unit"].first()["val_loss_change"] == "nats"


def test_pages_say_what_they_stand_on(written, tmp_path):
    folder, _ = written
    page = (folder / "trainability.md").read_text()
    assert "n = 3 seeds" in page and "λ_max given gradient norm" in page and "`trainability.csv`" in page
    assert "VGG, ρ of the loss decrease over all checkpoints: λ_max is above 0" in page
    assert "λ_max given gradient norm and parameters is" in page and "how Adam starts" in page
    page = (folder / "generalisation.md").read_text()
    assert "| VGG | all | top − bottom |" in page and "memorised" in page
    assert "top minus that after bottom is below 0" in page
    (quiet,) = made(tmp_path, "generalisation", noise=0, families=["bert"])
    assert "Wrong training labels, %" not in generalisation.markdown(quiet)


@pytest.mark.parametrize(
    ("rho", "beyond", "verdict"),
    [
        ((0.5, 0.2, 0.8), (0.3, 0.1, 0.5), "supported"),
        ((0.5, 0.2, 0.8), (0.3, -0.1, 0.7), "partly"),
        ((0.5, 0.2, 0.8), (np.nan, np.nan, np.nan), "inconclusive"),
        ((0.2, 0.1, 0.4), (0.3, 0.1, 0.5), "inconclusive"),
        ((0.1, 0.05, 0.2), (0.3, 0.1, 0.5), "not supported"),
        ((-0.5, -0.7, -0.3), (0, -1, 1), "not supported"),
        ((0.5, -0.2, 0.9), (0.3, 0.1, 0.5), "inconclusive"),
    ],
)
def test_the_rule_of_c2(rho, beyond, verdict):
    intervals = [Interval(*values, 3) for values in (rho, beyond)]
    assert goes_with(*intervals, {"min_correlation": 0.3}) == verdict


@pytest.mark.parametrize(
    ("top", "none", "memorised", "verdict"),
    [
        ((-3, -1), (1, 2), None, "supported"),
        ((-3, -1), (-2, 2), None, "partly"),
        ((-3, -1), (-2, -1), (-0.5, 3), "partly"),
        ((-0.5, 3), (-2, 2), (-5, -1), "supported"),
        ((-0.5, 3), (-2, 2), (-0.5, 3), "not supported"),
        ((-0.5, 3), (-2, 2), (-5, 3), "inconclusive"),
        ((-0.5, 3), (1, 2), None, "partly"),  # training harms, small λ_max not more
        ((-0.5, 3), (1, 2), (-5, 3), "inconclusive"),
        ((1, 3), (-2, 2), (-5, -1), "partly"),  # better in loss, and more memorised
        ((-3, -1), (1, 2), (1, 5), "partly"),  # and the reverse
        ((-2, 3), (1, 2), None, "inconclusive"),
        ((np.nan, np.nan), (1, 2), None, "inconclusive"),
    ],
)
def test_the_rule_of_c3(top, none, memorised, verdict):
    intervals = [None if v is None else Interval(sum(v) / 2, *v, 3) for v in (top, none, memorised)]
    assert harms(*intervals, {"relevant_percent": 1, "relevant_points": 1}) == verdict


@pytest.mark.parametrize(
    ("options", "c2", "c3"),
    [
        ({}, "supported", "supported"),
        ({"weights": {"trace": 1.0}, "sets": dict.fromkeys(synthetic_branches.SETS, (-0.1, 0.2))}, None, None),
        ({"noise": 0, "sets": {**synthetic_branches.SETS, "none": (0.1, 0)}}, "supported", "partly"),
        ({"seeds": (0, 1)}, "inconclusive", "inconclusive"),
    ],
)
def test_claims_are_judged_per_family(tmp_path, tables, rules, written, options, c2, c3):
    both = made(tmp_path, *TABLES, **options) if options else written[1]
    found = dict(zip(TABLES, both, strict=True))
    alone = replace(rules, claims=tuple(claim for claim in rules.claims if claim.id in ("C2", "C3")))
    frame = verdicts(replace(tables, made=found), alone)
    for claim, verdict in (("C2", c2), ("C3", c3)):
        rows = frame[(frame["claim"] == claim) & (frame["task"] != "all")]
        assert set(rows["task"]) == {"bert", "vgg"}
        if verdict is None:
            assert "supported" not in set(rows["verdict"])
        else:
            assert set(rows["verdict"]) == {verdict}
    memorised = rows[rows["part"].str.startswith("wrong labels memorised")]
    assert set(memorised["decides"]) == {options.get("noise", 0.2) > 0}


@pytest.mark.parametrize(
    ("changes", "noise", "verdict"),
    [
        ({}, 0.2, "supported"),
        ({}, 0, "supported"),
        ({"none": (0.1, 0.1)}, 0, "not supported"),  # it helps less than top: no harm
        ({"top": (-0.1, 0.5)}, 0.2, "partly"),  # training harms, small λ_max no more than large
        ({"all": (-0.2, 0.1)}, 0.2, "inconclusive"),  # training all does nothing
        ({"all": (-0.2, 0.1)}, 0, "inconclusive"),
        ({"all": (-0.4, 0.1)}, 0.2, "inconclusive"),  # it memorises nothing
    ],
)
def test_harm_is_asked_for_where_training_does_anything(tmp_path, tables, rules, changes, noise, verdict):
    how = {"sets": synthetic_branches.SETS | changes, "noise": noise, "families": ["vgg"], "seeds": range(4)}
    (table,) = made(tmp_path, "generalisation", **how)
    alone = replace(rules, claims=tuple(claim for claim in rules.claims if claim.id == "C3b"))
    frame = verdicts(replace(tables, made={"generalisation": table}), alone).query("task == 'vgg'")
    assert set(frame["verdict"]) == {verdict}
    old = table[~((table["set"] == "all") & (table["minus"] == "none"))]
    frame = verdicts(replace(tables, made={"generalisation": old}), alone).query("task == 'vgg'")
    assert "does not compare training all" in frame["reason"].iloc[0]


def test_tables_that_do_not_belong_together_are_refused(tmp_path):
    frames = synthetic_branches.branches()
    with pytest.raises(InputError, match=r"different code: mat\.controller"):
        branches.load(measured([frames[0], frames[1].assign(code='{"mat.controller": "other"}')], tmp_path / "a"))
    with pytest.raises(InputError, match="lacks the columns gradient_norm"):
        branches.load(measured([frames[0].drop(columns="gradient_norm")], tmp_path / "b"))
    with pytest.raises(InputError, match="no branches of kind 'set'"):
        tables_of(measured([frames[0].query("part == 'module'")], tmp_path / "c"), tmp_path, "generalisation")


def test_the_order_in_which_jobs_are_given_changes_no_table(tmp_path):
    files = measured(synthetic_branches.branches(), tmp_path / "jobs")
    one, other = (tables_of(order, tmp_path / name, *TABLES) for name, order in (("a", files), ("b", files[::-1])))
    for table, again in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(table, again)


def test_the_same_tables_give_the_same_bytes(written, tmp_path):
    folder, _ = written
    made(tmp_path, *TABLES, "trainability_modules")
    for file in ("trainability.csv", "trainability.md", "generalisation.csv", "trainability_modules.csv"):
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes()
    assert len(pd.read_csv(tmp_path / "trainability_modules.csv")) == 2 * 3 * 2 * 12
