"""The sum of losses is the one that Python's floats give; a loss that is not finite is noticed when it should be."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mat.experiments.training.steps.loss_sum import LossSum

LOSSES = st.lists(st.floats(width=32, min_value=-(2.0**99), max_value=2.0**99), max_size=20)


def scalar(value):
    return torch.tensor(value, dtype=torch.float32)


@given(LOSSES, st.integers(0, 4))
def test_the_sum_is_that_of_floats_in_their_order_and_begins_anew(losses, late):
    total = LossSum("cpu", late)
    for _ in range(2):
        assert all(total.add(scalar(loss)) for loss in losses)
        assert total.take() == functools.reduce(float.__add__, losses, 0.0)


@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 5), st.integers(0, 4), st.integers(0, 12))
def test_a_loss_that_is_not_finite_is_noticed_so_many_steps_later_whether_resumed_or_not(bad, before, late, cut):
    total, seen = LossSum("cpu", late), []
    for step in range(before + late + 1):
        if step == cut:
            state, total = total.state(), LossSum("cpu", late)
            total.restore(state)
        seen.append(total.add(scalar(bad if step >= before else 1.0)))
    assert seen == [True] * (before + late) + [False]
    assert not math.isfinite(total.take())


def test_the_sum_keeps_no_graph():
    loss = torch.ones((), requires_grad=True) * 2
    total = LossSum("cpu", 0)
    total.add(loss)
    assert not total._total.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
def test_a_gpu_gives_the_same_sum_and_notices_as_late():
    total = LossSum("cuda", 3)
    assert [total.add(scalar(value).cuda()) for value in (0.1, math.nan, 0.3, 0.3)] == [True] * 4
    assert not total.add(scalar(0.1).cuda())
    assert math.isnan(total.take())
