"""Methods by hand-computed examples, and the contract that every method keeps."""

import numpy as np
import pytest

from mat.errors import InputError
from mat.methods import METHODS
from mat.methods.base import Context, Observation
from mat.methods.mat import MAT, modular_threshold, temporally_frozen
from mat.methods.multirate import Multirate
from mat.methods.random import Random
from mat.registry import build, find

MODULES = ("a", "b", "c", "d")
DEPTH = {"a": 0, "b": 0, "c": 1, "d": 2}


def observe(*values, integral=(10.0, 4.0, 2.0, 1.0)):
    return Observation(dict(zip(MODULES, values, strict=True)), np.array(integral))


def context(history=(), interval=None, seed=0, counts=()):
    interval = len(history) - 1 if interval is None else interval
    return Context(interval, MODULES, DEPTH, np.random.default_rng(seed), tuple(history), counts)


def test_threshold_is_the_rank_in_the_integral_spectrum():
    values = np.arange(30, 0, -1.0)
    assert modular_threshold(values, 0.1) == 28  # ⌈3⌉ = 3rd largest, although 0.1 * 30 > 3 in floating point
    assert modular_threshold(values, 0.11) == 27  # ⌈3.3⌉ = 4th
    assert modular_threshold(values, 1.0) == 1
    assert modular_threshold(values, 1e-6) == 30


def test_modular_policy_keeps_modules_at_or_above_the_threshold():
    selection = MAT(alpha=0.5, policy="modular").select(context([observe(4.0, 3.9, 5.0, 0.1)]))
    assert selection.threshold == 4.0 and selection.active == {"a", "c"}


def test_an_empty_set_keeps_the_largest_and_says_so():
    selection = MAT(alpha=0.1, policy="modular").select(context([observe(1.0, 3.0, 2.0, 0.5)]))
    assert selection.active == {"b"} and "b" in selection.note


def test_temporal_policy_by_hand():
    # a: Δ = 0, 2, 2.001 -> |0.001|/2 = 5e-4 < 1e-3: frozen at the third probe. b: |4 - 2|/2 = 1: not.
    history = [observe(1, 1, 1, 1), observe(3, 3, 1, 2), observe(3.001, 5, 1, 3)]
    assert temporally_frozen(history, "a", 1e-3) and not temporally_frozen(history, "b", 1e-3)
    assert not temporally_frozen(history, "c", 1e-3)  # never moved: no scale
    assert not temporally_frozen(history[:2], "a", 1e-3)  # from the third probe on
    later = [*history, observe(9, 5, 1, 4)]
    assert temporally_frozen(later, "a", 1e-3), "frozen for good, although it moves again"
    # the size of the change counts, not its sign: Δ falls from 4 to 3.999
    assert temporally_frozen([observe(1, 1, 1, 1), observe(1, 5, 1, 1), observe(1, 4.999, 1, 1)], "b", 1e-3)


def test_mat_is_both_policies():
    history = [observe(9, 9, 9, 9), observe(11, 12, 9, 0.5), observe(11.0001, 14, 9, 0.1)]
    both = MAT(alpha=0.5, beta=1e-3).select(context(history))
    assert both.active == {"b", "c"} and both.frozen == {"a"}


def test_when_all_are_frozen_the_largest_stays():
    history = [observe(1, 1, 1, 1), observe(2, 3, 4, 5), observe(2, 3, 4, 5)]
    selection = MAT(beta=1e-3).select(context(history))
    assert selection.active == {"d"} and selection.frozen == {"a", "b", "c"}


def test_random_follows_the_matched_counts_and_redraws():
    method = Random(match="mat")
    chosen = [method.select(context(interval=t, seed=t, counts=(3, 1))).active for t in range(40)]
    assert len(chosen[0]) == 3 and {len(c) for c in chosen[1:]} == {1}
    assert len(set(chosen[1:])) == 4, "every module is drawn at some time"
    again = method.select(context(interval=5, seed=5, counts=(3, 1))).active
    assert again == chosen[5]


def test_random_share_rounds_to_at_least_one():
    assert len(Random(share=0.01).select(context(interval=0)).active) == 1
    assert len(Random(share=0.5).select(context(interval=0)).active) == 2


def test_multirate_slows_the_half_nearest_the_input():
    method = Multirate(k=3)
    assert method.periods(MODULES, DEPTH) == {"a": 3, "b": 3}
    assert method.select(context(interval=0)).active == set(MODULES)


SETTINGS = {"random": {"share": 0.5}, "early_stop": {"match": "mat"}}


@pytest.mark.parametrize("name", METHODS)
def test_contract(name):
    """A method is a frozen, pure choice of a non-empty subset that does not depend on when it is asked."""
    kind = find("method", METHODS, name).METHOD
    method = build(f"method {name}", kind, SETTINGS.get(name, {}))
    rng = np.random.default_rng(1)
    history = [
        observe(*rng.uniform(0.1, 9, 4), integral=np.sort(rng.uniform(0.1, 20, 8))[::-1]) for _ in range(6)
    ]
    for t in range(6):
        seen = history[: t + 1] if method.reads else ()
        picked = [method.select(context(seen, interval=t)) for _ in range(2)]
        assert picked[0] == picked[1]
        assert picked[0].active and picked[0].active <= set(MODULES)
        assert not picked[0].active & picked[0].frozen
    assert all(period >= 1 for period in method.periods(MODULES, DEPTH).values())
    assert find("method", METHODS, name).__doc__.count("Claim:") == 1, "every method file is its card"
    with pytest.raises(AttributeError):
        method.mode = "exact"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("mat", {"alpha": 0.0}, r"alpha must be in \(0, 1\]"),
        ("mat", {"alpha": 1.5}, r"alpha must be in \(0, 1\]"),
        ("mat", {"alpha": "big"}, "alpha must be float"),
        ("mat", {"beta": -1.0}, "beta must be"),
        ("mat", {"policy": "spatial"}, "policy must be one of"),
        ("mat", {"mode": "mask"}, "mode must be"),
        ("mat", {"gamma": 1}, "unknown key 'gamma'"),
        ("random", {}, "needs either match"),
        ("random", {"match": "mat", "share": 0.5}, "needs either match"),
        ("random", {"share": 2.0}, "share must be in"),
        ("multirate", {"k": 0}, "k must be a whole number"),
    ],
)
def test_bad_settings_are_refused(name, given, message):
    with pytest.raises(InputError, match=message):
        build(f"method {name}", find("method", METHODS, name).METHOD, given)


def test_an_unknown_method_is_refused_with_the_known_names():
    with pytest.raises(InputError, match=r"unknown method 'sgd'; known: .*mat, .*vanilla"):
        find("method", METHODS, "sgd")
