"""The exact losses against enumeration of every hidden path and every text."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.experiments.tasks import hmm
from mat.experiments.tasks.text.markov_bounds import causal_loss, masked_guesses, masked_loss, probabilities
from mat.experiments.tasks.text.markov_source import MarkovSource, make_source, to_whole
from mat.experiments.tasks.text.masking import SELECTED, TO_MASK, TO_RANDOM

LENGTH = 3


def paths(source: MarkovSource) -> list[tuple[tuple[int, ...], float]]:
    """Every hidden path of LENGTH with its probability."""
    start, moves, _ = probabilities(source)
    found = []
    for path in product(range(len(start)), repeat=LENGTH):
        chance = start[path[0]]
        for here, there in pairwise(path):
            chance *= moves[here, there]
        found.append((path, chance))
    return found


def chance_of_text(source: MarkovSource, text: tuple[int, ...]) -> float:
    """P(the first words of a text are ``text``), by summing over hidden paths."""
    emission = source.emission.reshape(-1, source.words) / 2**16
    total = 0.0
    for path, chance in paths(source):
        for state, word in zip(path, text, strict=False):
            chance *= emission[state, word]
        total += chance
    return total


def chance_of_seeing(seen: int, word: int, words: int, selected: bool | None) -> float:
    """P(seen | word) by going through what masking can do; ``selected`` None = unknown."""
    if selected is None:
        known = [chance_of_seeing(seen, word, words, choice) for choice in (False, True)]
        return (1 - SELECTED) * known[0] + SELECTED * known[1]
    if not selected:
        return float(seen == word)
    total = TO_MASK * (seen == words)
    total += sum(TO_RANDOM / words * (seen == drawn) for drawn in range(words))
    return total + (1 - TO_MASK - TO_RANDOM) * (seen == word)


def naive_guess(source: MarkovSource, seen: list[int], position: int) -> np.ndarray:
    """P(word at ``position`` | seen, that position selected) [V], by going through all texts."""
    joint = np.zeros(source.words)
    for text in product(range(source.words), repeat=LENGTH):
        chance = chance_of_text(source, text)
        for t, (shown, word) in enumerate(zip(seen, text, strict=True)):
            chance *= chance_of_seeing(shown, word, source.words, True if t == position else None)
        joint[text[position]] += chance
    return joint / joint.sum()


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 999), st.lists(st.integers(0, 4), min_size=LENGTH, max_size=LENGTH))
def test_guesses_equal_enumeration(seed: int, seen: list[int]) -> None:
    source = make_source(4, 2, 2, seed)
    guesses = masked_guesses(source, np.array([seen]), np.nonzero(np.ones((1, LENGTH))))
    for position in range(LENGTH):
        np.testing.assert_allclose(guesses[position], naive_guess(source, seen, position), atol=1e-10)


def test_masked_loss_averages_over_selected_positions() -> None:
    source = make_source(4, 2, 2, 1)
    inputs = np.array([[4, 1, 2], [0, 4, 3]])
    labels = np.array([[2, -100, 2], [-100, 1, -100]])
    chosen = [naive_guess(source, [4, 1, 2], 0)[2], naive_guess(source, [4, 1, 2], 2)[2]]
    chosen.append(naive_guess(source, [0, 4, 3], 1)[1])
    assert masked_loss(source, inputs, labels) == pytest.approx(-np.log(chosen).mean(), abs=1e-10)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999), st.lists(st.integers(0, 4), min_size=LENGTH, max_size=LENGTH))
def test_causal_loss_equals_enumeration(seed: int, text: list[int]) -> None:
    source = make_source(5, 2, 2, seed)
    expected = -np.log(chance_of_text(source, tuple(text))) / LENGTH
    assert causal_loss(source, np.array([text])) == pytest.approx(expected, abs=1e-10)


def test_the_default_source_needs_near_and_far_context() -> None:
    task = hmm.load(hmm.Settings(train=512), None, Path())
    causal = hmm.load(hmm.Settings(objective="causal_lm", train=512), None, Path())
    inputs, labels = (part.numpy()[:, 1:] for part in task.fixed_masks("validation"))
    source = make_source(64, 4, 6, 0)
    floor = task.bounds["floor_validation"]
    forgetful = {
        name: replace(source, **{name: to_whole(np.ones_like(getattr(source, name)))})
        for name in ("topic_moves", "syntax_moves")
    }
    assert task.bounds["unigram_validation"] > 3.6
    assert floor < 1.6 < causal.bounds["floor_validation"]
    words = causal.rows["validation"].take(slice(None))[:, 1:]
    assert causal.bounds["floor_validation"] == causal_loss(source, words)
    assert masked_loss(source, inputs, labels) == floor
    for blind in forgetful.values():
        assert masked_loss(blind, inputs, labels) > floor + 0.4
