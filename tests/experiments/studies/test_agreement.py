"""Estimators measured on one run: leading blocks, pairing, resuming at tolerance zero, and what is refused."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from mat.errors import InputError
from mat.experiments.studies.agreement.measure import Spectra
from mat.experiments.studies.agreement.price import KEY
from mat.experiments.studies.agreement.settings import Settings
from mat.experiments.training.cost import Shape
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine
from mat.flops.executed import executed_macs
from mat.kernels.ntk import normalise
from mat.kernels.spectrum import eigen_macs, spectrum
from tests.experiments.studies import mini

CONFIG = mini.CONFIGS["agreement"]
jobs_in, job = partial(mini.jobs_in, "agreement"), partial(mini.job, "agreement")


def of_model(task, **model):
    """The first job of a task, with other settings of its model."""
    config = copy.deepcopy(CONFIG)
    config["tasks"][task]["model"] |= model
    return next(each for each in jobs_in(config) if each.task == task)


def with_probe(task, **probe):
    """The first job of a task, measured at 2 positions as well, with other settings of its probe."""
    config = mini.config_of("agreement", positions=[2], estimators=["sum_of_logits", "projected"])
    config["tasks"][task]["probe"] |= {"directions": 6, **probe}
    return next(each for each in jobs_in(config) if each.task == task)


def test_every_affordable_combination_is_measured_once(agreement):
    keys = ["step", "probe_set", "estimator", "directions", "positions", "n", "normalisation", "module"]
    assert not agreement.duplicated(keys).any()
    assert set(agreement["step"]) == {0, 10} and set(agreement["positions"]) == {0}
    assert agreement.groupby(["estimator", "directions"])["n"].unique().map(list).to_dict() == {
        ("full", 0): [2],
        ("trace", 0): [2, 4],
        ("sum_of_logits", 0): [2, 4],
        ("projected", 1): [2, 4],
        ("projected", 2): [2, 4],
        ("projected", 6): [2, 4],
        ("projected", 8): [2, 4],
        ("loss", 0): [2, 4],
        ("step", 0): [2, 4],
    }
    assert agreement.groupby(keys[:-1]).size().eq(4).all()
    assert np.isfinite(agreement["lambda_max"]).all()
    sets = [rows["lambda_max"].to_numpy() for _, rows in agreement.groupby("probe_set")]
    assert not np.isclose(*sets).any()


def test_the_default_alone_has_every_normalisation(agreement):
    is_default = agreement["estimator"].eq("projected") & agreement["directions"].eq(2) & agreement["n"].eq(4)
    assert set(agreement.loc[is_default, "normalisation"]) == {"raw", "cosine", "per_parameter"}
    assert set(agreement.loc[~is_default, "normalisation"]) == {"raw"}


def test_the_budget_leaves_out_what_is_too_dear():
    settings = Settings(sizes=(4, 8, 64), directions=(2, 8), positions=(3, 9), full_rows=80, sample_passes=256)
    assert [tuple(found) for found in settings.measurements(10, 1, 8)] == [
        ("full", 0, 0, (4, 8), 0),
        ("trace", 0, 0, (4, 8), 0),
        ("sum_of_logits", 0, 0, (4, 8, 64), 0),
        ("projected", 2, 0, (4, 8, 64), 0),
        ("projected", 8, 0, (4, 8), 2),
        ("loss", 0, 0, (4, 8, 64), 0),
        ("step", 0, 0, (4, 8), 0),
    ]
    names = [(*found[:3], found.known) for found in settings.measurements(2080, 9, 3)]
    assert names == [
        ("sum_of_logits", 0, 0, 0),
        ("sum_of_logits", 0, 3, 0),
        ("projected", 2, 0, 0),
        ("projected", 8, 0, 2),
        ("projected", 32, 0, 0),
        ("projected", 2, 3, 0),
        ("projected", 8, 3, 2),
        ("loss", 0, 0, 0),
        ("loss", 0, 3, 0),
    ]


@pytest.mark.parametrize("family", ["vgg", "bert"])
def test_a_kernel_that_adds_directions_is_the_estimators_own(family, tmp_path):
    """Fewer passes, the same kernels; the bound is of single precision, summed over the directions."""
    session = Spectra(job(family, positions=[2]), tmp_path / "x.csv.gz", Machine(cache=tmp_path))
    added = [measurement for measurement, _ in session.kernels(1) if measurement.known]
    assert {(m.directions, m.positions) for m in added} >= {(2, 0), (6, 0)} | ({(6, 2)} if family == "bert" else set())
    for measurement, grams in session.kernels(1):
        own = session.grams([session.estimator(measurement, 1)], 1, measurement.sizes[-1])[0]
        for name, gram in grams.items():
            torch.testing.assert_close(gram, own[name], rtol=1e-4, atol=1e-7)


def test_the_reference_has_directions_of_its_own_and_positions_are_of_the_probe(tmp_path):
    session = Spectra(job("bert", positions=[2]), tmp_path / "x.csv.gz", Machine(cache=tmp_path))
    drawn = {(m.directions, m.positions): session.estimator(m, 0) for m in session.measurements}
    assert len({drawn[r, p].seed for r in (1, 2, 6) for p in (0, 2)}) == 1 != drawn[8, 0].seed
    again = session.estimator(session.measurements[0], 1)
    assert again.seed != drawn[0, 0].seed


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    """A session of each family, and its prices by n."""
    torch.set_num_threads(1)
    place, found = tmp_path_factory.mktemp("priced"), {}
    switch = of_model("hmm", name="switch", layers=2)
    for family, one in {"vgg": job("vgg"), "bert": job("bert", positions=[2]), "switch": switch}.items():
        session = Spectra(one, place / f"{family}.csv.gz", Machine(cache=place))
        found[family] = session, {n: session._prices(n) for n in (2, 4)}
    return found


@pytest.mark.parametrize("family", ["vgg", "bert", "switch"])
def test_prices_are_what_counting_every_estimator_says(family, priced):
    """One cotangent finds whose rows an expert's are, too; several have a pass for it, which each one more has not."""
    session, prices = priced[family]
    for n in (2, 4):
        rows = {tuple(row[key] for key in KEY): row for row in prices[n]}
        for measurement in session.measurements:
            if n not in measurement.sizes:
                continue
            row = rows.pop((*measurement[:3], n))
            macs, (grams,) = executed_macs(partial(session.grams, [session.estimator(measurement, 0)], 0, n))
            if measurement.estimator == "step":  # the step itself is training's
                macs -= executed_macs(session.training_step(0).plain)[0]
            if (family, measurement.estimator) == ("switch", "loss"):  # whose zeros hide rows
                assert row["macs"] >= macs > 0
            else:
                assert row["macs"] == macs > 0, measurement
            assert row["macs_eigen"] == sum(eigen_macs(len(gram)) for gram in grams.values())
            assert row["seconds"] > 0 or measurement.estimator == "step"
        assert not rows


@pytest.mark.parametrize("family", ["vgg", "bert"])
def test_reading_a_step_costs_less_than_a_probe_of_the_same_rows(family, priced):
    """Where shapes show whose rows are whose; to trace them takes passes of the whole batch."""
    for rows in priced[family][1].values():
        macs = {row["estimator"]: row["macs"] for row in rows if row["positions"] == 0}
        assert 0 < macs["step"] < macs["loss"]


def test_a_steps_spectra_are_those_of_the_loss_where_nothing_mixes_or_drops(tmp_path):
    """The recipe's batch is 200, of which four are read: their part of the mean, times 200, is their own gradient."""
    session = Spectra(of_model("digits", batch_norm=False), tmp_path / "x.csv.gz", Machine(cache=tmp_path))
    for _ in range(2):
        session.advance(lambda line, share: None)
    table = pd.DataFrame(session.probe(2, 0.5, 1))
    step, loss = (table[table["estimator"] == name] for name in ("step", "loss"))
    assert list(step["module"]) == list(loss["module"]) and list(step["n"]) == list(loss["n"])
    assert len(step) == 2 * 4  # sizes, modules
    for name in ("lambda_max", "trace", "effective_rank"):
        np.testing.assert_allclose(step[name], loss[name], rtol=1e-4)


def test_under_batch_norm_the_batch_is_the_recipes(tmp_path):
    """Every one of its 200 samples is in the statistics, no other one is."""
    session = Spectra(job(), tmp_path / "x.csv.gz", Machine(cache=tmp_path))
    measurement = next(m for m in session.measurements if m.estimator == "step")
    found = []
    for place in (None, 399, 199):
        if place is not None:
            session.samples.inputs["x"][place] += 1
        found.append(session.grams([session.estimator(measurement, 0)], 0, 4)[0])
    for module, gram in found[0].items():
        assert torch.equal(gram, found[1][module]) and not torch.equal(gram, found[2][module])


@pytest.mark.parametrize(("task", "model"), [("digits", {"batch_norm": True}), ("hmm", {"dropout": 0.5})])
def test_measuring_a_step_leaves_the_run_as_it_was(task, model, tmp_path):
    """Modes, gradients, batch statistics, generators; and what it draws is its own."""
    session = Spectra(of_model(task, **model), tmp_path / "x.csv.gz", Machine(cache=tmp_path))
    session.advance(lambda line, share: None)
    own = session.loop.model
    own.eval()
    next(own.modules()).training = True  # no mode that a call would set
    state = copy.deepcopy(own.state_dict())
    gradients = {name: (p.grad, p.grad.clone()) for name, p in own.named_parameters() if p.grad is not None}
    modes, drawn = [module.training for module in own.modules()], torch.get_rng_state()
    measurement = next(m for m in session.measurements if m.estimator == "step")
    first = session.grams([session.estimator(measurement, 0)], 0, 4)[0]
    assert gradients and torch.equal(torch.get_rng_state(), drawn)
    assert [module.training for module in own.modules()] == modes
    for name, value in own.state_dict().items():
        assert torch.equal(value, state[name]), name
    for name, parameter in own.named_parameters():
        if name in gradients:
            assert parameter.grad is gradients[name][0] and torch.equal(parameter.grad, gradients[name][1]), name
    torch.rand(3)
    again = session.grams([session.estimator(measurement, 0)], 0, 4)[0]
    other = session.grams([session.estimator(measurement, 0)], 1, 4)[0]
    for name, gram in first.items():
        assert torch.equal(gram, again[name]) and not torch.equal(gram, other[name])


def test_a_default_of_some_positions_is_marked_and_has_every_normalisation(tmp_path):
    """At all positions too, which the table of agreement is of; and more positions than there are are all."""
    for asked, default in ((2, 2), (9, 0)):
        made = with_probe("hmm", positions=asked)
        session = Spectra(made, tmp_path / "x.csv.gz", Machine(cache=tmp_path))
        table = pd.DataFrame(session.probe(0, 0.0, 0))
        normalised = table[table["normalisation"] == "cosine"]
        assert session.default == ("projected", 6, default, 4)
        assert set(zip(*(normalised[key] for key in KEY), strict=True)) == {
            ("projected", 6, p, 4) for p in {0, default}
        }
        session.tables[0, 0] = table.to_dict("records")
        assert set(session.table()["default_positions"]) == {default}


def test_a_default_is_measured_beside_what_is_asked_for(tmp_path):
    made = with_probe("hmm", positions=3, n=5, directions=7)
    session = Spectra(made, tmp_path / "x.csv.gz", Machine(cache=tmp_path))
    assert session.default == ("projected", 7, 3, 5)
    table = pd.DataFrame(session.probe(0, 0.0, 0))
    assert session.default in set(zip(*(table[key] for key in KEY), strict=True))
    assert {*made.settings.sizes, 5} == {n for one in session.measurements for n in one.sizes}


def test_a_default_is_what_its_budget_leaves_of_it():
    made = with_probe("hmm", n=16, directions=7, budget=0.6)
    extent = Shape(made.spec).extent
    assert (extent.n, extent.directions) < (16, 7)
    beside = made.settings.beside(made.spec.probe, extent)
    assert extent.n in beside.sizes and extent.directions in beside.directions and 16 not in beside.sizes


def test_an_epoch_is_the_steps_of_a_dense_run(agreement, tmp_path):
    """All steps of a vanilla run execute the same; the closed form is another count of them."""
    one = job()
    loop = Loop(one.spec, tmp_path / "y", Machine(cache=tmp_path))
    loop.advance(lambda line, share: None)
    assert set(agreement["epoch_macs"]) == {loop.steps_per_epoch * loop.progress.totals["macs_executed"]}
    assert agreement["epoch_seconds"].gt(0).all()


@pytest.mark.parametrize("family", ["vgg", "bert"])
def test_a_smaller_probe_is_the_leading_block(family, tmp_path):
    """What the measurement relies on: one call on the largest n gives the kernels of every smaller one."""
    session = Spectra(job(family), tmp_path / "x.csv.gz", Machine(cache=tmp_path))
    for measurement in session.measurements:
        estimator = session.estimator(measurement, 1)
        largest, smaller = session.grams([estimator], 1, 4)[0], session.grams([estimator], 1, 2)[0]
        for name, gram in smaller.items():
            block = largest[name][: len(gram), : len(gram)]
            torch.testing.assert_close(block, gram, rtol=1e-4, atol=1e-7)


def test_the_table_holds_the_spectrum_of_the_normalised_kernel(tmp_path):
    session = Spectra(job(), tmp_path / "x.csv.gz", Machine(cache=tmp_path))
    table = pd.DataFrame(session.probe(0, 0.0, 1))
    assert set(session.costs) == {2, 4}
    measurement = next(m for m in session.measurements if m.directions == 2)
    grams = session.grams([session.estimator(measurement, 1)], 1, 4)[0]
    rows = table[(table["directions"] == 2) & (table["n"] == 4)]
    assert set(rows["normalisation"]) == {"raw", "cosine", "per_parameter"}
    for row in rows.itertuples():
        seen = spectrum(normalise(grams[row.module], row.normalisation, row.parameters))
        for name in ("lambda_max", "trace", "effective_rank"):
            assert getattr(row, name) == pytest.approx(getattr(seen, name), rel=1e-3)


def test_probe_sets_are_disjoint_and_paired_by_seed(tmp_path):
    sessions = [Spectra(job("bert", seed), tmp_path / "x", Machine(cache=tmp_path)) for seed in (0, 0, 1)]
    first, again, other = (s.samples.inputs["input_ids"] for s in sessions)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first) == 2 * 16  # a training step's batch
    pixels = Spectra(job(), tmp_path / "x", Machine(cache=tmp_path)).samples.inputs["x"]
    assert len(pixels.flatten(1).unique(dim=0)) == len(pixels)


def test_the_weights_are_those_of_a_vanilla_run(tmp_path):
    """Measuring changes nothing in training, and neither does leaving the evaluations out."""
    one = job()
    session = Spectra(one, tmp_path / "x", Machine(cache=tmp_path))
    plain = {**CONFIG["tasks"]["digits"], "method": {"name": "vanilla"}, "seed": 0}
    loop = Loop(type(one.spec).of(plain), tmp_path / "y", Machine(cache=tmp_path))
    for step in range(2):
        session.probe(step, 0.5, 0)
        for each in (session.loop, loop):
            each.advance(lambda line, share: None)
    for a, b in zip(session.loop.model.state_dict().values(), loop.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_run_that_diverges_keeps_what_was_measured(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["tasks"]["digits"]["recipe"]["lr"] = 1e18
    found = Spectra.measure(jobs_in(config)[0], tmp_path / "x.csv.gz")
    assert found["diverged"].all()
    assert 0 in set(found["step"]) and 10 not in set(found["step"])


def test_too_many_probe_samples_and_nothing_affordable_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="probe size"):
        Spectra.measure(job("bert", probe_sets=40), tmp_path / "x.csv.gz")
    with pytest.raises(InputError, match="no estimator is affordable"):
        Spectra.measure(job("bert", estimators=["trace"]), tmp_path / "x.csv.gz")
