"""Estimators measured on one run: leading blocks, pairing, resuming at tolerance zero, and what is refused."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from mat.errors import InputError
from mat.experiments.studies.agreement.measure import Spectra
from mat.experiments.studies.agreement.settings import Settings
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine
from mat.kernels.ntk import normalise
from mat.kernels.spectrum import spectrum
from tests.experiments.studies import mini

CONFIG = mini.CONFIGS["agreement"]
jobs_in, job = partial(mini.jobs_in, "agreement"), partial(mini.job, "agreement")


def test_every_affordable_combination_is_measured_once(agreement):
    keys = ["step", "probe_set", "estimator", "directions", "n", "normalisation", "module"]
    assert not agreement.duplicated(keys).any()
    assert set(agreement["step"]) == {0, 5, 10}
    assert agreement.groupby(["estimator", "directions"])["n"].unique().map(list).to_dict() == {
        ("full", 0): [2],
        ("trace", 0): [2, 4],
        ("sum_of_logits", 0): [2, 4],
        ("projected", 2): [2, 4],
        ("projected", 6): [2, 4],
        ("loss", 0): [2, 4],
    }
    assert agreement.groupby(keys[:-1]).size().eq(4).all()
    assert np.isfinite(agreement["lambda_max"]).all()
    sets = [rows["lambda_max"].to_numpy() for _, rows in agreement.groupby("probe_set")]
    assert not np.isclose(*sets).any(where=agreement["normalisation"].eq("raw").to_numpy()[: len(sets[0])])


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


def test_a_run_that_diverges_keeps_what_was_measured(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["tasks"]["digits"]["recipe"]["lr"] = 1e18
    found = Spectra.measure(jobs_in(config)[0], tmp_path / "x.parquet")
    assert found["diverged"].all()
    assert 0 in set(found["step"]) and 10 not in set(found["step"])


def test_too_many_probe_samples_and_nothing_affordable_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="probe size"):
        Spectra.measure(job("bert", probe_sets=40), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no estimator is affordable"):
        Spectra.measure(job("bert", estimators=["trace"]), tmp_path / "x.parquet")
