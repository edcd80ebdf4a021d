"""The controls of X1 and the rivals by hand-computed examples."""

import numpy as np
import pytest

from mat.errors import InputError
from mat.experiments.config.plugins import find
from mat.methods.autofreeze import AutoFreeze
from mat.methods.badam import BAdam
from mat.methods.base import check_kinds
from mat.methods.freezeout import FreezeOut
from mat.methods.lisa import Lisa
from tests.contexts import KIND, MODULES, Observation, context, method, observe


def chosen(name, history=(), interval=0, counts=(2,), seed=0, fixed=0, **given):
    asked = method(name, {"match": "mat", **given})
    return asked.select(context(history, interval, seed, counts, fixed)).active


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


def test_misa_averages_scaled_norms():
    """decay 0.5: G = (0.25·g_0 + 0.5·g_1) / √size; a: (1 + 1)/1 = 2, b: 4/2 = 2, c: 0, d: 10/4 = 2.5; mean 1.625."""
    history = [observe(4, 8, 0, 8), observe(2, 4, 0, 16)]
    importance = method("misa", {"share": 0.5, "decay": 0.5}).importance(context(history, size=(1, 4, 4, 16)))
    assert importance == pytest.approx(np.array([2, 2, 0, 2.5]) / 1.625)
    silent = method("misa", {"share": 0.5}).importance(context([observe(0, 0, 0, 0)]))
    assert (silent == 1).all()


def test_misa_draws_in_proportion_to_the_exponential():
    """One module: shares of p ∝ exp(η·G / mean G), of 4,000 draws within four standard errors; η = 0 is uniform."""
    norms = np.array([1.0, 2.0, 0.0, 5.0])
    for eta in (0.0, 0.7):
        draws = [chosen("misa", [observe(*norms)], counts=(1,), seed=s, eta=eta) for s in range(4000)]
        p = np.exp(eta * norms / norms.mean())
        p /= p.sum()
        found = np.array([sum(name in draw for draw in draws) for name in MODULES]) / 4000
        assert (np.abs(found - p) < 4 * np.sqrt(p * (1 - p) / 4000)).all()
    assert chosen("misa", [observe(*norms)], eta=1e6) == {"b", "d"}, "no probability underflows"


def test_lisa_takes_whole_layers_until_there_are_enough():
    layers = [{"a", "b"}, {"c"}, {"d"}]
    one = {frozenset(Lisa(layers=1).select(context(interval=0, seed=s)).active) for s in range(40)}
    assert one == set(map(frozenset, layers))
    assert Lisa(layers=9).select(context(interval=0)).active == set(MODULES)
    matched = {chosen("lisa", counts=(2,), seed=s) for s in range(60)}
    assert matched == {frozenset("ab"), frozenset("cd"), frozenset("abc"), frozenset("abd")}


def test_badam_visits_every_block_once_a_cycle():
    def run(order, blocks, intervals):
        select = BAdam(order=order, layers=blocks).select
        return ["".join(sorted(select(context(interval=t, seed=t)).active)) for t in range(intervals)]

    assert run("ascending", 1, 4) == ["ab", "c", "d", "ab"]
    assert run("descending", 1, 4) == ["d", "c", "ab", "d"]
    assert run("ascending", 2, 3) == ["abc", "d", "abc"]
    cycles = np.array(run("random", 1, 60)).reshape(20, 3)
    assert all(sorted(cycle) == ["ab", "c", "d"] for cycle in cycles.tolist())
    assert len(set(map(tuple, cycles.tolist()))) == 6, "every cycle has its own order"


def test_freezeout_freezes_the_prefix_in_time():
    """Three layers, t_0 = 0.5: times 0.5, 0.75 and 1, or their cubes 0.125 and 0.421875."""
    assert FreezeOut(t0=0.5, schedule="linear").times(3) == [0.5, 0.75]
    assert FreezeOut(t0=0.5, schedule="cubic").times(3) == [0.125, 0.421875]
    wanted = [(0.0, ""), (0.4, ""), (0.5, "ab"), (0.74, "ab"), (0.75, "abc"), (0.999, "abc")]
    for progress, frozen in wanted:
        got = FreezeOut(t0=0.5, schedule="linear").select(context(interval=0, progress=progress))
        assert got.frozen == set(frozen) and got.active == set(MODULES) - set(frozen)
    assert FreezeOut(t0=0.5).times(1) == []


def test_autofreeze_by_hand():
    """Layers {a, b}, {c}, {d}; norms of the first are √(a² + b²).

    Second probe: η = |5 − 5|/5 = 0, |2 − 1|/2 = 0.5, |1 − 3|/1 = 2, median 0.5: the first freezes, the second does
    not. Third: of the two left 0 and 1/3, median 1/6: the second freezes. Fourth: the last stays.
    """
    history = [observe(3, 4, 2, 1), observe(4, 3, 1, 3), observe(9, 9, 1, 2), observe(1, 1, 1, 2)]
    got = ["".join(sorted(AutoFreeze().select(context(history[: t + 1])).frozen)) for t in range(4)]
    assert got == ["", "ab", "abc", "abc"]
    still = [observe(3, 4, 1, 1), observe(3, 4, 1, 1)]
    assert not AutoFreeze().select(context(still)).frozen, "equal changes are not below their percentile"
    behind = [observe(9, 9, 2, 1), observe(1, 1, 2, 1.1)]
    assert not AutoFreeze().select(context(behind)).frozen, "a layer waits for those below it"
    silent = [observe(0, 0, 1, 1), observe(1, 1, 2, 3)]
    assert not AutoFreeze().select(context(silent)).frozen, "a norm of 0 has no scale"
