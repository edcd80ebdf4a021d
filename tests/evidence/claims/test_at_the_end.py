"""Claims on ends of schedules and on doses: on whole tables whose answer is known, and on intervals written by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mat.errors import InputError
from mat.evidence.claims.judge import outcome
from mat.evidence.claims.readings import Reading, judge
from mat.evidence.claims.rule import Case, Effect
from mat.evidence.claims.rules import beyond_frontier, beyond_structure, dose_response, equal_compute
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures.frontier import line_at
from mat.evidence.stats.intervals import Interval, mean_interval
from tests.evidence.synthetic import METHODS, Behaviour, collected

UNKNOWN = Interval(1.0, math.nan, math.nan, 1)


def between(low, high):
    return Interval((low + high) / 2, low, high, 3)


READINGS = [
    Reading("detach", "constants", "mat", short="vanilla_short", baselines=["multirate_short", "random_short"]),
    Reading("late", "later", "mat_late"),
]
DOSES = (10, 20, 34, 50, 75)
VANILLA, MAT = METHODS["vanilla"], METHODS["mat"]
LINE = {share: replace(VANILLA, cost=share / 100, extra_loss=0.3 * (1 - share / 100)) for share in (10, 25, 50, 75)}
BUDGETS = {
    **{f"vanilla_b{share}": how for share, how in LINE.items()},
    "mat_b25": replace(MAT, cost=0.02, extra_loss=0.5, probe=0),  # cheaper than the line's cheapest
    "mat_b50": replace(MAT, cost=0.3, extra_loss=0.21),
}  # fmt: skip


def doses(upper, lower, few=0.3):
    """Extra losses: ``few`` at the smallest share, none at the whole; the largest less, the smallest more."""
    shift = {"largest": -upper, "shuffled": 0.0, "smallest": lower}
    return {
        f"{order}_s{dose}": Behaviour(1, few * (1 - dose / 100) + extra, dose / 100, mode="exact")
        for order, extra in shift.items()
        for dose in DOSES
    }


def parts(own, layer, kind):
    """Extra losses at each of X11's shares: what λ_max itself, the layer and the kind says of the modules."""
    extra = {"largest": 0.0, "shuffled_layer": own, "shuffled_kind": own + layer, "shuffled": own + layer + kind}
    return {
        f"{order}_s{dose}": Behaviour(1, lost, dose / 100, mode="exact")
        for order, lost in extra.items()
        for dose in (20, 34, 50)
    }


def judged(rules, name, methods, **what):
    tables = collected(tasks=["hmm"], methods={"vanilla": VANILLA, **methods}, **what)
    claim = next(one for one in rules.claims if one.id == name)
    return judge(Case(tables, "hmm", claim, rules.convergence), READINGS)


def test_the_line_never_rises_is_linear_in_the_logarithm_and_flat_beyond_its_dearest_run():
    macs, losses = [1, 100, 10, 1000], [3.0, 1.2, 2.0, 1.4]  # the last two are pooled: 1.3
    assert line_at(macs, losses, 10**0.5) == pytest.approx(2.5)
    assert line_at(macs, losses, 100) == line_at(macs, losses, 10**9) == pytest.approx(1.3)
    assert line_at(macs, losses, 1) == 3.0 and math.isnan(line_at(macs, losses, 0.99))


@pytest.mark.parametrize(
    ("mat", "short", "verdict"),
    [
        ({"extra_loss": 0.0}, {"extra_loss": 0.2}, "supported"),
        ({"extra_loss": 0.2}, {"extra_loss": 0.0}, "not supported"),
        ({"extra_loss": 0.0}, {"extra_loss": 0.2, "cost": 0.9}, "inconclusive"),  # it spent more
        ({"extra_loss": 0.2}, {"extra_loss": 0.0, "cost": 0.4}, "not supported"),  # less, and is better all the same
        ({"extra_loss": 0.0}, {"extra_loss": 0.2, "cost": 0.4}, "inconclusive"),
    ],
)
def test_vanilla_compressed_to_mat_s_compute(rules, mat, short, verdict):
    spent = {"cost": 0.6, "probe": 0.0, "charges": False, "observes": False}
    methods = {"mat": replace(MAT, **{**spent, **mat}), "vanilla_short": replace(VANILLA, **{**spent, **short})}
    methods |= dict.fromkeys(("multirate_short", "random_short"), methods["vanilla_short"])
    found = judged(rules, "X7", methods)
    assert found.verdict == verdict
    assert "compute of vanilla_short" in found.reason and len(found.deciding) == 2
    assert judged(rules, "C6b", methods).verdict == verdict
    assert judged(rules, "C6br", methods).verdict == verdict  # of one reading: another has no baselines
    tuned = {"mat_best": methods["mat"], "random_best": methods["random_short"]}
    assert judged(rules, "X12", tuned).verdict == verdict


@pytest.mark.parametrize(
    ("full", "verdict"), [({"extra_loss": -0.1}, "supported"), ({"extra_loss": 0.2}, "not supported")]
)
def test_the_frontier_over_budgets(rules, full, verdict):
    found = judged(rules, "X9", {**BUDGETS, "mat": replace(MAT, **full)})
    assert found.verdict == verdict
    assert "or with too few seeds: mat_b25, mat_b75." in found.reason
    assert [effect.part for effect in found.effects] == ["loss of mat_b50 below the line", "loss of mat below the line"]


def test_a_frontier_without_a_point_on_it_is_not_tested(rules):
    found = judged(rules, "X9", {name: how for name, how in BUDGETS.items() if name != "mat_b50"})
    assert found.verdict == "not tested at this scale"
    assert "costs as much as the cheapest of vanilla_b10" in found.reason


@pytest.mark.parametrize(
    ("methods", "verdict"),
    [
        (doses(0.05, 0.05), "supported"),
        (doses(-0.05, 0.05), "not supported"),
        (doses(0.0, 0.0), "not supported"),
        (doses(0.05, 0.05, few=0.0), "inconclusive"),
    ],
)
def test_dose_and_response_over_all_shares(rules, methods, verdict):
    found = judged(rules, "X10", methods, steps=3000)
    assert found.verdict == verdict, found.reason
    assert len(found.deciding) == 3 and len(found.effects) == 13
    assert ("Vacuous" in found.reason) == (verdict == "inconclusive")


@pytest.mark.parametrize(
    ("methods", "verdict"),
    [
        (parts(0.2, 0.0, 0.0), "supported"),
        (parts(0.0, 0.1, 0.1), "not supported"),  # kind and layer say all of it
        (parts(-0.1, 0.1, 0.2), "not supported"),
        (parts(0.0, 0.0, 0.0), "inconclusive"),  # nothing to part
    ],
)
def test_what_lambda_max_says_beyond_kind_and_layer(rules, methods, verdict):
    found = judged(rules, "X11", methods, steps=3000)
    assert found.verdict == verdict, found.reason
    assert ("Vacuous" in found.reason) == (verdict == "inconclusive")
    own, whole, layer, kind, *doses = (effect.interval.mean for effect in found.effects)
    assert whole == pytest.approx(own + layer + kind) and own == pytest.approx(np.mean(doses))
    assert [effect.decides for effect in found.effects] == [True, True, *[False] * 5]
    one = judged(rules, "X11", methods | {"shuffled_s20": replace(methods["shuffled_s20"], mode="detach")})
    assert "exact gradients; shuffled_s20 had others" in one.reason


@pytest.mark.parametrize(
    ("left", "whole", "verdict"),
    [
        (between(0.6, 3), between(1.1, 9), SUPPORTED),
        (between(0.1, 1.2), between(1.1, 9), INCONCLUSIVE),  # above 0, by less than matters, more is not excluded
        (between(0.1, 0.9), between(1.1, 9), NOT_SUPPORTED),
        (between(-3, -0.1), between(1.1, 9), NOT_SUPPORTED),
        (between(-3, 3), between(1.1, 9), INCONCLUSIVE),
        (between(0.6, 3), between(0.9, 9), INCONCLUSIVE),
        (between(-3, 0.1), UNKNOWN, INCONCLUSIVE),
    ],
)
def test_what_is_left_of_an_advantage(left, whole, verdict):
    assert beyond_structure.own(left, whole, 1) == verdict


def test_doses_need_exact_gradients_and_a_partner_each(rules):
    methods = doses(0.05, 0.05)
    one = judged(rules, "X10", methods | {"largest_s10": replace(methods["largest_s10"], mode="detach")})
    assert "exact gradients; largest_s10 had others" in one.reason
    claim = next(one for one in rules.claims if one.id == "X10").played_by("smallest", ["smallest_s10"])
    with pytest.raises(InputError, match="claim X10: expected as many labels in each of largest, shuffled, smallest"):
        outcome(
            Case(collected(tasks=["hmm"], methods={"vanilla": VANILLA, **methods}), "hmm", claim, rules.convergence)
        )


ABOVE, BELOW, SMALL, WIDE = between(0.1, 3), between(-3, -0.1), between(-3, 0.9), between(-3, 3)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([ABOVE, ABOVE], SUPPORTED),
        ([ABOVE, WIDE], PARTLY),
        ([ABOVE, SMALL], PARTLY),
        ([ABOVE, BELOW], INCONCLUSIVE),  # better in one and worse in the other
        ([SMALL, BELOW], NOT_SUPPORTED),
        ([SMALL, WIDE], INCONCLUSIVE),
        ([ABOVE, UNKNOWN], INCONCLUSIVE),
    ],
)
def test_better_at_equal_compute(gains, verdict):
    assert equal_compute.better(gains, 1) == verdict


@pytest.mark.parametrize(
    ("verdict", "spent", "found"),
    [
        *((verdict, 100.0, verdict) for verdict in (SUPPORTED, PARTLY, NOT_SUPPORTED)),
        *((verdict, 105.5, INCONCLUSIVE) for verdict in (SUPPORTED, NOT_SUPPORTED)),
        *((verdict, math.nan, INCONCLUSIVE) for verdict in (SUPPORTED, NOT_SUPPORTED)),
        (SUPPORTED, 94.5, INCONCLUSIVE),
        (NOT_SUPPORTED, 94.5, NOT_SUPPORTED),  # it was held back, and was as good
    ],
)
def test_what_has_spent_less_can_only_refute_and_what_has_spent_more_nothing(verdict, spent, found):
    shares = [Effect("compute", Interval(each), "%", decides=False) for each in (100.0, spent)]
    assert equal_compute.alike(lambda _: verdict, shares, {"compute_tolerance_percent": 5})([]) == found


def test_one_point_beyond_the_frontier_is_asked_for_the_level_of_all():
    """Of n = 3: the t interval of (1, 2, 3) at 95 % is 2 ± 2.48, of (1.5, 2, 2.5) 2 ± 1.24 and at 98.75 % 2 ± 2.55."""
    clear, open_ = mean_interval([1.9, 2, 2.1]), mean_interval([1, 2, 3])
    near, far = mean_interval([1.5, 2, 2.5]), mean_interval([-2.1, -2, -1.9])
    assert near.low > 0 > near.at(0.9875).low
    assert beyond_frontier.beyond([near], 1) == beyond_frontier.beyond([clear, open_, far, far], 1) == SUPPORTED
    assert beyond_frontier.beyond([near, far, far, far], 1) == INCONCLUSIVE
    assert beyond_frontier.beyond([far, far], 1) == NOT_SUPPORTED
    assert beyond_frontier.beyond([far, open_], 1) == beyond_frontier.beyond([far, UNKNOWN], 1) == INCONCLUSIVE
    assert beyond_frontier.beyond([clear.at(0.9999)], 1) == INCONCLUSIVE, "asked again, it is asked at that confidence"


@pytest.mark.parametrize(
    ("upper", "lower", "verdict"),
    [
        (ABOVE, ABOVE, SUPPORTED),
        (between(0.1, 0.9), ABOVE, SUPPORTED),
        (between(0.1, 0.9), between(0.1, 0.9), PARTLY),  # ordered, by less than matters
        (BELOW, ABOVE, NOT_SUPPORTED),  # shuffled is better than the largest
        (ABOVE, BELOW, NOT_SUPPORTED),
        (SMALL, SMALL, NOT_SUPPORTED),  # the lines overlap
        (SMALL, between(0.1, 0.9), NOT_SUPPORTED),
        (SMALL, ABOVE, PARTLY),  # the smallest are bad, the largest are not good
        (WIDE, ABOVE, INCONCLUSIVE),
        (WIDE, SMALL, INCONCLUSIVE),
        (ABOVE, UNKNOWN, INCONCLUSIVE),
    ],
)
def test_dose_and_response(upper, lower, verdict):
    assert dose_response.ordered(upper, lower, between(1.1, 9), 1) == verdict
    assert dose_response.ordered(upper, lower, between(0.9, 9), 1) == INCONCLUSIVE, "so few lose nothing: vacuous"
