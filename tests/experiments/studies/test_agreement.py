"""Estimators measured on one run: leading blocks, pairing, resuming at tolerance zero, and what is refused."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch

from mat.errors import InputError
from mat.experiments.cli.main import main
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.studies.agreement.measure import Spectra
from mat.experiments.studies.agreement.settings import Settings
from mat.experiments.studies.agreement.study import AGREEMENT
from mat.experiments.studies.session import checkpoints
from mat.experiments.training import resume
from mat.experiments.training.code_version import code_hash
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine
from mat.kernels.ntk import normalise
from mat.kernels.spectrum import spectrum

CONFIG = {
    "scale": "mini",
    "seeds": [0, 1],
    "methods": {"vanilla": {"name": "vanilla"}},
    "tasks": {
        "digits": {
            "task": {"name": "digits"},
            "model": {"name": "vgg", "plan": [4, "M", 4, "M"], "filter_groups": 2},
            "recipe": {"optimizer": "sgd", "lr": 0.05, "batch": 200, "epochs": 2, "decay": "all"},
            "probe": {"n": 4},
        },
        "hmm": {
            "task": {"name": "hmm", "train": 64, "validation": 16, "test": 16, "length": 4, "words": 24},
            "model": {"name": "bert", "width": 8, "heads": 2, "layers": 1},
            "recipe": {"lr": 0.01, "batch": 16, "epochs": 2},
            "probe": {"n": 4},
        },
    },
    "agreement": {
        "families": {"vgg": {"of": "digits"}, "bert": {"of": "hmm"}},
        "shares": [0, 0.5, 1],
        "probe_sets": 2,
        "sizes": [2, 4],
        "directions": [2, 6],
        "full_rows": 20,
        "sample_passes": 40,
    },
}
CLOCK = ["seconds"]


def jobs_in(config):
    return AGREEMENT.jobs(ScaleConfig.of(config))


def job(family="vgg", seed=0, **settings):
    config = copy.deepcopy(CONFIG)
    config["agreement"] |= settings
    return next(each for each in jobs_in(config) if (each.family, each.spec.seed) == (family, seed))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    torch.set_num_threads(1)
    return Spectra.measure(job(), tmp_path_factory.mktemp("measured") / "vgg.parquet")


def test_every_affordable_combination_is_measured_once(measured):
    keys = ["step", "probe_set", "estimator", "directions", "n", "normalisation", "module"]
    assert not measured.duplicated(keys).any()
    assert set(measured["step"]) == {0, 5, 10}
    assert measured.groupby(["estimator", "directions"])["n"].unique().map(list).to_dict() == {
        ("full", 0): [2],
        ("trace", 0): [2, 4],
        ("sum_of_logits", 0): [2, 4],
        ("projected", 2): [2, 4],
        ("projected", 6): [2, 4],
        ("loss", 0): [2, 4],
    }
    assert measured.groupby(keys[:-1]).size().eq(4).all()
    assert np.isfinite(measured["lambda_max"]).all()
    sets = [rows["lambda_max"].to_numpy() for _, rows in measured.groupby("probe_set")]
    assert not np.isclose(*sets).any(where=measured["normalisation"].eq("raw").to_numpy()[: len(sets[0])])


def test_the_budget_leaves_out_what_is_too_dear():
    settings = Settings(sizes=(4, 8, 64), directions=(8, 64), full_rows=80, sample_passes=512)
    assert [tuple(found) for found in settings.measurements(10)] == [
        ("full", 0, (4, 8)),
        ("trace", 0, (4, 8)),
        ("sum_of_logits", 0, (4, 8, 64)),
        ("projected", 8, (4, 8, 64)),
        ("loss", 0, (4, 8, 64)),
    ]
    names = [(found.estimator, found.directions) for found in settings.measurements(2080)]
    assert names == [("sum_of_logits", 0), ("projected", 8), ("projected", 64), ("loss", 0)]


@pytest.mark.parametrize("family", ["vgg", "bert"])
def test_a_smaller_probe_is_the_leading_block(family, tmp_path):
    """What the measurement relies on: one call on the largest n gives the kernels of every smaller one."""
    session = Spectra(job(family), tmp_path / "x.parquet", Machine(cache=tmp_path))
    for measurement in session.measurements:
        largest = session._grams(measurement, 1, 4)
        smaller = session._grams(measurement, 1, 2)
        for name, gram in smaller.items():
            block = largest[name][: len(gram), : len(gram)]
            torch.testing.assert_close(block, gram, rtol=1e-4, atol=1e-7)


def test_the_table_holds_the_spectrum_of_the_normalised_kernel(tmp_path):
    session = Spectra(job(), tmp_path / "x.parquet", Machine(cache=tmp_path))
    table = session.probe(0, 0.0, 1)
    measurement = next(m for m in session.measurements if m.estimator == "trace")
    grams = session._grams(measurement, 1, 2)
    rows = table[(table["estimator"] == "trace") & (table["n"] == 2)]
    assert set(rows["normalisation"]) == {"raw", "cosine", "per_parameter"}
    for row in rows.itertuples():
        seen = spectrum(normalise(grams[row.module], row.normalisation, row.parameters))
        for name in ("lambda_max", "trace", "effective_rank"):
            assert getattr(row, name) == pytest.approx(getattr(seen, name), rel=1e-3)


def test_probe_sets_are_disjoint_and_paired_by_seed(tmp_path):
    sessions = [Spectra(job("bert", seed), tmp_path / "x", Machine(cache=tmp_path)) for seed in (0, 0, 1)]
    first, again, other = (s.samples.inputs["input_ids"] for s in sessions)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first) == 2 * 4
    pixels = Spectra(job(), tmp_path / "x", Machine(cache=tmp_path)).samples.inputs["x"]
    assert len(pixels.flatten(1).unique(dim=0)) == len(pixels)


def test_the_weights_are_those_of_a_vanilla_run(tmp_path):
    """Measuring changes nothing in training, and neither does leaving the evaluations out."""
    one = job()
    session = Spectra(one, tmp_path / "x", Machine(cache=tmp_path))
    plain = {**CONFIG["tasks"]["digits"], "method": {"name": "vanilla"}, "seed": 0}
    loop = Loop(type(one.spec).of(plain), tmp_path / "y", Machine(cache=tmp_path))
    for step in range(4):
        session.probe(step, 0.5, 0)
        for each in (session.loop, loop):
            each.advance(lambda line, share: None)
    for a, b in zip(session.loop.model.state_dict().values(), loop.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_measurement_is_bit_identical(measured, tmp_path):
    out = tmp_path / "a" / "vgg.parquet"
    lines = []

    def interrupt(line, share):
        lines.append(line)
        if "step 5/10  probe set 0" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Spectra.measure(job(), out, report=interrupt, save_every=0)
    state = resume.state_path(out, code_hash(Spectra.modules(job())))
    assert state.exists() and not out.exists()
    resumed = []
    found = Spectra.measure(job(), out, report=lambda line, share: resumed.append(line), save_every=0)
    assert not state.exists()
    assert not any("step 0/" in line for line in resumed), "it began again instead of going on"
    pd.testing.assert_frame_equal(found.drop(columns=CLOCK), measured.drop(columns=CLOCK), check_exact=True)
    other = Spectra.measure(job(seed=1), tmp_path / "other.parquet")  # control: the comparison sees another seed
    assert not np.array_equal(other["lambda_max"], measured["lambda_max"])


def test_a_finished_table_is_not_measured_again_and_another_is_refused(measured, tmp_path):
    out = tmp_path / "vgg.parquet"
    measured.to_parquet(out, index=False)
    lines = []
    found = Spectra.measure(job(), out, report=lambda line, share: lines.append(line))
    assert len(found) == len(measured) and "already finished" in lines[0]
    with pytest.raises(InputError, match="holds vgg-s0-"):
        Spectra.measure(job(seed=1), out)
    out.write_text("nothing")
    with pytest.raises(InputError, match="no table of this measurement"):
        Spectra.measure(job(), out)


def test_a_run_that_diverges_keeps_what_was_measured(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["tasks"]["digits"]["recipe"]["lr"] = 1e18
    found = Spectra.measure(jobs_in(config)[0], tmp_path / "x.parquet")
    assert found["diverged"].all()
    assert 0 in set(found["step"]) and 10 not in set(found["step"])


def test_checkpoints_are_steps_of_the_run():
    assert checkpoints((0, 0.1, 1), 30) == [(0, 0), (3, 0.1), (30, 1)]
    with pytest.raises(InputError, match="fall on one step"):
        checkpoints((0, 0.1), 3)


def test_a_job_survives_json_and_names_itself():
    one = job()
    again = AGREEMENT.job(json.loads(one.json))
    assert again == one and again.name == one.name
    assert one.setup == job(seed=1).setup != job(probe_sets=3).setup
    assert len({each.name for each in jobs_in(CONFIG)}) == 4
    fewer = {**CONFIG, "agreement": {**CONFIG["agreement"], "seeds": [1, 7]}}
    assert [each.spec.seed for each in jobs_in(fewer)] == [1, 1]
    assert jobs_in({key: value for key, value in CONFIG.items() if key != "agreement"}) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shars": [0]}, "agreement: unknown key 'shars'; known: shares"),
        ({"shares": [0, 2]}, "shares must be shares in"),
        ({"shares": [1, 0]}, "increasing"),
        ({"sizes": [1, 4]}, "sizes must be whole numbers ≥ 2"),
        ({"sizes": [2, 8]}, "sizes must hold the default n = 4"),
        ({"directions": [0]}, "directions must be whole numbers ≥ 1"),
        ({"estimators": ["exact"]}, "estimators must be different ones of full, trace"),
        ({"estimators": []}, "estimators must be different ones"),
        ({"probe_sets": 0}, "probe_sets must be ≥ 1"),
        ({"families": {}}, "agreement.families: expected 1 at least"),
        ({"families": {"a/b": {"of": "digits"}}}, "expected a name that matches .*, got 'a/b'"),
        ({"families": {"vgg": {"of": "cifar"}}}, "vgg.of: expected one of the tasks digits, hmm, got 'cifar'"),
        ({"families": {"vgg": {"off": "digits"}}}, "families.vgg: unknown key 'off'; known: of"),
        (
            {"families": {"vgg": {"of": "digits", "model": {"name": "bort"}}}},
            "families.vgg.model: unknown model 'bort'",
        ),
    ],
)
def test_bad_blocks_are_refused(change, message):
    config = copy.deepcopy(CONFIG)
    config["agreement"] |= change
    with pytest.raises(InputError, match=message):
        jobs_in(config)


def test_a_block_that_is_no_mapping_is_refused():
    with pytest.raises(InputError, match="agreement: expected a mapping"):
        jobs_in({**CONFIG, "agreement": ["vgg"]})


def test_too_many_probe_samples_and_nothing_affordable_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="probe size"):
        Spectra.measure(job("bert", probe_sets=40), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no estimator is affordable"):
        Spectra.measure(job("bert", estimators=["trace"]), tmp_path / "x.parquet")


def test_the_command_line_measures_and_refuses_in_one_line(tmp_path, capsys):
    path = tmp_path / "job.json"
    path.write_text(job(shares=[0], probe_sets=1).json)
    out = tmp_path / "vgg.parquet"
    assert main(["step", "measure", "agreement", "--job", str(path), "--out", str(out)]) == 0
    assert len(pd.read_parquet(out))
    capsys.readouterr()
    for given, message in (("{}", "a job is a mapping with"), ("nowhere", "cannot read nowhere"), ("[]", "cannot")):
        assert main(["step", "measure", "agreement", "--job", given, "--out", str(tmp_path / "y")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
