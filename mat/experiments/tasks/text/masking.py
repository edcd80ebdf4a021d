"""Dynamic masking for masked-language modelling, and the noisy channel it is.

Devlin et al., NAACL 2019, section 3.1: each position is selected on its own with probability 0.15; of the
selected, 80 % become [MASK], 10 % a uniformly random word, 10 % stay. The loss counts selected positions.
Only words are selected: special tokens stay as they are and are never guessed.
The constants here are the only ones: the exact bounds of `tasks.text.markov_bounds` are built from
the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SELECTED = 0.15
TO_MASK = 0.8
TO_RANDOM = 0.1
NOT_COUNTED = -100


class Vocabulary(NamedTuple):
    """``size`` ids; ``mask_id`` is [MASK]; only ``words`` (ids without special and unused ones) are selected, and
    random replacements come from them."""

    size: int
    mask_id: int
    words: range


class Masked(NamedTuple):
    """``inputs``: the corrupted ids; ``labels``: the original id where selected, -100 elsewhere."""

    inputs: Tensor
    labels: Tensor


def mask_tokens(tokens: Tensor, vocabulary: Vocabulary, draws: torch.Generator) -> Masked:
    """Corrupt integer ``tokens`` [...] for masked-language modelling; both results have its shape, int64."""
    tokens = tokens.long()
    words = vocabulary.words
    selected = torch.rand(tokens.shape, generator=draws) < SELECTED
    selected &= (tokens >= words.start) & (tokens < words.stop)
    fate = torch.rand(tokens.shape, generator=draws)
    replacement = torch.randint(words.start, words.stop, tokens.shape, generator=draws)
    corrupted = torch.where(fate < TO_MASK + TO_RANDOM, replacement, tokens)
    corrupted = torch.where(fate < TO_MASK, vocabulary.mask_id, corrupted)
    return Masked(torch.where(selected, corrupted, tokens), torch.where(selected, tokens, NOT_COUNTED))


def selected_channel(words: int) -> np.ndarray:
    """P(seen id | true word, the position is selected), float64 [words, words + 1]; the last id is [MASK]."""
    kept = 1 - TO_MASK - TO_RANDOM
    seen = kept * np.eye(words) + TO_RANDOM / words
    return np.hstack([seen, np.full((words, 1), TO_MASK)])


def channel(words: int) -> np.ndarray:
    """P(seen id | true word) where selection is unknown, float64 [words, words + 1]; last id is [MASK]."""
    untouched = np.hstack([np.eye(words), np.zeros((words, 1))])
    return (1 - SELECTED) * untouched + SELECTED * selected_channel(words)
