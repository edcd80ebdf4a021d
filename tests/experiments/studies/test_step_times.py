"""Step times: what is timed is a step of the run, with that share of modules; the table, the page, refusals."""

from functools import partial

import pytest

from mat.errors import InputError
from mat.evidence.measures.step_time import StepTimes
from mat.evidence.tables import step_times as table
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.studies.registry import STUDIES
from mat.experiments.studies.step_times.measure import _Side
from mat.experiments.training.machine import HERE
from mat.partition.draw import draw
from mat.records.files import ENDING, write_record
from mat.records.seal import beside, write_seal
from tests.experiments.studies import mini

jobs_in, job = partial(mini.jobs_in, "step_times"), partial(mini.job, "step_times")
STUDY = STUDIES["step_times"]


def test_a_row_for_every_round_mode_and_share_and_one_for_the_probe(step_times, tmp_path):
    frame, out = step_times, tmp_path / f"vgg{ENDING}"
    write_record(frame, out)
    write_seal(beside(out), [out.name])
    assert len(frame) == 2 * (2 * 3 + 1)
    assert (frame[["seconds", "cpu_seconds", "dense_seconds", "dense_cpu_seconds"]] > 0).all().all()
    whole = frame[frame["active_share"] == 1]
    assert (whole.loc[whole["mode"] != "probe", "macs"] == frame["dense_macs"].iloc[0]).all()
    nothing = frame[frame["active_share"] == 0].groupby("mode")["macs"].max()
    assert nothing["detach"] <= nothing["exact"] < frame["dense_macs"].iloc[0]
    rows = table.step_times(table.load([out]))
    assert list(rows["clock"].unique()) == ["CPU seconds"]
    assert set(StepTimes.of(rows).lines) == {"detach", "exact"}
    page = table.markdown(rows)
    assert "## digits" in page and "| probe |" in page


@pytest.mark.parametrize("family", ["vgg", "bert"])
def test_the_timed_steps_train_what_is_active_and_nothing_else(family, tmp_path):
    session = STUDY.session(job(family=family), tmp_path / "out.parquet", HERE)
    partition = session.loop.controller.partition
    side = _Side(session, "exact")
    active = draw(partition, 0.5, seed=0)
    assert 0 < len(active) < len(partition.modules)
    side.set_active(active)
    before = {name: p.detach().clone() for name, p in side.model.named_parameters()}
    side.step()
    after = dict(side.model.named_parameters())
    moved = {
        module.name
        for module in partition.modules
        for piece in module.slices
        if not piece.of(after[piece.parameter]).equal(piece.of(before[piece.parameter]))
    }
    experts = {module.name for module in partition.modules if module.kind == "expert"}  # some may get no token
    assert moved <= active and active - moved <= experts
    session.loop.prefetch.close()


def test_a_study_of_tasks_as_they_are_takes_no_settings_of_its_own():
    config = mini.config_of("step_times", families={"vgg": {"of": "digits", "recipe": {"lr": 0.1, "batch": 10}}})
    with pytest.raises(InputError, match="expected of alone, got recipe too"):
        STUDY.jobs(ScaleConfig.of(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"active_shares": [0.5]}, "between two there is a line"),
        ({"active_shares": [0, 1.5]}, "active_shares"),
        ({"modes": ["sparse"]}, "expected 'exact', 'detach' or 'detach_residual'"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        jobs_in(mini.config_of("step_times", **change))
