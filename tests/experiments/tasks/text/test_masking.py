"""Masking does what its constants say, and the channel of the bounds is the same thing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.experiments.tasks.text.masking import NOT_COUNTED, Vocabulary, channel, mask_tokens, selected_channel


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 5), st.integers(1, 20), st.integers(0, 10**6))
def test_only_selected_positions_change(rows: int, length: int, specials: int, words: int, seed: int) -> None:
    vocabulary = Vocabulary(specials + words + 1, specials + words, range(specials, specials + words))
    draws = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, specials + words, (rows, length), generator=draws)
    inputs, labels = mask_tokens(tokens, vocabulary, draws)
    selected = labels != NOT_COUNTED
    assert torch.equal(labels[selected], tokens[selected])
    assert torch.equal(inputs[~selected], tokens[~selected])
    assert set(tokens[selected].tolist()) <= set(vocabulary.words)
    changed = inputs[inputs != tokens].tolist()
    assert set(changed) <= {vocabulary.mask_id, *vocabulary.words}


def test_frequencies_are_those_of_the_channel() -> None:
    words, count = 4, 400_000
    tokens = torch.arange(count) % words
    draws = torch.Generator().manual_seed(0)
    inputs, labels = mask_tokens(tokens, Vocabulary(words + 1, words, range(words)), draws)
    selected = labels != NOT_COUNTED
    for expected, kept in ((channel(words), slice(None)), (selected_channel(words), selected)):
        pairs = torch.bincount(tokens[kept] * (words + 1) + inputs[kept], minlength=words * (words + 1))
        seen = pairs.reshape(words, words + 1).double().numpy()
        trials = seen.sum(1, keepdims=True)
        deviation = np.sqrt(expected * (1 - expected) / trials)
        assert (np.abs(seen / trials - expected) <= 5 * deviation + 1e-12).all()


def test_channel_by_hand() -> None:
    seen = channel(10)[3]
    assert seen[10] == pytest.approx(0.12)
    assert seen[3] == pytest.approx(0.85 + 0.015 + 0.0015)
    assert seen[4] == pytest.approx(0.0015)
    np.testing.assert_allclose(channel(10).sum(1), 1)
    np.testing.assert_allclose(selected_channel(10).sum(1), 1)
