"""Estimators of some positions, and of directions that come after others: exact, drawn once, and no cheaper."""

import pytest
import torch

from mat.errors import InputError
from mat.flops.executed import executed_macs
from mat.kernels.estimators import Estimator, positions_of
from tests.cases import CASES, bert_case, logits, per_sample, vgg_case
from tests.zoo import modular_ntk

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
NAMES = ("sum_of_logits", "projected", "loss")


def asked(name, positions, seed=3, **more):
    return Estimator(name, 2, seed, per_sample if name == "loss" else None, positions, **more)


def kernels(case, estimator):
    return modular_ntk(case.model, case.partition, case.inputs, estimator, labels=case.labels)


@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_of_some_positions_follows_from_that_of_all_logits(name):
    """Σ over cotangents of v_i full v_jᵀ, in which v is zero outside the drawn positions and √(T/p) as large there."""
    case, n, length, p = bert_case(batch=2, length=5), 2, 5, 2
    out = logits(case.model, case.inputs).detach()
    some = list(asked(name, p).cotangents(out, case.labels))
    drawn = asked(name, p).drawn(length)
    assert len(set(drawn.tolist())) == p
    for part, whole in zip(some, asked(name, 0).cotangents(out, case.labels), strict=True):
        expected = torch.zeros_like(out)
        expected[:, drawn] = whole[:, drawn] * (length / p) ** 0.5
        torch.testing.assert_close(part, expected, **TIGHT)
    full, found = kernels(case, "full"), kernels(case, asked(name, p))
    for module, theta in full.items():
        theta = theta.reshape(n, out[0].numel(), n, -1)
        mixed = sum(torch.einsum("icjd,ic,jd->ij", theta, v.flatten(1), v.flatten(1)) for v in some)
        torch.testing.assert_close(found[module], mixed, **TIGHT)


def test_positions_are_of_the_seed_alone():
    draws = [Estimator("projected", r, seed, None, 3).drawn(40).tolist() for r, seed in ((1, 0), (8, 0), (8, 1))]
    assert draws[0] == draws[1] != draws[2]


def test_every_position_is_drawn_about_as_often():
    """Of 3000 draws of 2 of 6 positions each is in a third; five standard deviations are 0.043."""
    counts = torch.zeros(6)
    for seed in range(3000):
        counts[Estimator("sum_of_logits", seed=seed, positions=2).drawn(6)] += 1
    assert (counts / 3000 - 1 / 3).abs().max() < 5 * (1 / 3 * 2 / 3 / 3000) ** 0.5


@pytest.mark.parametrize("positions", [5, 6])
def test_as_many_positions_as_there_are_is_all_of_them(positions):
    out = torch.randn(2, 5, 3, dtype=torch.float64)
    found = next(asked("projected", positions).cotangents(out, None))
    assert torch.equal(found, next(asked("projected", 0).cotangents(out, None)))


def test_logits_without_positions_have_one():
    case = vgg_case()
    out = logits(case.model, case.inputs).detach()
    assert positions_of(out.shape[1:]) == 1 and positions_of(torch.Size([7, 11])) == 7
    assert torch.equal(*(next(asked("projected", p).cotangents(out, None)) for p in (0, 1)))


@pytest.mark.parametrize("name", ["bert", "switch"])
def test_zero_cotangents_execute_as_many_multiply_adds(name):
    case = CASES[name]()
    counts = {executed_macs(lambda p=p: kernels(case, asked("projected", p)))[0] for p in (0, 1)}
    assert len(counts) == 1


def test_directions_add_up():
    """The kernel of five directions is the mean of the first two and the next three."""
    case = bert_case(batch=2, length=3)
    parts = [kernels(case, Estimator("projected", r, 7, skip=skip)) for r, skip in ((5, 0), (2, 0), (3, 2))]
    for module, whole in parts[0].items():
        torch.testing.assert_close((2 * parts[1][module] + 3 * parts[2][module]) / 5, whole, **TIGHT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "trace", "positions": 2},
            "'trace' is of all positions, got positions = 2; those that can be of some",
        ),
        ({"name": "full", "positions": 1}, "'full' is of all positions"),
        ({"name": "projected", "positions": -1}, "positions must be a whole number ≥ 0, got -1"),
        ({"name": "projected", "positions": True}, "positions must be a whole number ≥ 0, got True"),
        ({"name": "projected", "skip": 0.5}, "skip must be a whole number ≥ 0, got 0.5"),
    ],
)
def test_bad_choices_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Estimator(**options)
