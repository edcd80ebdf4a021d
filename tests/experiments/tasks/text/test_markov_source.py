"""The source: integer tables, bit-identical text, a naive sampler beside the vectorised one."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments.tasks.text.markov_source import WHOLE, MarkovSource, make_source, sample
from mat.seeds import stream_seed

GOLDEN_TABLES = "6812127000d10b60860fa98b8aacc680fe0bc56cbe24e1eb68404b2503ab882f"
GOLDEN_TEXT = "db94dfdf8e86a96ec39a8e310be6428f069ec4fdeba6189a042d77cdfba6eaff"


def sizes() -> st.SearchStrategy[tuple[int, int, int]]:
    """(words, topics, syntax) that a source can have."""
    return st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
        lambda pair: st.tuples(st.integers(max(2, pair[0] * pair[1]), 40), st.just(pair[0]), st.just(pair[1]))
    )


def sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def tables(source: MarkovSource) -> list[np.ndarray]:
    return [source.topic_start, source.syntax_start, source.topic_moves, source.syntax_moves, source.emission]


def naive_sample(source: MarkovSource, sequences: int, length: int, seed: int, split: str) -> list[list[int]]:
    """One word at a time, in plain Python integers."""
    raw = iter(np.random.PCG64(stream_seed(seed, "markov", split)).random_raw(sequences * length * 3).tolist())

    def pick(row: np.ndarray) -> int:
        draw, total = next(raw) >> 48, 0
        for value, share in enumerate(row.tolist()):
            total += share
            if draw < total:
                return value
        raise AssertionError("the row sums to less than 2^16")

    text = []
    for _ in range(sequences):
        topic = syntax = None
        text.append([])
        for _ in range(length):
            topic = pick(source.topic_start if topic is None else source.topic_moves[topic])
            syntax = pick(source.syntax_start if syntax is None else source.syntax_moves[syntax])
            text[-1].append(pick(source.emission[topic, syntax]))
    return text


@settings(max_examples=20, deadline=None)
@given(sizes(), st.integers(0, 1000))
def test_every_row_sums_to_the_whole(size: tuple[int, int, int], seed: int) -> None:
    for table in tables(make_source(*size, seed)):
        assert np.issubdtype(table.dtype, np.integer)
        assert (table >= 0).all()
        assert (table.sum(-1) == WHOLE).all()


@settings(max_examples=15, deadline=None)
@given(sizes(), st.integers(0, 1000))
def test_sampling_equals_the_naive_sampler(size: tuple[int, int, int], seed: int) -> None:
    source = make_source(*size, seed)
    assert sample(source, 3, 7, seed, "train").tolist() == naive_sample(source, 3, 7, seed, "train")


def test_the_default_text_is_bit_identical_everywhere() -> None:
    source = make_source(64, 4, 6, 0)
    assert sha256(*tables(source)) == GOLDEN_TABLES
    assert sha256(*(sample(source, 32, 64, 0, split) for split in ("train", "validation", "test"))) == GOLDEN_TEXT


def test_more_sequences_begin_with_the_same() -> None:
    source = make_source(64, 4, 6, 0)
    assert np.array_equal(sample(source, 9, 5, 0, "train")[:4], sample(source, 4, 5, 0, "train"))
    assert not np.array_equal(sample(source, 4, 5, 0, "test"), sample(source, 4, 5, 0, "train"))
    assert not np.array_equal(sample(source, 4, 5, 1, "train"), sample(source, 4, 5, 0, "train"))


def test_too_few_words_are_refused() -> None:
    with pytest.raises(InputError, match="at least topics x syntax = 24 words"):
        make_source(23, 4, 6, 0)
