"""The paper's own methods by hand-computed examples, and every method training a model."""

import numpy as np
import pytest
import torch

from mat.controller import Controller
from mat.errors import InputError
from mat.experiments.config.plugins import find
from mat.methods.mat import MAT, modular_threshold, temporally_frozen, upper_quantile
from mat.methods.multirate import Multirate
from mat.methods.random import Random
from mat.settings.strict import read
from tests.cases import bert_case, moved, per_sample, resnet_case, vgg_case
from tests.contexts import DEPTH, MODULES, SETTINGS, context, method, observe


def test_threshold_is_the_rank_in_the_integral_spectrum():
    values = np.arange(30, 0, -1.0)
    assert modular_threshold(values, 0.1) == 28  # ⌈3⌉ = 3rd largest, although 0.1 * 30 > 3 in floating point
    assert modular_threshold(values, 0.11) == 27  # ⌈3.3⌉ = 4th
    assert modular_threshold(values, 1.0) == 1
    assert modular_threshold(values, 1e-6) == 30


def test_modular_policy_keeps_modules_at_or_above_the_threshold():
    selection = MAT(alpha=0.5, policy="modular").select(context([observe(4.0, 3.9, 5.0, 0.1)]))
    assert set(selection.thresholds.values()) == {4.0} and selection.active == {"a", "c"}


def test_an_empty_set_keeps_the_largest_and_says_so():
    selection = MAT(alpha=0.1, policy="modular").select(context([observe(1.0, 3.0, 2.0, 0.5)]))
    assert selection.active == {"b"} and "b" in selection.note


def test_temporal_policy_by_hand():
    # a: Δ = 0, 2, 2.001 -> |0.001|/2 = 5e-4 < 1e-3: frozen at the third probe. b: |4 - 2|/2 = 1: not.
    assert temporally_frozen([1, 3, 3.001], 1e-3) and not temporally_frozen([1, 3, 5], 1e-3)
    assert not temporally_frozen([1, 1, 1], 1e-3)  # never moved: no scale
    assert not temporally_frozen([1, 3], 1e-3)  # from the third probe on
    assert temporally_frozen([1, 3, 3.001, 9], 1e-3), "frozen for good, although it moves again"
    # the size of the change counts, not its sign: Δ falls from 4 to 3.999
    assert temporally_frozen([1, 5, 4.999], 1e-3)


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


def test_alternatives_of_the_threshold_by_hand():
    """λ_max 4, 3, 3, 1 and the integral spectrum 10, 4, 2, 1, at α = 0.5."""
    seen = [observe(4.0, 3.0, 3.0, 1.0)]
    wanted = {
        "rank": ({"a"}, 4.0),  # the second largest of the spectrum
        "top": (set(), 5.0),  # half of 10, which no module reaches
        "quantile": ({"a", "b", "c"}, 3.0),  # the median of the modules', ties included
        "share": ({"a", "b"}, 3.0),  # two modules, of equal ones the first
    }
    for threshold, (active, tau) in wanted.items():
        selection = MAT(alpha=0.5, policy="modular", threshold=threshold).select(context(seen))
        assert set(selection.thresholds.values()) == {tau}, threshold
        assert selection.active == (active or {"a"}), threshold
        assert (selection.note is not None) == (not active)


SUMS = {
    "kinds": {"head": np.array([7.0, 2.0]), "ffn": np.array([3.0, 3.0])},  # a and c; b and d
    "layers": {0: 6.0, 1: 3.0, 2: 1.0},  # a and b; c; d
}


def test_scopes_by_hand():
    """λ_max 4, 3, 3, 1 of a (head), b (ffn), c (head) and d (ffn), at α = 0.5; a and b are one layer."""
    wanted = {  # scope, threshold: what is active, and τ of a, b, c and d
        ("kind", "rank"): ("b", (7, 3, 7, 3)),
        ("kind", "top"): ("ab", (3.5, 1.5, 3.5, 1.5)),
        ("kind", "quantile"): ("ab", (3.5, 2, 3.5, 2)),
        ("kind", "share"): ("ab", (4, 3, 4, 3)),
        ("layer", "rank"): ("ab", (4, 4, 4, 4)),  # 6 ≥ 4 > 3
        ("layer", "top"): ("ab", (5, 5, 5, 5)),
        ("layer", "quantile"): ("abc", (3, 3, 3, 3)),  # the median of 6, 3 and 1
        ("layer", "share"): ("abc", (3, 3, 3, 3)),  # ⌈0.5 · 3⌉ layers
    }
    for (scope, threshold), (active, taus) in wanted.items():
        chosen = MAT(alpha=0.5, policy="modular", threshold=threshold, scope=scope).select(
            context([observe(4.0, 3.0, 3.0, 1.0, **SUMS)])
        )
        assert (chosen.active, chosen.thresholds) == (set(active), dict(zip(MODULES, taus, strict=True))), threshold


def test_a_layer_freezes_as_one_and_the_largest_layer_stays():
    """Layer 0: Δ = 0, 1, 1.0001; layers 1 and 2 move, a and b by themselves too."""
    seen = [(1, 1, 1), (2, 3, 9), (2.0001, 9, 1)]
    history = [observe(i, i**2, 1, 1, layers=dict(enumerate(layers))) for i, layers in enumerate(seen)]
    chosen = MAT(policy="temporal", scope="layer").select(context(history))
    assert chosen.frozen == {"a", "b"} and chosen.active == {"c", "d"}
    still = [observe(1, 1, 1, 1, layers={0: t, 1: 2 * t, 2: t}) for t in (1, 2, 2)]
    assert MAT(policy="temporal", scope="layer").select(context(still)).active == {"c"}


def test_an_experts_value_is_divided_by_its_share_of_tokens():
    """τ = 4 of the integral: a has 3/0.5, b 1/0.25; c, which is no expert, 3; d got no token."""
    seen = observe(3.0, 1.0, 3.0, 0.0, routed={"a": 0.5, "b": 0.25, "d": 0.0})
    assert MAT(alpha=0.5, policy="modular", routed=True).select(context([seen])).active == {"a", "b"}
    assert MAT(alpha=0.5, policy="modular").select(context([seen])).note is not None
    with pytest.raises(InputError, match="routed is of single experts"):
        MAT(routed=True, scope="layer")
    with pytest.raises(InputError, match="leave integral full out"):
        MAT(integral="full", scope="kind")


def test_the_quantile_is_numpys_and_exact_where_it_falls_on_a_value():
    values = np.random.default_rng(0).uniform(size=11)
    for alpha in (0.05, 0.25, 0.8, 1.0):
        assert upper_quantile(values, alpha) == pytest.approx(np.quantile(values, 1 - alpha), rel=1e-12)
    for tenth in range(1, 11):
        assert upper_quantile(values, tenth / 10) == np.sort(values)[::-1][tenth]


def test_a_thawed_module_trains_again_when_its_kernel_moves_again():
    """a: Δ = 0, 2, 2, 8: still at the third probe and moving at the fourth. b moves always."""
    history = [observe(1, 1, 9, 9), observe(3, 3, 12, 12), observe(3, 9, 20, 20), observe(9, 30, 30, 30)]
    for thaw, still, later in ((False, {"a"}, {"a"}), (True, {"a"}, set())):
        ways = MAT(beta=1e-3, policy="temporal", thaw=thaw)
        third, fourth = ways.select(context(history[:3])), ways.select(context(history))
        assert set(MODULES) - third.active == still
        assert set(MODULES) - fourth.active == later
        assert third.frozen == (set() if thaw else {"a"}), "what may thaw is not frozen for good"


FIRST = dict(reversed(SETTINGS))  # settings of each method


@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        *((bert_case, *given) for given in SETTINGS if given[0] != "ssprop"),
        *((vgg_case, *given) for given in FIRST.items() if given[0] != "lcsb"),
        (vgg_case, "ssprop", {"schedule": "constant"}),
    ],
)
def test_every_method_trains_a_model(make, name, options):
    """Four steps at two intervals: the loss falls, and exactly what is selected moves.

    A VGG has no residual connections: detached, a layer without an active module would end the backward pass.
    """
    case = make()
    options = {**options, "mode": "exact" if make is vgg_case else "detach"}
    if "kind" in options:
        options["kind"] = case.partition.modules[0].kind
    if name == "lcsb":
        del options["mode"]
    controller = Controller(
        *(case.model, case.partition, method(name, options), case.inputs),
        every=2,
        directions=2,
        probe_labels=case.labels,
        loss=per_sample,
        counts={0: 3, 2: 2},
        cost=lambda active: 2 * len(active) / len(case.partition.names),
        length=4,
    )
    optimizer = torch.optim.SGD(case.model.parameters(), lr=1e-2)
    controller.adopt(optimizer)
    seen = []
    for _ in range(4):
        before = {key: value.detach().clone() for key, value in case.model.named_parameters()}
        controller.begin_step()
        optimizer.zero_grad()
        loss = case.loss()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
        for module in case.partition.modules:
            changed = any(moved(module, before, case.model.state_dict()))
            assert changed == (module.name in controller.active), module.name
    assert seen[-1] < seen[0]


def test_a_method_that_a_model_does_not_fit_is_refused():
    """Before anything moves; a ResNet has paths around some of its layers, a VGG around none."""

    def looked(case, name, options):
        before = {key: value.clone() for key, value in case.model.state_dict().items()}
        controller = Controller(case.model, case.partition, method(name, options), every=2, length=4)
        controller.look(case.inputs)
        assert controller.active == set(case.partition.names)
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())

    for make in (bert_case, resnet_case):
        looked(make(), "lcsb", {"share": 0.5})
    with pytest.raises(InputError, match="LCSB skips layers that residual paths lead around, and in VGG none does"):
        looked(vgg_case(), "lcsb", {"share": 0.5})
    with pytest.raises(InputError, match=r"SsProp needs modules of a kind .*, got 'filters'"):
        looked(bert_case(), "ssprop", {})


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("mat", {"alpha": 0.0}, "alpha: expected a number > 0, got 0"),
        ("mat", {"alpha": 1.5}, "alpha: expected a number ≤ 1, got 1.5"),
        ("mat", {"alpha": "big"}, "alpha: expected a number"),
        ("mat", {"beta": -1.0}, "beta: expected a number ≥ 0"),
        ("mat", {"policy": "spatial"}, "policy: expected 'both', 'modular' or 'temporal', got 'spatial'"),
        ("mat", {"mode": "mask"}, "mode: expected 'exact', 'detach' or 'detach_residual'"),
        ("mat", {"gamma": 1}, "unknown key 'gamma'"),
        ("random", {}, "needs either match"),
        ("random", {"match": "mat", "share": 0.5}, "needs either match"),
        ("random", {"share": 2.0}, "share: expected a number ≤ 1"),
        ("multirate", {"k": 0}, "k: expected a number ≥ 1"),
        ("multirate", {"k": 10**6}, "k: expected a number ≤ 1000"),
        ("mat", {"threshold": "mean"}, "threshold: expected 'rank', 'top', 'quantile' or 'share'"),
        ("mat", {"scope": "head"}, "scope: expected 'kind' or 'layer', got 'head'"),
        ("mat", {"routed": False}, "routed: expected True, got False"),
        ("largest", {}, "needs either match"),
        ("kind", {"share": 0.5}, "'kind' is missing"),
        ("misa", {"share": 0.5, "eta": -1.0}, "eta: expected a number ≥ 0"),
        ("misa", {"share": 0.5, "decay": 1.0}, "decay: expected a number < 1"),
        ("lisa", {}, "needs either match"),
        ("lisa", {"layers": 2, "share": 0.5}, "layers is in place of match and share"),
        ("lisa", {"layers": 0}, "layers: expected a number ≥ 1"),
        ("badam", {"order": "shuffled"}, "order: expected 'random'"),
        ("badam", {"layers": 0}, "layers: expected a number ≥ 1"),
        ("freezeout", {"t0": 0.0}, "t0: expected a number > 0"),
        ("freezeout", {"schedule": "square"}, "schedule: expected 'linear' or 'cubic'"),
        ("autofreeze", {"percentile": 101.0}, "percentile: expected a number ≤ 100"),
        ("grades", {"tau": 0.0}, "tau: expected a number > 0"),
        ("grades", {"grace": 1.0}, "grace: expected a number < 1"),
        ("grades", {"criterion": "loss"}, "criterion: expected 'change' or 'norm'"),
        ("ssprop", {"drop": 1.0}, "drop: expected a number < 1"),
        ("ssprop", {"schedule": "cosine"}, "schedule: expected 'bar' or 'constant'"),
        ("lcsb", {"layers": 1, "mode": "detach"}, "lcsb skips layers by mode detach_residual, got 'detach'"),
        ("frozen_bottom", {}, "needs match"),
    ],
)
def test_bad_settings_are_refused(name, given, message):
    with pytest.raises(InputError, match=message):
        read(find("method", name).METHOD, given, f"method {name}")


def test_an_unknown_method_is_refused_with_the_known_names():
    with pytest.raises(InputError, match=r"unknown method 'sgd'; known: .*mat, .*vanilla"):
        find("method", "sgd")
