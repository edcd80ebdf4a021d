"""A seeded hidden Markov source of text: a slow topic state times a fast syntax state.

Hidden state = (topic, syntax), two independent chains:
- the topic stays with probability 31/32 and else moves to another one, evenly: far context;
- the syntax class moves on to the next of a cycle with probability 15/16, stays with 1/32, skips one with
  1/32: near context.
The first state is uniform over both. Each syntax class has its own pool of words. Even classes are
*function* words: few of them, the same for every topic. Odd classes are *content* words: the topic decides
which words of the pool are preferred. Any word can come anywhere with a small background probability. So a
neighbour tells the class, and the topic shows only at every second word, through noise.

Bit-identical on every machine: tables are integers that sum to 2^16, draws are the top 16 bits of raw
PCG64 output (whose stream NumPy keeps, NEP 19), and sampling compares the one with the other. No float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mat.errors import InputError
from mat.limits import Range
from mat.seeds import stream_seed

BITS = 16
WHOLE = 1 << BITS
TOPIC_STAYS = WHOLE * 31 // 32
SYNTAX_ADVANCES = WHOLE * 15 // 16
PREFERENCE = (512, 256, 128, 64)
BACKGROUND = 1
MOST = 1 << 26  # words of all splits together; 48 bytes each while they are drawn
Words = Annotated[int, Range(ge=2, le=WHOLE // 4)]
Factor = Annotated[int, Range(ge=1, le=WHOLE // 4)]  # topics, syntactic states
SourceSeed = Annotated[int, Range(ge=0)]


@dataclass(frozen=True)
class MarkovSource:
    """Probability tables in units of 2^-16, int64; every row sums to 2^16.

    Attributes:
        topic_start: [T]
        syntax_start: [S]
        topic_moves: [T, T], row = from.
        syntax_moves: [S, S], row = from.
        emission: [T, S, V]
    """

    topic_start: np.ndarray
    syntax_start: np.ndarray
    topic_moves: np.ndarray
    syntax_moves: np.ndarray
    emission: np.ndarray

    @property
    def words(self) -> int:
        """Number of words V."""
        return self.emission.shape[2]


def check_source(words: int, topics: int, syntax: int) -> None:
    """Raise InputError for fewer than topics x syntax words, as then two topics would prefer the same word."""
    if words < topics * syntax:
        raise InputError(
            f"words must be at least topics x syntax = {topics * syntax} words, one for each topic to prefer in each "
            f"syntax class, got {words}; raise words or lower topics or syntax"
        )


def check_text(sequences: Mapping[str, int], length: int) -> None:
    """Raise InputError for more text than is drawn at once."""
    words = sum(sequences.values()) * length
    if words > MOST:
        raise InputError(
            f"train, validation and test may have {MOST:,} words together, got {sum(sequences.values()):,} sequences "
            f"of {length}; lower one of them"
        )


def make_source(words: int, topics: int, syntax: int, seed: int) -> MarkovSource:
    """The source of ``seed``: the seed decides which words a syntax class has and which a topic prefers.

    Raises InputError as `check_source` does.
    """
    check_source(words, topics, syntax)
    pools = _word_pools(words, syntax, seed)
    weights = np.full((topics, syntax, words), BACKGROUND, dtype=np.int64)
    for s, pool in enumerate(pools):
        for t in range(topics):
            turn = t * len(pool) // topics if _has_content(s, syntax) else 0
            favourites = np.roll(pool, -turn)[: len(PREFERENCE)]
            weights[t, s, favourites] += np.array(PREFERENCE[: len(favourites)])
    return MarkovSource(
        topic_start=to_whole(np.ones(topics, dtype=np.int64)),
        syntax_start=to_whole(np.ones(syntax, dtype=np.int64)),
        topic_moves=_topic_moves(topics),
        syntax_moves=_syntax_moves(syntax),
        emission=to_whole(weights),
    )


def _has_content(s: int, syntax: int) -> bool:
    return s % 2 == 1 or syntax == 1


def _word_pools(words: int, syntax: int, seed: int) -> list[np.ndarray]:
    """The words of each class: words / (2 syntax) for a function class; content classes share the rest."""
    raw = np.random.PCG64(stream_seed(seed, "markov", "words")).random_raw(words)
    shuffled = np.argsort(raw, kind="stable")
    function = [s for s in range(syntax) if not _has_content(s, syntax)]
    content = [s for s in range(syntax) if _has_content(s, syntax)]
    cut = len(function) * max(1, words // (2 * syntax))
    pools = {s: shuffled[:cut][i :: len(function)] for i, s in enumerate(function)}
    pools |= {s: shuffled[cut:][i :: len(content)] for i, s in enumerate(content)}
    return [pools[s] for s in range(syntax)]


def _topic_moves(topics: int) -> np.ndarray:
    if topics == 1:
        return np.array([[WHOLE]])
    moves = np.full((topics, topics), (WHOLE - TOPIC_STAYS) // (topics - 1))
    np.fill_diagonal(moves, 0)
    np.fill_diagonal(moves, WHOLE - moves.sum(1))
    return moves


def _syntax_moves(syntax: int) -> np.ndarray:
    moves = np.zeros((syntax, syntax), dtype=np.int64)
    here = np.arange(syntax)
    rest = (WHOLE - SYNTAX_ADVANCES) // 2
    for step, share in ((1, SYNTAX_ADVANCES), (0, rest), (2, rest)):
        np.add.at(moves, (here, (here + step) % syntax), share)
    return moves


def to_whole(weights: np.ndarray) -> np.ndarray:
    """Integer ``weights`` [..., n] scaled down or up to rows summing to 2^16; the heaviest takes the rest."""
    scaled = weights * WHOLE // weights.sum(-1, keepdims=True)
    heaviest = weights.argmax(-1)[..., None]
    rest = WHOLE - scaled.sum(-1, keepdims=True)
    np.put_along_axis(scaled, heaviest, np.take_along_axis(scaled, heaviest, -1) + rest, -1)
    return scaled


def sample(source: MarkovSource, sequences: int, length: int, seed: int, split: str) -> np.ndarray:
    """Independent word sequences, int32 [sequences, length], values 0 … V - 1.

    Splits are separate streams, and more sequences of a split begin with the same ones.
    """
    raw = np.random.PCG64(stream_seed(seed, "markov", split)).random_raw(sequences * length * 3)
    draws = (raw >> np.uint64(64 - BITS)).astype(np.int64).reshape(sequences, length, 3)
    topic_moves, syntax_moves = source.topic_moves.cumsum(-1), source.syntax_moves.cumsum(-1)
    emission = source.emission.cumsum(-1)
    text = np.empty((sequences, length), dtype=np.int32)
    topic_rows, syntax_rows = source.topic_start.cumsum()[None], source.syntax_start.cumsum()[None]
    for t in range(length):
        topic, syntax = _pick(topic_rows, draws[:, t, 0]), _pick(syntax_rows, draws[:, t, 1])
        text[:, t] = _pick(emission[topic, syntax], draws[:, t, 2])
        topic_rows, syntax_rows = topic_moves[topic], syntax_moves[syntax]
    return text


def _pick(cumulative: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Inverse of the ``cumulative`` tables [N or 1, n] at the integer ``draws`` [N]."""
    return (cumulative <= draws[:, None]).sum(-1)
