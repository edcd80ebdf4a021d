"""A step's work as parts: they are the partition's modules, and the extremes are those of every active set."""

from itertools import combinations

import pytest

from mat.errors import InputError
from mat.experiments.models import bert, resnet, vgg
from mat.experiments.models.closed_form import REMAINDER
from mat.modes import MODES
from tests.cases import CASES, bert_case, resnet_case, switch_case, vgg_case, vit_case


def work_of(case):
    return case.family.work(case.settings, case.signature, len(case.labels))


@pytest.mark.parametrize("name", CASES)
def test_parts_are_the_modules_of_the_partition_and_the_remainder(name):
    case = CASES[name]()
    assert list(work_of(case)) == [*case.partition.names, REMAINDER]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", MODES)
def test_the_parts_sum_to_the_dense_step(name, mode):
    case = CASES[name]()
    parts = work_of(case)
    dense = parts.step(case.partition.names, mode)
    assert dense == sum(map(sum, parts.values()))


SMALL = {
    "vgg": lambda: vgg_case(groups=2),
    "resnet": lambda: resnet_case(groups=1),
    "vit": lambda: vit_case(ffn_groups=1, heads=2),
    "bert": lambda: bert_case(ffn_groups=1, heads=2),
    "switch": lambda: switch_case(heads=1),
    "bert_rows": lambda: bert_case(ffn_groups=1, heads=3, head_outputs=False),
    "vit_rows_and_heads": lambda: vit_case(ffn_groups=0, heads=3, head_outputs=False),
    "bert_heads": lambda: bert_case(ffn_groups=0),
    "switch_rows": lambda: switch_case(heads=2, head_outputs=False),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SMALL)
def test_extremes_are_those_of_every_active_set(name, mode):
    case = SMALL[name]()
    parts = work_of(case)
    for count in range(len(case.partition.names) + 1):
        every = [parts.step(chosen, mode) for chosen in combinations(case.partition.names, count)]
        assert parts.extremes(count, mode) == (min(every), max(every))


@pytest.mark.parametrize("family", [bert, resnet, vgg])
def test_unknown_modes_modules_and_counts_are_refused(family):
    case = CASES[family.__name__.rpartition(".")[2]]()
    parts = work_of(case)
    with pytest.raises(InputError, match=r"unknown backward mode 'mask'; known: exact, detach, detach_residual"):
        parts.step((), "mask")
    with pytest.raises(InputError, match=r"'layer9' is not a module of this model"):
        parts.step({"layer9"}, "exact")
    with pytest.raises(InputError, match=r"cannot be active"):
        parts.extremes(len(parts), "exact")
