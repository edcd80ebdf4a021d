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

from collections.abc import Iterator, Mapping
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
AT_ONCE = 1 << 22  # numbers of 8 bytes that are made at a time
MOST = 1 << 26  # words of all splits together; about 30 bytes each of what is evaluated, 4 of the rest
MOST_WORK = 1 << 40  # multiply-adds of the exact bounds: some minutes of one core
LARGEST = 1 << 11  # words, and pairs of a topic and a syntactic state: tables of at most 32 MiB each
Words = Annotated[int, Range(ge=2, le=LARGEST)]
Factor = Annotated[int, Range(ge=1, le=LARGEST)]  # topics, syntactic states
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

    @property
    def states(self) -> int:
        """Number of hidden states, pairs of a topic and a syntactic state."""
        return self.emission[..., 0].size


def check_source(words: int, topics: int, syntax: int) -> None:
    """Raise InputError for fewer than topics x syntax words, as then two topics would prefer the same word."""
    if words < topics * syntax:
        raise InputError(
            f"words must be at least topics x syntax = {topics * syntax} words, one for each topic to prefer in each "
            f"syntax class, got {words}; raise words or lower topics or syntax"
        )


def check_text(sequences: Mapping[str, int], length: int, words: int, states: int, passes: int = 1) -> None:
    """Raise InputError for more text than is held, or more work than its exact bounds may be.

    Forward-backward over S ``states`` and V ``words``: 2 S^2 + S V multiply-adds a word, of validation and test,
    ``passes`` times.
    """
    text = sum(sequences.values()) * length
    if text > MOST:
        raise InputError(
            f"train, validation and test may have {MOST:,} words together, got {sum(sequences.values()):,} sequences "
            f"of {length}; lower one of them"
        )
    evaluated = sequences["validation"] + sequences["test"]
    work = evaluated * length * passes * states * (2 * states + words)
    if work > MOST_WORK:
        raise InputError(
            f"the best possible losses may take {MOST_WORK:.1e} multiply-adds, got {work:.1e} of {evaluated:,} "
            f"sequences of {length} with {words} words and topics x syntax = {states}; lower one of these"
        )


def pieces(rows: int, numbers: int) -> Iterator[slice]:
    """All of so many ``rows`` in order, so many at a time that ``numbers`` of each take 32 MiB, or one."""
    size = max(1, AT_ONCE // numbers)
    return (slice(start, start + size) for start in range(0, rows, size))


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
    raw = np.random.PCG64(stream_seed(seed, "markov", split))
    topic_start, syntax_start = _cumulative(source.topic_start[None]), _cumulative(source.syntax_start[None])
    topic_moves, syntax_moves = _cumulative(source.topic_moves), _cumulative(source.syntax_moves)
    emission = _cumulative(source.emission)
    text = np.empty((sequences, length), dtype=np.int32)
    for piece in pieces(sequences, 3 * length):
        here = text[piece]
        draws = (raw.random_raw(here.size * 3) >> np.uint64(64 - BITS)).astype(np.int64).reshape(*here.shape, 3)
        topic, syntax = (_pick(start, 0, draws[:, 0, i]) for i, start in enumerate((topic_start, syntax_start)))
        for t in range(length):
            if t:
                topic, syntax = _pick(topic_moves, topic, draws[:, t, 0]), _pick(syntax_moves, syntax, draws[:, t, 1])
            here[:, t] = _pick(emission, topic * len(source.syntax_start) + syntax, draws[:, t, 2])
    return text


def _cumulative(table: np.ndarray) -> np.ndarray:
    """Cumulative rows [R, n] of a ``table`` [..., n], row r lifted by r 2^16: rising through all of them."""
    rows = table.reshape(-1, table.shape[-1])
    return rows.cumsum(-1) + WHOLE * np.arange(len(rows))[:, None]


def _pick(cumulative: np.ndarray, row: np.ndarray | int, draws: np.ndarray) -> np.ndarray:
    """Inverse of the ``row`` of lifted ``cumulative`` tables at the integer ``draws`` [N]."""
    return np.searchsorted(cumulative.reshape(-1), row * WHOLE + draws, side="right") - row * cumulative.shape[1]
