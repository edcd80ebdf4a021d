"""Convolutions joined as a tree: a step counted by hand, and the extremes of every active set of small trees."""

from itertools import combinations

import pytest

from mat.experiments.models.closed_form import REMAINDER, Work
from mat.experiments.models.closed_form_convolutions import Chain, Conv, Network, Sum


def network(make, convs, groups=2):
    """``make`` joins convolutions of unlike costs: forward, weight and input as much, of the first no input."""
    joined, work = [Conv.of(depth, groups) for depth in range(convs)], {}
    for depth, conv in enumerate(joined):
        work |= conv.work(2 * groups * groups * 7 ** (depth * 3 % 4), images=depth == 0)
    return Network(make(*joined), work | {REMAINDER: Work(5, 5, 5)})


TREES = {
    "chain": (lambda a, b, c, d: Chain((a, b, c, d)), 4),
    "identity": (lambda a, b, c, d: Chain((a, Sum((Chain((b, c)), Chain())), d)), 4),
    "shortcut": (lambda a, b, c, d, e: Chain((a, Sum((Chain((b, c)), d)), e)), 5),
    "two blocks": (lambda a, b, c, d, e: Chain((a, Sum((Chain((b, c)), Chain())), Sum((d, e)))), 5),
}


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("tree", TREES)
def test_extremes_are_those_of_every_active_set(tree, mode):
    made = network(*TREES[tree])
    names = [name for name in made if name != REMAINDER]
    for count in range(len(names) + 1):
        every = [made.step(chosen, mode) for chosen in combinations(names, count)]
        assert made.extremes(count, mode) == (min(every), max(every))


def test_a_block_by_hand():
    """Groups of 10^depth: the stem (no input), two convolutions of the body, the shortcut; forward 2222."""

    def cost(active, mode):
        conv = [Conv.of(depth, 2) for depth in range(4)]
        work = {}
        for depth, one in enumerate(conv):
            work |= one.work(2 * 10**depth, images=depth == 0)
        tree = Chain((conv[0], Sum((Chain((conv[1], conv[2])), conv[3]))))
        made = Network(tree, work | {REMAINDER: Work(0, 0, 10**6)})
        return made.step([f"conv{d}.filters{g}" for d, g in active], mode) - 2222

    rest = 10**6
    assert cost([], "detach") == cost([], "exact") == 0
    # the stem alone: all between it and the loss passes its gradient on in exact, nothing does in detach
    assert cost([(0, 0)], "exact") == rest + 2 * (10 + 100 + 1000) + 1
    assert cost([(0, 0)], "detach") == 0
    # the shortcut lets half of itself through, to the half of the stem's channels that is active
    assert cost([(0, 0), (3, 0)], "detach") == rest + 1000 + 500 + 1
    assert cost([(0, 0), (0, 1), (3, 0)], "detach") == rest + 1000 + 1000 + 2
    # the body's first convolution is reached through its second only
    assert cost([(1, 0)], "detach") == 0
    assert cost([(1, 0), (2, 1)], "detach") == rest + 100 + 50 + 10
    assert cost([(0, 1), (1, 0), (2, 1)], "detach") == rest + 100 + 50 + 10 + 5 + 1
    assert cost([(2, 1)], "exact") == rest + 100
