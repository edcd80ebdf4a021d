"""Replays of recorded runs: by a run's own settings they are that run, to the module; shares are areas."""

import json

import numpy as np
import pytest

from mat.evidence.measures.replay import Trajectory, selections, shares, trajectory
from mat.evidence.runs import pooled
from mat.evidence.runs.pool import collect
from mat.evidence.tables import replay as table
from mat.experiments.config.spec import Spec
from mat.experiments.training.machine import Machine
from mat.experiments.training.run import train
from mat.methods.base import Selection
from mat.methods.mat import rank_of
from mat.records import archive
from mat.records.files import SPECTRA
from tests.evidence.synthetic import METHODS, seal, write_runs
from tests.experiments.training.test_loop import DIGITS, ROUTED, TEXT

RUNS = {
    "kind": (TEXT, {"scope": "kind", "alpha": 0.4, "beta": 0.3}, {"every": 3, "first": "warmup", "estimator": "step"}),
    "layer": (DIGITS, {"scope": "layer", "threshold": "share", "alpha": 0.9, "beta": 1e3}, {"every": 3, "first": 4}),
    "routed": (ROUTED, {"routed": True, "threshold": "top", "alpha": 0.1, "beta": 2.0}, {"every": 4}),
    "full": (TEXT, {"integral": "full", "alpha": 0.9, "beta": 2.0, "thaw": True}, {"every": 2, "grow_above": 0.3}),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_replay_by_a_run_s_own_settings_is_the_run(name, tmp_path):
    base, settings, probe = RUNS[name]
    spec = Spec.of({**base, "method": {"name": "mat", **settings}, "probe": {"n": 6, **probe}})
    train(spec, tmp_path / spec.name, Machine(cache=tmp_path))
    pooled.save(collect([tmp_path / spec.name]), tmp_path / "tables")
    tables = pooled.load(tmp_path / "tables")
    seen = trajectory(tables, tables.runs.iloc[0])
    assert seen.modules == tuple(row["module"] for row in _modules(tmp_path / spec.name))
    rows = tables.recorded(spec.name)[0].groupby("interval")
    for chosen, (_, own) in zip(selections(seen, spec.method.settings), rows, strict=True):
        for column in ("active", "frozen"):
            assert getattr(chosen, column) == set(own.loc[own[column], "module"])
        taus = [chosen.thresholds.get(module, np.nan) for module in own["module"]]
        np.testing.assert_array_equal(own["tau"], taus)
    chosen = selections(seen, spec.method.settings)
    assert len({one.active for one in chosen}) > 1, "it says nothing where the selection never changes"
    active = tables.curves["active_share"] * tables.curves["step"].diff()  # a share since the row before
    if name != "kind":  # there what is selected acts from the step after the probe
        assert shares(seen, chosen)[0] == pytest.approx(active.sum() / seen.steps, rel=1e-12)


def test_shares_are_areas_under_the_active_share():
    """Of 12 steps 3 before the first probe, with everything active; then 1 of 4 modules, and from step 8 on 2."""
    seen = Trajectory(tuple("abcd"), {}, {}, {}, (), (3, 8), 12)
    chosen = [Selection(frozenset("a")), Selection(frozenset("ab"))]
    assert shares(seen, chosen) == [pytest.approx((3 + 5 / 4 + 4 / 2) / 12)]
    assert shares(seen, chosen, 3) == pytest.approx([(3 + 1 / 4) / 4, 1 / 4, 1 / 2])


def test_a_table_of_replays_names_the_tasks_whose_spectra_were_not_recorded(tmp_path):
    """And a run that was recorded without them is read and packed as it is."""
    folders = write_runs(tmp_path / "demo/runs", ("digits", "hmm"), {"vanilla": METHODS["vanilla"]}, (0, 1))
    for folder in folders[2:]:
        (folder / SPECTRA).unlink()
        seal(folder)
    tables = collect(folders)
    frame = table.replay(tables)
    assert set(frame["task"]) == {"digits"} and set(frame["n"]) == {2} and set(frame["scope"]) == {"all", "layer"}
    assert "no finished run has its spectra recorded: Markov text, small BERT." in table.markdown(frame, tables)
    shares = frame[(frame["threshold"] == "share") & (frame["scope"] == "all")].set_index("alpha")
    for alpha, row in shares.iterrows():
        assert row["active_percent"] == pytest.approx(100 * rank_of(alpha, row["modules"]) / row["modules"])
    assert shares["lands"].tolist() == [20 <= percent <= 50 for percent in shares["active_percent"]]
    archive.export([tmp_path / "demo"], tmp_path / "runs.zip")
    with archive.unpacked(tmp_path / "runs.zip", tmp_path / "there") as items:
        states = {archive.state_of(item, tmp_path) for item in items}
        assert [(item.path / SPECTRA).is_file() for item in items] == [True, True, False, False]
    assert states == {archive.SAME}


def _modules(folder):
    return json.loads((folder / "run.json").read_text())["modules"]
