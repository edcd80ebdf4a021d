"""The rivals by examples worked out by hand, each number of their equations in one of them."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from mat.controller import Controller
from mat.methods.autofreeze import AutoFreeze
from mat.methods.badam import BAdam
from mat.methods.freezeout import FreezeOut
from mat.methods.frozen_bottom import FrozenBottom
from mat.methods.grades import GradES
from mat.methods.lcsb import LCSB
from mat.methods.lisa import Lisa
from mat.methods.multirate import Multirate
from mat.methods.ssprop import SsProp
from mat.partition.partition import Module, Partition, Slice
from tests.contexts import MODULES, chosen, context, method, observe


def test_misa_averages_scaled_norms():
    """decay 0.5: G = (0.25·g_0 + 0.5·g_1) / √size; a: (1 + 1)/1 = 2, b: 4/2 = 2, c: 0, d: 10/4 = 2.5; mean 1.625."""
    history = [observe(4, 8, 0, 8), observe(2, 4, 0, 16)]
    importance = method("misa", {"share": 0.5, "decay": 0.5}).importance(context(history, size=(1, 4, 4, 16)))
    assert importance == pytest.approx(np.array([2, 2, 0, 2.5]) / 1.625)
    later = method("misa", {"share": 0.5, "decay": 0.75}).importance(context(history, size=(1, 4, 4, 16)))
    # the older counts 0.75 · 0.25 and the newer 0.25: a (0.75 + 0.5)/1, b (1.5 + 1)/2, d (1.5 + 4)/4
    assert later == pytest.approx(np.array([1.25, 1.25, 0, 1.375]) / 0.96875)
    silent = method("misa", {"share": 0.5}).importance(context([observe(0, 0, 0, 0)]))
    assert (silent == 1).all()


def test_misa_draws_in_proportion_to_the_exponential():
    """One module: shares of p ∝ exp(η·G / mean G), of 4,000 draws within four standard errors; η = 0 is uniform."""
    norms = np.array([1.0, 2.0, 0.0, 5.0])
    for eta in (0.0, 0.7):
        asked = method("misa", {"match": "mat", "eta": eta})
        draws = [asked.select(context([observe(*norms)], counts=(1,), seed=s)).active for s in range(4000)]
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
    pairs = Counter(frozenset(Lisa(layers=2).select(context(interval=0, seed=s)).active) for s in range(1200))
    assert set(pairs) == {frozenset("abc"), frozenset("abd"), frozenset("cd")}
    assert max(abs(n / 1200 - 1 / 3) for n in pairs.values()) < 4 * (2 / 9 / 1200) ** 0.5, "every layer as often"


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
    assert FreezeOut(t0=0.2, schedule="linear").times(5) == pytest.approx([0.2, 0.4, 0.6, 0.8])


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
    # L1 norms of the first layer, 7 and 5, would be 2/7 apart, above the median; L2 norms are equal
    assert AutoFreeze().select(context([observe(3, 4, 4, 1), observe(0, 5, 3, 3)])).frozen == {"a", "b"}
    # of the norm before: 0.5, 0.4, 2, so the first layer is at the median; of the norm now: 1/3, 2/3, 2/3
    assert not AutoFreeze().select(context([observe(4, 0, 2, 1), observe(6, 0, 1.2, 3)])).frozen
    # the second layer's 0.2 is below the median of the two that are left, 0.3, and not of all three
    left = [observe(3, 4, 4, 2), observe(4, 3, 5, 5), observe(5, 0, 4, 3)]
    assert AutoFreeze().select(context(left)).frozen == {"a", "b", "c"}
    # η 0.1, 0.5 and 1: the 20th percentile is 0.26, the 5th 0.14, and none is below the 0th
    spread = [observe(10, 0, 10, 10), observe(11, 0, 15, 20)]
    assert AutoFreeze(percentile=20).select(context(spread)).frozen == {"a", "b"}
    assert not AutoFreeze(percentile=0).select(context(spread)).frozen
    silent = [observe(0, 0, 1, 1), observe(1, 1, 2, 3)]
    assert not AutoFreeze().select(context(silent)).frozen, "a norm of 0 has no scale"


class Sum(nn.Module):
    """Linear maps side by side, each a module and a layer of its own: its loss is a quadratic in each."""

    def __init__(self, parts: int):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(parts)).double()
        for part in self.parts:
            nn.init.zeros_(part.weight)

    def forward(self, x):
        return torch.cat([part(x) for part in self.parts], 1)

    @property
    def partition(self):
        slices = [Slice(f"parts.{i}.weight", 0, 0, 1) for i in range(len(self.parts))]
        return Partition.of(self, [Module(f"part{i}", "layer", i, (piece,)) for i, piece in enumerate(slices)])


def trained_by(asked, steps, rate, every=1, parts=4):
    """A ``Sum`` trained by SGD on ½‖y − t‖² with y = w at x = 1, t_i = i + 1; the weights before every step."""
    model, target = Sum(parts), torch.arange(1.0, parts + 1, dtype=torch.float64)[None]

    def loss(outputs, labels):
        return (outputs - labels).square().sum(1) / 2

    given = {"x": torch.ones(1, 1, dtype=torch.float64)}
    controller = Controller(
        *(model, model.partition, asked, given), every=every, probe_labels=target, loss=loss, length=steps
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    controller.adopt(optimizer)
    base, seen = [group["lr"] for group in optimizer.param_groups], []
    for step in range(steps):
        seen.append([part.weight.item() for part in model.parts])
        for group, own in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = own * rate(step / steps)
        controller.begin_step()
        optimizer.zero_grad()
        loss(model(**given), target).sum().backward()
        optimizer.step()
    seen.append([part.weight.item() for part in model.parts])
    return controller, np.array(seen)


def test_multirate_by_hand():
    """w ← w + h(t − w), h = 1/8, from 0 at t = 1 … 5: the three upper of five layers move at every step; the two lower
    ones at steps 2 and 4 (k = 2), by twice the step."""
    _, weights = trained_by(Multirate(k=2), steps=4, rate=lambda _: 1 / 8, parts=5)
    goal, fast, slow = np.arange(1, 6), 7 / 8, 3 / 4
    assert weights[:, 2:] == pytest.approx(np.array([goal[2:] * (1 - fast**n) for n in range(5)]))
    assert weights[:, :2] == pytest.approx(np.array([goal[:2] * (1 - slow**n) for n in (0, 0, 1, 1, 2)]))


def test_grades_by_hand():
    """Norms 10 → 6 → 5.6 of a: |5.6 − 6|/10 = 0.04; 4 → 4 → 4.1 of b: 0.025; 2 → 2 → 1.8 of c: 0.1; d is 0 at first."""
    history = [observe(10, 4, 2, 0), observe(6, 4, 2, 1), observe(5.6, 4.1, 1.8, 1)]

    def frozen(tau, probes=3, progress=0.5, before=frozenset(), criterion="change"):
        asked = GradES(tau=tau, grace=0.5, criterion=criterion)
        got = asked.select(context(history[:probes], progress=progress, frozen=before))
        assert got.active == set(MODULES) - got.frozen
        return "".join(sorted(got.frozen))

    assert [frozen(tau) for tau in (0.02, 0.03, 0.05, 0.2)] == ["", "b", "ab", "abc"]
    assert frozen(0.05, probes=2) == "bc", "equal norms are a change of 0"
    assert frozen(0.4, probes=2) == "bc", "|6 − 10|/10 is 0.4, and not below it"
    assert frozen(0.05, progress=0.499) == "", "the grace period"
    assert frozen(0.05, before={"c"}) == "abc", "for good"
    assert frozen(0.05, progress=0.1, before={"c"}) == "c"
    # of the first norm: a 0.56, b 1.025, c 0.9
    assert [frozen(tau, criterion="norm") for tau in (0.5, 0.6, 0.95)] == ["", "a", "ac"]


def test_grades_freezes_nothing_that_it_cannot_tell():
    """A first probe, however late; a gradient that is not finite, or was not measured."""
    for criterion in ("change", "norm"):
        asked = GradES(tau=0.9, grace=0.0, criterion=criterion)
        assert not asked.select(context([observe(1, 0, 2, 3)], progress=0.99)).frozen
        for wrong in (math.nan, math.inf):
            for history in (
                [observe(wrong, 8, 8, 8), observe(1, 1, 1, 1)],
                [observe(1, 8, 8, 8), observe(wrong, 1, 1, 1)],
            ):
                assert "a" not in asked.select(context(history, progress=1.0)).frozen
        history = [observe(1, 8, 8, 8), observe(1, 8, 8, 8)]
        del history[1].gradient_norm["a"]
        assert "a" not in asked.select(context(history, progress=1.0)).frozen
    late = [observe(1, 2, math.nan, 4), observe(1, 2.2, 3, 5)]
    got = GradES(tau=0.9).select(context(late, progress=1.0))
    assert got.active == {"c"} and got.frozen == {"a", "b", "d"}


def test_grades_keeps_the_module_that_changes_most_when_no_other_is_left():
    history = [observe(1, 1, 1, 1), observe(1, 1.2, 1.1, 1.9)]
    got = GradES(tau=0.99, grace=0).select(context(history, progress=1.0, frozen=frozenset("d")))
    assert got.active == {"b"} and got.frozen == set("acd") and "b" in got.note


def test_a_decaying_learning_rate_alone_makes_grades_freeze():
    """The negative control: from t to 0 the error of a module is t·∏(1 − h_s), so the gradient of each is 54 % of what
    it was when a constant h = 1/65 has made 40 steps, and every interval of 4 changes it by 3 % or more of the first.
    Half of a cosine's rates sum up to the same; its last changes come near nothing, with as much left to learn."""

    def run(rate):
        controller, weights = trained_by(GradES(tau=0.02, grace=0.5), steps=40, rate=rate, every=4)
        return controller.selection, 1 - weights[-1] / np.arange(1, 5)

    constant, left = run(lambda _: 1 / 65)
    assert constant.active == {f"part{i}" for i in range(4)} and left == pytest.approx((64 / 65) ** 40)
    decayed, unlearnt = run(lambda share: (1 + math.cos(math.pi * share)) / 65)
    assert len(decayed.active) == 1 and len(decayed.frozen) == 3, "all that may be"
    assert (unlearnt > 0.5).all(), "and nothing had converged"


def test_ssprop_is_dense_and_sparse_in_turns_or_always_sparse():
    kept = [
        [SsProp(drop=0.75, schedule=way).select(context(interval=t)).channels for t in range(4)]
        for way in ("bar", "constant")
    ]
    assert kept == [[1.0, 0.25, 1.0, 0.25], [0.25] * 4]
    assert SsProp().select(context(interval=1)).active == set(MODULES)


def test_lcsb_draws_whole_layers_as_lisa_does_and_leaves_the_others_out():
    assert LCSB(layers=2).mode == "detach_residual"
    for seed in range(20):
        for given in ({"layers": 2}, {"share": 0.5}):
            drawn = [kind(**given).select(context(interval=0, seed=seed)) for kind in (LCSB, Lisa)]
            assert drawn[0] == drawn[1]


def test_a_frozen_bottom_is_the_least_that_is_cheap_enough():
    """Layers {a, b}, {c}, {d}; a step costs 1 and 2, 4, 8, 16 more for a, b, c, d."""
    price = dict(zip(MODULES, (2, 4, 8, 16), strict=True))

    def frozen(spent):
        def cost(active):
            return (1 + sum(price[name] for name in active)) / spent

        got = FrozenBottom(match="mat").select(context(interval=0, cost=cost))
        assert got.active == set(MODULES) - got.frozen
        return "".join(sorted(got.frozen)), got.note

    found = {spent: frozen(spent) for spent in (40, 31, 30, 25, 24, 17, 16)}
    assert {spent: names for spent, (names, _) in found.items()} == {
        40: "", 31: "", 30: "ab", 25: "ab", 24: "abc", 17: "abc", 16: "abc",
    }  # fmt: skip
    assert "0 of 3 layers are frozen; 22.50%" in found[40][1], "9 of 40 are left"
    assert "1 of 3" in found[30][1] and "16.67%" in found[30][1], "5 of 30"
    assert "2 of 3" in found[16][1] and "-6.25%" in found[16][1], "one layer stays, though it is too dear"
