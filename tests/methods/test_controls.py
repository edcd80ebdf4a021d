"""The controls of X1 by hand-computed examples."""

from dataclasses import replace

import numpy as np
import pytest

from mat.errors import InputError
from mat.experiments.config.plugins import find
from mat.methods.base import check_kinds
from tests.contexts import KIND, MODULES, Observation, chosen, context, method, observe


def test_largest_and_smallest_take_the_first_of_equal_ones():
    seen = [observe(9, 9, 9, 9), observe(1.0, 5.0, 3.0, 3.0)]  # the newest probe decides
    assert chosen("largest", seen) == {"b", "c"}
    assert chosen("smallest", seen) == {"a", "c"}


def test_gradient_norm_reads_gradients_and_no_spectrum():
    norms = dict(zip(MODULES, (0.1, 0.4, 0.2, 0.3), strict=True))
    assert chosen("gradient_norm", [Observation({}, np.empty(0), norms)]) == {"b", "d"}


def test_shuffled_gives_every_module_the_value_of_the_same_other_at_every_probe():
    """The permutation of a run is found from runs in which one module's λ_max stands out."""
    for fixed in range(5):
        given = {}
        for i, name in enumerate(MODULES):
            for interval in range(3):
                values = [9.0 if j == i else 1.0 for j in range(4)]
                (got,) = chosen("shuffled", [observe(*values)], interval, (1,), seed=interval, fixed=fixed)
                assert given.setdefault(name, got) == got
        assert set(given.values()) == set(MODULES)
        values = dict(zip(MODULES, (4.0, 3.0, 2.0, 1.0), strict=True))
        assert chosen("shuffled", [observe(*values.values())], fixed=fixed) == {given["a"], given["b"]}
    runs = {chosen("shuffled", [observe(4, 3, 2, 1)], counts=(1,), fixed=fixed) for fixed in range(40)}
    assert len(runs) == 4, "another permutation in another run"


@pytest.mark.parametrize(
    ("within", "classes"), [("kind", ({"a", "c"}, {"b", "d"})), ("layer", ({"a"}, {"b"}, {"c"}, {"d"}))]
)
def test_shuffled_within_a_class_gives_its_values_to_its_own_modules_alone(within, classes):
    """Of modules a to d the kinds are head, ffn, head, ffn and the layers 0, 0, 1, 2: no two are alike in both."""
    for fixed in range(5):
        given = {}
        for i, name in enumerate(MODULES):
            for interval in range(3):
                values = [9.0 if j == i else 1.0 for j in range(4)]
                how = {"seed": interval, "fixed": fixed, "within": within}
                (got,) = chosen("shuffled_within", [observe(*values)], interval, (1,), **how)
                assert given.setdefault(name, got) == got
        assert all({given[name] for name in members} == members for members in classes)
    runs = {chosen("shuffled_within", [observe(4, 1, 2, 1)], counts=(1,), fixed=f, within=within) for f in range(40)}
    assert runs == ({frozenset("a"), frozenset("c")} if within == "kind" else {frozenset("a")})


def test_shuffled_within_kind_and_layer_exchanges_heads_of_one_layer():
    world = context([observe(4.0, 1.0, 3.0, 2.0)], counts=(1,))
    one = replace(world, depth=dict.fromkeys(MODULES, 0), kind=dict.fromkeys(MODULES, "head"))
    asked = method("shuffled_within", {"match": "mat", "within": "layer"})
    drawn = {asked.select(replace(one, fixed=np.random.default_rng(fixed))).active for fixed in range(40)}
    assert drawn == {frozenset(name) for name in MODULES}


def test_random_once_is_nested_and_stays():
    sets = [chosen("random_once", interval=t, counts=(1, 2, 3, 2), seed=t) for t in range(4)]
    assert sets[0] < sets[1] < sets[2] and sets[3] == sets[1]
    assert len({chosen("random_once", counts=(1,), fixed=fixed) for fixed in range(40)}) == 4


def test_depth_goes_up_or_down_and_is_fixed_within_a_layer():
    for count, up, down in ((2, {"a", "b"}, {"c", "d"}), (3, {"a", "b", "c"}, None)):
        assert chosen("depth", counts=(count,)) == up
        if down:
            assert chosen("depth", counts=(count,), lowest=False) == down
    firsts = [{chosen("depth", counts=(1,), seed=s, fixed=f) for s in range(9)} for f in range(20)]
    assert all(len(first) == 1 for first in firsts), "the interval's stream has no part in it"
    assert set.union(*firsts) == {frozenset("a"), frozenset("b")}


def test_kind_comes_first_and_the_rest_is_drawn():
    ones = {chosen("kind", counts=(1,), seed=s, kind="head") for s in range(40)}
    assert ones == {frozenset("a"), frozenset("c")}
    threes = {chosen("kind", counts=(3,), seed=s, kind="ffn") for s in range(40)}
    assert threes == {frozenset("abd"), frozenset("bcd")}
    asked = find("method", "kind").METHOD(share=0.5, kind="zebra")
    with pytest.raises(InputError, match="one that the model has, ffn, head, got 'zebra'"):
        check_kinds(asked, KIND.values())
    assert set(KIND.values()) == {"head", "ffn"}
