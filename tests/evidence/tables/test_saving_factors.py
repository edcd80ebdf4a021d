"""Where a saving comes from, on invented runs."""

import numpy as np
import pytest

from mat.evidence.measures import levels
from mat.evidence.tables.saving_factors import FACTORS, page, saving_factors
from tests.evidence.synthetic import METHODS, collected


@pytest.fixture(scope="module")
def made():
    tables = collected(tasks=["hmm"], methods={name: METHODS[name] for name in ("vanilla", "mat", "multirate")})
    return tables, saving_factors(tables)


def test_the_factors_multiply_to_the_ratio_of_compute_over_the_seeds_that_reached_the_level(made):
    tables, frame = made
    assert set(frame["method"]) == {"mat", "multirate"} and len(frame) == 2 * len(levels.FRACTIONS)
    for row in frame[frame["n_finished"] > 0].itertuples():
        level = levels.log_levels(tables, "hmm")[row.fraction]
        mine, theirs = (levels.to_level(tables, "hmm", name, level, "executed") for name in (row.method, "vanilla"))
        ratios = (mine / theirs).dropna()
        assert row.n_finished == len(ratios)
        assert row.compute_ratio_mean == pytest.approx(np.exp(np.log(ratios).mean()))
        assert row.compute_ratio_mean == pytest.approx(
            row.steps_ratio_mean * row.step_compute_ratio_mean * row.probes_ratio_mean
        )


def test_a_step_costs_what_the_method_pays_for_one_and_only_charged_probes_add(made):
    tables, frame = made
    rows = frame.query("fraction == 0.5").set_index("method")
    for name in rows.index:
        cost = [
            np.log(curve["macs_executed"].iloc[-1] / curve["step"].iloc[-1])
            for label in (name, "vanilla")
            for curve in [tables.curve(run["run"]) for run in tables.finished_runs("hmm", label)]
        ]
        mine, theirs = np.array(cost).reshape(2, -1)  # of runs whose steps all cost alike
        assert rows.loc[name, "step_compute_ratio_mean"] == pytest.approx(np.exp((mine - theirs).mean()))
    assert rows.loc["mat", "probes_ratio_mean"] > 1 == rows.loc["multirate", "probes_ratio_mean"]


def test_a_level_that_no_seed_of_a_method_reached_is_not_shown(made):
    frame = made[1].copy()
    frame.loc[frame["method"] == "multirate", "n_finished"] = 0
    (section,) = page(frame).sections
    assert {row[0] for row in section.rows} == {"MAT"}
    assert all(len(row) == 3 + len(FACTORS) for row in section.rows)
    empty = page(saving_factors(collected(tasks=["hmm"], methods={"vanilla": METHODS["vanilla"]})))
    assert empty.sections[0].title == "Not tested"
