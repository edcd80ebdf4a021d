"""A budget's choice: within it for any prices, monotone in it, in the order stated; no probe beyond its price."""

import functools
import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mat.errors import InputError
from mat.flops.executed import executed_macs
from mat.kernels.estimators import ESTIMATORS, STEP, Estimator
from mat.kernels.ntk import modular_ntk
from mat.kernels.probes.budget import LEAST, Extent, Prices, choose
from mat.kernels.probes.step import step_kernels
from mat.kernels.spectrum import eigen_macs
from mat.prices import counted_prices
from tests.cases import bert_case, per_sample, vgg_case

MACS = st.integers(1, 10**12)
PRICES = st.builds(Prices, MACS, MACS, MACS, MACS, st.integers(1, 10**9), st.integers(1, 500), st.integers(1, 50))
WANTED = st.builds(Extent, st.integers(2, 128), st.integers(1, 16), st.integers(1, 300))
BUDGET = st.floats(1e-6, 0.999)
NAMES = st.sampled_from(sorted(ESTIMATORS))
STEPS = st.one_of(st.none(), st.integers(1, 10**5))


def chosen(prices, budget, wanted, name, steps):
    """The choice, or None where the budget pays for nothing."""
    try:
        return choose(prices, budget, wanted, name, steps)
    except InputError:
        return None


def spent(prices, extent, name, steps):
    """Of the probes of the whole training, and what it takes; of one interval where its end is not known."""
    probes, length = (1, extent.every) if steps is None else (-(-steps // extent.every), steps)
    return probes * prices.probe(name, extent.n, extent.directions), length * prices.step


@given(PRICES, BUDGET, WANTED, NAMES, STEPS)
def test_a_choice_is_within_the_budget_and_no_more_than_is_wanted(prices, budget, wanted, name, steps):
    found = chosen(prices, budget, wanted, name, steps)
    assume(found is not None)
    probes, training = spent(prices, found, name, steps)
    assert probes <= budget * training
    assert found.n <= wanted.n and found.directions <= wanted.directions
    assert found.every >= wanted.every and found.every % wanted.every == 0


@given(PRICES, BUDGET, BUDGET, WANTED, NAMES, STEPS)
def test_a_larger_budget_never_measures_less(prices, one, other, wanted, name, steps):
    low, high = (chosen(prices, budget, wanted, name, steps) for budget in sorted((one, other)))
    assume(low is not None)
    assert high.n >= low.n and high.directions >= low.directions and high.every <= low.every


@given(PRICES, BUDGET, WANTED, NAMES, STEPS)
def test_the_next_step_up_is_beyond_the_budget(prices, budget, wanted, name, steps):
    """First the interval, then n, then directions: the one that is not yet as wanted could not be better."""
    found = chosen(prices, budget, wanted, name, steps)
    assume(found is not None)
    least = Extent(min(LEAST, wanted.n), 1, found.every)
    if found.every > wanted.every:
        assert found == least
        better = found._replace(every=found.every - wanted.every)
    elif found.n < wanted.n:
        assert found.directions == 1
        better = found._replace(n=found.n + 1)
    elif found.directions < wanted.directions:
        better = found._replace(directions=found.directions + 1)
    else:
        return
    probes, training = spent(prices, better, name, steps)
    assert probes > budget * training * (1 - 1e-12)


@given(PRICES, BUDGET, WANTED, NAMES, st.integers(1, 10**5))
def test_a_budget_that_pays_for_nothing_is_refused_by_one_that_would(prices, budget, wanted, name, steps):
    try:
        choose(prices, budget, wanted, name, steps)
    except InputError as error:
        needed = float(re.search(r"takes ([\d.]+) of it", str(error)).group(1))
        assert needed >= budget * (1 - 1e-12)
        if needed < 1:
            choose(prices, needed, wanted, name, steps)
    else:
        assume(False)


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1, float("nan")])
def test_a_budget_is_a_share(budget):
    with pytest.raises(InputError, match=r"budget must be a share of the training's compute in \(0, 1\)"):
        choose(Prices(1, 1, 1, 1, 1, 1, 1), budget, Extent(8, 1, 1), "loss", 10)


@functools.cache
def prices_of(make, remainder):
    case = make()
    return counted_prices(case.model, case.partition, case.example, 1, remainder)


@pytest.mark.parametrize("make", [bert_case, vgg_case])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("remainder", [False, True])
def test_no_probe_runs_more_than_its_price(make, name, remainder):
    case, prices = make(), prices_of(make, remainder)
    batch = len(next(iter(case.inputs.values())))
    for n, r in ((2, 3 if name == "projected" else 1), (batch, 1)):
        inputs = {key: value[:n] for key, value in case.inputs.items()}
        if name in ("full", "trace") and prices.outputs > 64:
            continue
        if name == STEP:
            macs, rows = recorded_macs(case, n, remainder), n
        else:
            run = lambda inputs=inputs, n=n, r=r: modular_ntk(  # noqa: E731
                *(case.model, case.partition, inputs, Estimator(name, r, 0, per_sample)),
                labels=case.labels[:n], remainder=remainder,
            )  # fmt: skip
            macs, kernels = executed_macs(run)
            rows = len(next(iter(kernels.values())))
        assert macs + (prices.modules + 1) * eigen_macs(rows) <= prices.probe(name, n, r)


def recorded_macs(case, n, remainder):
    """What reading the kernels of a whole batch's step runs beside the step."""

    def recorded():
        with step_kernels(case.model, case.partition, n, remainder=remainder):
            case.loss().backward()

    macs, plain = (executed_macs(run)[0] for run in (recorded, lambda: case.loss().backward()))
    assert macs > plain
    return macs - plain


@pytest.mark.parametrize("make", [bert_case, vgg_case])
def test_counted_prices_are_those_of_the_closed_form(make):
    case = make()
    before = {key: value.clone() for key, value in case.model.state_dict().items()}
    found = counted_prices(case.model, case.partition, case.example, 4, remainder=False)
    work = case.family.work(case.settings, case.signature, 1).values()
    forward, weights, inputs = map(sum, zip(*work, strict=True))
    assert (found.forward, found.weights, found.inputs, found.step) == (forward, weights, inputs, 4 * forward)
    assert found.parameters == sum(case.partition.size(module.slices) for module in case.partition.modules)
    assert found.outputs == case.model(**case.example).logits.numel() if make is bert_case else found.outputs == 3
    whole = counted_prices(case.model, case.partition, case.example, 4, remainder=True)
    assert whole.parameters == sum(p.numel() for p in case.model.parameters())
    assert all(torch.equal(before[key], value) for key, value in case.model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in case.model.parameters())


def test_a_price_by_hand():
    """10 samples, 2 directions: forward 10·5 and 5·5 in other batches; inputs (2 + 2)·10·3; Gram
    2·(2·10·4 + 2·10·10·6); the comparison 5 + 2·(3 + 4) + 2·6; three eigenvalue solves."""
    prices = Prices(step=100, forward=5, inputs=3, weights=4, parameters=6, modules=2, outputs=7)
    expected = 75 + 120 + 2 * (80 + 1200) + 31 + 3 * (2 * 10**3 // 3)
    assert prices.probe("projected", 10, 2) == expected
    # one wanted interval of 1000 steps has room for it at a budget of expected / 100 000 exactly, and not below
    wanted = Extent(10, 2, 1000)
    assert choose(prices, expected / 1e5, wanted, "projected", 1000) == wanted
    assert choose(prices, (expected - 1) / 1e5, wanted, "projected", 1000) == Extent(10, 1, 1000)
