"""Three ledgers: what ran equals the formula exactly; the nominal count differs by what it says it does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mat.backward import SparseBackward
from mat.errors import InputError
from mat.flops import executed_macs, nominal
from mat.partition import Module, Partition, Slice
from tests.cases import CASES, bert_case, vgg_case


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
def test_executed_is_the_closed_form(name, mode, data):
    case = CASES[name]()
    active = data.draw(st.sets(st.sampled_from(case.partition.names)))
    sparse = SparseBackward(case.model, case.partition, mode)
    sparse.set_active(active)
    macs, _ = executed_macs(lambda: case.loss().backward())
    batch = len(case.labels)
    expected = case.family.closed_form(case.settings, case.example, case.outputs, batch, active, mode)
    assert macs == expected


@pytest.mark.parametrize("name", CASES)
def test_share_one_is_the_dense_step(name):
    case = CASES[name]()
    dense, _ = executed_macs(lambda: case.loss().backward())
    SparseBackward(case.model, case.partition, "detach")
    assert executed_macs(lambda: case.loss().backward())[0] == dense


def test_the_vgg_convolutions_are_counted_by_hand():
    case = vgg_case()
    count = nominal(case.model, case.partition, case.example)
    by_hand = [9 * 2 * 4 * 64, 9 * 4 * 6 * 16, 9 * 6 * 8 * 16]
    for depth, macs in enumerate(by_hand):
        assert sum(v for name, v in count.modules.items() if name.startswith(f"conv{depth}")) == macs
        assert count.modules[f"conv{depth}.filters0"] == macs // 2


def test_the_heads_of_bert_are_counted_by_hand():
    case = bert_case(ffn_groups=1)
    count = nominal(case.model, case.partition, case.example)
    s, d, heads = 6, 12, 3
    assert count.modules["layer0.head0"] == s * 4 * d * d // heads + 2 * s * s * d // heads
    assert count.modules["layer1.ffn"] == s * 8 * d * d


@pytest.mark.parametrize("name", CASES)
def test_nominal_exceeds_the_forward_products_only_by_normalisation_and_pooling(name):
    """fvcore also counts elementwise work of norms and pooling; it lies in the remainder and is small."""
    case = CASES[name]()
    count = nominal(case.model, case.partition, case.example)
    with torch.no_grad():
        forward, _ = executed_macs(lambda: case.model(**case.example))
    assert forward <= count.forward <= 1.15 * forward
    dense = count.step(2, case.partition.names)
    assert dense == 2 * 3 * count.forward
    assert count.step(2, []) == 2 * (count.forward + 2 * count.remainder)


def test_a_layer_that_is_never_called_is_an_error():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3))
    model.spare = torch.nn.Linear(4, 4)
    model.forward = lambda x: model[0](x).mean((2, 3))
    spare = Module("spare", "layer", 0, (Slice("spare.weight", 0, 0, 4),))
    with pytest.raises(InputError, match=r"'spare'.*never called"):
        nominal(model, Partition.of(model, [spare]), {"x": torch.randn(1, 1, 5, 5)})
