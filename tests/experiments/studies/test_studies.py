"""What every study keeps: resuming at tolerance zero, finished tables, jobs as JSON, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from mat.errors import InputError
from mat.experiments.cli.main import main
from mat.experiments.studies.registry import STUDIES
from mat.experiments.studies.session import checkpoints
from mat.experiments.training import resume
from mat.experiments.training.code_version import code_hash
from mat.records.files import read_whole, write_record
from mat.records.seal import beside, write_seal
from tests.experiments.studies.mini import CONFIGS, config_of, job, jobs_in

every_study = pytest.mark.parametrize("study", STUDIES)


@pytest.mark.parametrize(
    ("study", "last", "before"),
    [
        ("agreement", "step 10/10  probe set 0 measured", ("step 0/",)),
        ("branches", "step 8/15  module conv0.filters1", ("step 3/", "conv0.filters0")),
    ],
)
def test_a_resumed_measurement_is_bit_identical(study, last, before, tmp_path, request):
    measured, out, asked = request.getfixturevalue(study), tmp_path / "a" / "vgg.csv.gz", STUDIES[study].session

    def interrupt(line, share):
        if line == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked.measure(job(study), out, report=interrupt, save_every=0)
    state = resume.state_path(out, code_hash(asked.modules(job(study))))
    assert state.exists() and not out.exists()
    resumed = []
    found = asked.measure(job(study), out, report=lambda line, share: resumed.append(line), save_every=0)
    assert not state.exists()
    assert not any(part in line for line in resumed for part in before), "it began again instead of going on"
    clocks = found.columns.intersection(["seconds", "epoch_seconds"])
    pd.testing.assert_frame_equal(found.drop(columns=clocks), measured.drop(columns=clocks), check_exact=True)
    if study == "branches":  # control: the comparison sees another seed
        other = asked.measure(job(study, seed=1), tmp_path / "other.csv.gz")
        assert not np.array_equal(other["train_loss_after"], measured["train_loss_after"])


@every_study
def test_a_table_says_once_what_code_it_stands_on(study, request):
    measured = request.getfixturevalue(study)
    first, *others = measured["code"]
    assert json.loads(first) == STUDIES[study].session.modules(job(study)) and set(others) == {""}
    assert measured["code_hash"].nunique() == 1


@every_study
def test_a_finished_table_is_not_measured_again_and_another_is_refused(study, tmp_path, request):
    measured, out, lines = request.getfixturevalue(study), tmp_path / "vgg.csv.gz", []
    asked = STUDIES[study].session
    write_record(measured, out)
    write_seal(beside(out), [out.name])
    found = asked.measure(job(study), out, report=lambda line, share: lines.append(line))
    assert len(found) == len(measured) and "already finished" in lines[0]
    with pytest.raises(InputError, match="holds vgg-s0-"):
        asked.measure(job(study, seed=1), out)
    out.write_text("nothing")
    with pytest.raises(InputError, match=r"is not what .* was written for"):
        asked.measure(job(study), out)
    write_seal(beside(out), [out.name])
    with pytest.raises(InputError, match="no table of this measurement"):
        asked.measure(job(study), out)


@pytest.mark.parametrize(("study", "change"), [("agreement", {"probe_sets": 3}), ("branches", {"steps": 3})])
def test_a_job_survives_json_and_names_itself(study, change):
    one, config = job(study), CONFIGS[study]
    again = STUDIES[study].job(json.loads(one.json))
    assert again == one and again.name == one.name
    assert one.setup == job(study, seed=1).setup != job(study, **change).setup
    assert len({each.name for each in jobs_in(study, config)}) == 4
    assert [each.spec.seed for each in jobs_in(study, config_of(study, seeds=[1, 7]))] == [1, 1]
    assert jobs_in(study, {key: value for key, value in config.items() if key != study}) == []


def test_checkpoints_are_steps_of_the_run():
    assert checkpoints((0, 0.1, 1), 30) == [(0, 0), (3, 0.1), (30, 1)]
    with pytest.raises(InputError, match="fall on one step"):
        checkpoints((0, 0.1), 3)


VGG = {"of": "digits"}


@pytest.mark.parametrize(
    ("study", "change", "message"),
    [
        ("agreement", {"shars": [0]}, "agreement: unknown key 'shars'; known: shares"),
        ("agreement", {"shares": [0, 2]}, "agreement.shares.1: expected a number ≤ 1"),
        ("agreement", {"shares": [1, 0]}, "increasing"),
        ("agreement", {"sizes": [1, 4]}, "agreement.sizes.0: expected a number ≥ 2"),
        ("agreement", {"directions": [0]}, "agreement.directions.0: expected a number ≥ 1"),
        ("agreement", {"directions": [2, 8]}, "reference_directions must be 0 or more than the directions"),
        ("agreement", {"positions": [4, 2]}, "positions must be increasing"),
        ("agreement", {"estimators": ["exact"]}, "agreement.estimators.0: expected 'full', 'trace'"),
        ("agreement", {"estimators": []}, "estimators must be different ones"),
        ("agreement", {"probe_sets": 0}, "agreement.probe_sets: expected a number ≥ 1"),
        ("agreement", {"families": {}}, "agreement.families: expected 1 at least"),
        ("agreement", {"families": {"a/b": VGG}}, "expected a name that matches .*, got 'a/b'"),
        ("agreement", {"families": {"v": {"of": "cifar"}}}, "v.of: expected one of the tasks digits, hmm, got 'cifar'"),
        ("agreement", {"families": {"vgg": {"off": "digits"}}}, "families.vgg: unknown key 'off'; known: of"),
        ("agreement", {"families": {"v": {**VGG, "model": {"name": "bort"}}}}, "v.model: unknown model 'bort'"),
        ("branches", {"shars": [0]}, "branches: unknown key 'shars'; known: shares"),
        ("branches", {"shares": [0.5, 1]}, "branches.shares.1: expected a number < 1"),
        ("branches", {"set_share": 0.6}, "branches.set_share: expected a number ≤ 0.5"),
        ("branches", {"samples": 1}, "branches.samples: expected a number ≥ 2"),
        ("branches", {"steps": 0, "set_steps": 0}, "nothing is trained"),
        ("branches", {"families": {}}, "branches.families: expected 1 at least"),
        ("branches", {"families": {"v": {**VGG, "task": {"name": "hmm"}}}}, "v.task: expected settings of the task"),
        ("branches", {"families": {"v": {**VGG, "task": {"noise": 1}}}}, "families.v.task: unknown key 'noise'"),
    ],
)
def test_bad_blocks_are_refused(study, change, message):
    with pytest.raises(InputError, match=message):
        jobs_in(study, config_of(study, **change))


def test_a_block_that_is_no_mapping_is_refused():
    with pytest.raises(InputError, match="agreement: expected a mapping"):
        jobs_in("agreement", {**CONFIGS["agreement"], "agreement": ["vgg"]})


@pytest.mark.parametrize(
    ("study", "settings"),
    [("agreement", {"shares": [0], "probe_sets": 1}), ("branches", {"shares": [0], "steps": 1, "set_steps": 0})],
)
def test_the_command_line_measures_and_refuses_in_one_line(study, settings, tmp_path, capsys):
    path, out = tmp_path / "job.json", tmp_path / "vgg.csv.gz"
    path.write_text(job(study, **settings).json)
    assert main(["step", "measure", study, "--job", str(path), "--out", str(out)]) == 0
    found = read_whole(out)
    assert len(found) and (study == "agreement" or set(found["part"]) == {"module"})
    capsys.readouterr()
    for given, message in (("{}", "a job is a mapping with"), ("nowhere", "cannot read 'nowhere'"), ("[]", "cannot")):
        assert main(["step", "measure", study, "--job", given, "--out", str(tmp_path / "y")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
