"""The source: integer tables, bit-identical text, a naive sampler beside the vectorised one."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments.tasks import acceptability, hmm
from mat.experiments.tasks.text import markov_source
from mat.experiments.tasks.text.markov_bounds import log_likelihood, masked_loss
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


def made_and_judged(sequences: int) -> list[np.ndarray]:
    source = make_source(12, 2, 3, 0)
    text = sample(source, sequences, 5, 0, "test")
    labels = np.where(np.arange(text.size).reshape(text.shape) % 7, -100, text)
    inputs = np.where(labels == -100, text, source.words)
    return [text, log_likelihood(source, text), np.array(masked_loss(source, inputs, labels))]


def test_text_and_its_bounds_are_the_same_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made_and_judged(40)
    for at_once in (1, 200, 333):  # numbers; a sequence has 15 in sampling, 30 or 90 in a bound
        monkeypatch.setattr(markov_source, "AT_ONCE", at_once)
        for one, other in zip(whole, made_and_judged(40), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13)


def test_memory_is_that_of_a_piece_beside_what_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markov_source, "AT_ONCE", 1 << 12)
    source = make_source(64, 4, 6, 0)
    text = sample(source, 1000, 5, 0, "test")
    labels = np.where(np.arange(5) == 2, text, -100)
    for work, kept in (
        (lambda: sample(source, 10_000, 5, 0, "test"), 4 * 50_000),
        (lambda: log_likelihood(source, text), 8 * 1000),
        (lambda: masked_loss(source, text, labels), 2 * 8 * 1000),  # each loss, and all of them joined
    ):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # sixteen arrays of a piece and of the source, 1 MB; of all sequences the smallest work has more than 2.7 MB
        assert peak < kept + 16 * 8 * (1 << 12) + 16 * 8 * 64 * 65


@pytest.mark.parametrize("task", [hmm, acceptability])
@pytest.mark.parametrize(
    ("given_sizes", "said"),
    [
        ({"train": 10**20}, "67,108,864 words together"),
        ({"test": 10**6, "length": 100}, "67,108,864 words together"),
        ({"words": 2048, "topics": 32, "syntax": 64, "validation": 10**4}, r"may take 1\.1e\+12 multiply-adds, got \d"),
        ({"words": 10**6}, "words must be a whole number ≥ 2 and ≤ 2,048, got 1000000"),
        ({"topics": 10**6}, "topics must be"),
        ({"syntax": 10**6}, "syntax must be"),
        ({"topics": 2048, "syntax": 2048}, "at least topics x syntax"),
    ],
)
def test_sizes_that_no_machine_holds_or_ends_are_refused(task: Any, given_sizes: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        task.Settings(**given_sizes)


def test_a_million_short_sequences_are_allowed() -> None:
    assert hmm.Settings(length=8, test=10**6).sizes["test"] == 10**6
