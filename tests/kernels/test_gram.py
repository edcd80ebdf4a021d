"""Gram matrices from factors: both exact forms against gradients that are simply formed and multiplied."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.kernels.gram import ELEMENTWISE, FORMS, TILE, Segment, cheaper_form
from mat.kernels.recording.factors import FEW_CHANNELS, Dense, Factors, OneHot, Patches


def dense_rows(uses: list[Factors], rows: int, columns: int) -> torch.Tensor:
    """(n, rows, columns): Σ_t left ⊗ right of all uses, formed."""
    n = uses[0].left.n
    total = torch.zeros(n, rows, columns).double()
    for use in uses:
        everything = slice(0, n)
        left = use.left.part(everything, 0, use.left.width)
        right = use.right.part(everything, 0, use.right.width)
        at = total[:, use.row : use.row + use.left.width, use.column : use.column + use.right.width]
        at += torch.einsum("ntr,ntc->nrc", left, right)
    return total


@st.composite
def problems(draw):
    """Some uses of one matrix, of all kinds of factors, and disjoint segments of its rows."""
    n, columns = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rows = draw(st.integers(1, 9))
    seed = draw(st.integers(0, 2**16))
    draws = torch.Generator().manual_seed(seed)
    uses = []
    for _ in range(draw(st.integers(1, 3))):
        positions = draw(st.integers(1, 4))
        first = draw(st.integers(0, rows - 1))
        width = draw(st.integers(1, rows - first))
        right = Dense(torch.randn(n, positions, columns, generator=draws).double())
        if draw(st.booleans()):
            left = Dense(torch.randn(n, positions, width, generator=draws).double())
        else:
            left = OneHot(torch.randint(-1, width, (n, positions), generator=draws), width, torch.float64)
        uses.append(Factors(left, right, first))
    cuts = sorted(draw(st.sets(st.integers(0, rows), min_size=2, max_size=6)))
    pairs = [pair for pair in itertools.pairwise(cuts) if draw(st.booleans())] or [(0, rows)]
    return uses, rows, columns, pairs


@settings(deadline=None, max_examples=75)
@given(problems(), st.sampled_from(["formed", "identity"]), st.sampled_from([1, 300, 2**20]))
def test_both_forms_in_any_blocking_equal_the_formed_gradients(problem, way, memory):
    uses, rows, columns, pairs = problem
    n = uses[0].left.n
    whole = dense_rows(uses, rows, columns)
    segments = [Segment(a, b, torch.zeros(n, n).double()) for a, b in pairs]
    FORMS[way](uses, segments, memory)
    for segment in segments:
        part = whole[:, segment.start : segment.stop].flatten(1)
        torch.testing.assert_close(segment.gram, part @ part.T, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=50)
@given(problems(), st.sampled_from(["formed", "identity"]), st.data())
def test_swapped_factors_are_cut_along_columns(problem, way, data):
    uses, rows, columns, _ = problem
    uses = [use for use in uses if isinstance(use.left, Dense)] or [
        Factors(
            Dense(torch.ones(uses[0].left.n, 1, rows).double()), Dense(torch.ones(uses[0].left.n, 1, columns).double())
        )
    ]
    n, stop = uses[0].left.n, data.draw(st.integers(1, columns))
    segment = Segment(0, stop, torch.zeros(n, n).double())
    FORMS[way]([use.swapped for use in uses], [segment], 2**20)
    part = dense_rows(uses, rows, columns)[:, :, :stop].flatten(1)
    torch.testing.assert_close(segment.gram, part @ part.T, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.integers(1, 2),
)
def test_patches_are_what_a_convolution_multiplies(kernel, stride, padding, dilation, each):
    images = torch.randn(3, each, 2, 7, 6).double()
    weight = torch.randn(5, 2, *kernel).double()
    patches = Patches(images, kernel, (stride, padding, dilation))
    out = F.conv2d(images.flatten(0, 1), weight, None, stride, padding, dilation)
    out = out.flatten(2).transpose(1, 2).reshape(3, -1, 5)
    columns = patches.part(slice(0, 3), 0, patches.width)
    assert columns.shape == (3, patches.positions, patches.width)
    torch.testing.assert_close(columns @ weight.flatten(1).T, out)
    middle = patches.part(slice(1, 3), 1, patches.width)
    torch.testing.assert_close(middle, columns[1:, :, 1:])


@pytest.mark.parametrize("channels", [1, FEW_CHANNELS, FEW_CHANNELS + 1])
@pytest.mark.parametrize("each", [1, 2])
def test_gradients_of_convolutions_are_products_with_patches(channels, each):
    images = torch.randn(3, each, channels, 6, 5).double()
    patches = Patches(images, (3, 2), ((2, 1), (1, 0), (1, 2)))
    left = torch.randn(3, 7, patches.positions).double()
    expected = left @ patches.part(slice(None), 0, patches.width)
    torch.testing.assert_close(patches.times(left), expected)


def test_tiles_of_many_samples():
    """More samples than a tile holds, and no multiple of it: only tiles on and above the diagonal are computed."""
    left, right = torch.randn(77, 2, 5).double(), torch.randn(77, 2, 3).double()
    for way in FORMS.values():
        segments = [Segment(a, b, torch.zeros(77, 77).double()) for a, b in ((0, 2), (3, 5))]
        way([Factors(Dense(left), Dense(right))], segments, 2**12)
        for segment in segments:
            rows = torch.einsum("ntr,ntc->nrc", left[:, :, segment.start : segment.stop], right).flatten(1)
            torch.testing.assert_close(segment.gram, rows @ rows.T)


@pytest.mark.parametrize(
    ("positions", "rows", "columns", "n", "expected"),
    [
        (1, 64, 64, 8, "identity"),  # one position a sample: inner products of vectors
        (4, 512, 4608, 64, "identity"),  # the last convolutions of a VGG
        (1024, 64, 576, 64, "formed"),  # its first ones
        (128, 512, 512, 32, "formed"),  # a transformer's projections
        (128, 512, 30000, 4, "identity"),  # an output layer over a vocabulary
    ],
)
def test_the_cost_rule_takes_the_form_with_fewer_multiply_adds(positions, rows, columns, n, expected):
    one = Factors(
        Dense(torch.zeros(1, 1, 1).expand(n, positions, rows)),
        Dense(torch.zeros(1, 1, 1).expand(n, positions, columns)),
    )
    assert cheaper_form([one], [Segment(0, rows, torch.zeros(n, n))]) == expected
    formed = n * positions * rows * columns + n * min(n, (n + TILE) // 2) * rows * columns
    identity = (n * positions) ** 2 * (rows + columns + ELEMENTWISE) / 2
    assert (formed <= identity) == (expected == "formed")
