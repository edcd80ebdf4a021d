"""Replaced labels: how many, by what, and that names alone decide."""

from __future__ import annotations

import numpy as np

from mat.experiments.tasks.label_noise import replaced

GOLDEN = ([3, 2, 2, 3, 4, 7, 6, 1], [1, 5, 7, 0])


def test_a_share_is_replaced_by_other_values_evenly() -> None:
    true = np.arange(30_000).reshape(300, 100) % 5
    given, places = replaced(true, 5, 0.4, "a name")
    changed = (given != true).reshape(-1).nonzero()[0]
    assert len(changed) == 12_000
    assert sorted(places) == changed.tolist()
    assert given.dtype == true.dtype
    moved = (given - true).flat[changed] % 5
    counts = np.bincount(moved, minlength=5)
    assert counts[0] == 0
    assert (np.abs(counts[1:] - 3000) < 200).all()  # 4 standard deviations of a binomial


def test_a_larger_share_keeps_what_a_smaller_one_replaced() -> None:
    true = np.arange(1000) % 7
    (small, places), (large, more) = (replaced(true, 7, share, "a name") for share in (0.1, 0.3))
    assert more[:100].tolist() == places.tolist()
    assert (large[places] == small[places]).all()


def test_it_is_the_same_everywhere_and_another_for_another_name() -> None:
    true = np.arange(8)
    given, places = replaced(true, 8, 0.5, "a name")
    assert (given.tolist(), places.tolist()) == GOLDEN
    assert replaced(true, 8, 0.5, "another")[0].tolist() != GOLDEN[0]


def test_no_share_changes_nothing() -> None:
    true = np.arange(8)
    given, places = replaced(true, 8, 0.0, "a name")
    assert (given == true).all()
    assert len(places) == 0
