"""Rows find their samples by powers of two, in every precision; a row of two samples is none's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.kernels.recording.operands import Call, Layout
from mat.kernels.recording.tracing import Tracer, tag_base, tags

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize(
    ("dtypes", "base"),
    [
        ({torch.float64}, 512),
        ({torch.float32}, 64),
        ({torch.bfloat16}, 64),
        ({torch.float16}, 8),
        ({torch.float32, torch.float16}, 8),
    ],
)
def test_the_base_is_what_half_the_exponents_of_the_narrowest_precision_hold(dtypes, base):
    assert tag_base(dtypes) == base
    assert all(2.0 ** (2 * (base - 1)) <= torch.finfo(dtype).max for dtype in dtypes)


@given(st.integers(1, 700), st.sampled_from([8, 64, 512]))
def test_the_digits_of_a_sample_spell_its_number(n, base):
    digits = tags(n, base)
    assert digits.min() >= 0 and digits.max() < base
    assert torch.equal(sum(row * base**place for place, row in enumerate(digits)), torch.arange(n))
    assert len(digits) == 1 or base ** (len(digits) - 1) < n


def traced(gradient, tagged_by, base, n) -> tuple[Tracer, Layout]:
    layout = Layout(n, (len(gradient),), gradient, 1)
    tracer = Tracer(Call(layout, []), gradient, base)
    for factor in tagged_by:
        tracer.read(gradient * factor[:, None])
    return tracer, layout


@settings(deadline=None)
@given(st.sampled_from(DTYPES), st.integers(1, 80), st.integers(1, 20), st.integers(0, 2**16))
def test_rows_in_any_order_find_their_samples(dtype, n, rows, seed):
    draws = torch.Generator().manual_seed(seed)
    owner = torch.randint(n, (rows,), generator=draws)
    gradient = (torch.rand(rows, 3, generator=draws) + 0.1).to(dtype)
    base = tag_base({dtype})
    tracer, layout = traced(gradient, [(2.0 ** row[owner]).to(dtype) for row in tags(n, base)], base, n)
    assert tracer.assign()
    found = layout.gather(torch.arange(rows), -1)
    for sample, numbers in enumerate(found):
        assert set(numbers.tolist()) - {-1} == set(torch.where(owner == sample)[0].tolist())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_two_samples_is_none_s(dtype):
    gradient = torch.ones(4, 2, dtype=dtype)
    mixed = gradient.clone()
    mixed[2] = torch.tensor([1, 2])  # its first entry is of sample 0, its second of sample 1
    layout = Layout(2, (4,), gradient, 1)
    tracer = Tracer(Call(layout, []), gradient, tag_base({dtype}))
    tracer.read(mixed)
    assert not tracer.assign()


def test_a_number_beyond_the_last_sample_a_fraction_and_a_change_of_sign_are_no_sample():
    for factor in (8.0, 1.5, 0.5, -1.0, float("inf"), float("nan"), 0.0):
        tracer, _ = traced(torch.ones(3, 2), [torch.tensor([1.0, 2.0, factor])], 64, 3)
        assert not tracer.assign(), factor


def test_a_row_without_gradient_is_left_out():
    gradient = torch.tensor([[1.0], [0.0], [3.0], [1e-12]])
    tracer, layout = traced(gradient, [torch.tensor([2.0, 1.0, 1.0, 7.0])], 64, 2)
    assert tracer.assign()
    assert layout.gather(gradient).tolist() == [[[3.0]], [[1.0]]]
