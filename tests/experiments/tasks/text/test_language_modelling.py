"""Language modelling on rows: what is asked, and that each token is asked for once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.experiments.tasks import hmm
from mat.experiments.tasks.base import SPLITS
from mat.experiments.tasks.text.language_modelling import AT_ONCE, Rows, TokenTask, unigram_loss
from mat.experiments.tasks.text.masking import NOT_COUNTED, Vocabulary
from mat.experiments.tasks.wikitext import Settings, cut
from tests.experiments.tasks.text.test_tokenizer import LINES, subwords, train_tokenizer

VOCABULARY = Vocabulary(9, 8, range(2, 8))


def causal_task(tokens: int, length: int) -> TokenTask:
    words = subwords(train_tokenizer(LINES, 320, False).to_str())
    streams = {split: np.arange(tokens, dtype=np.uint16) % 300 for split in SPLITS}
    rows = {split: cut(s, Settings(objective="causal_lm", length=length), words) for split, s in streams.items()}
    return TokenTask("wikitext", rows, words.vocabulary, "causal_lm")


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(3, 12))
def test_every_token_but_the_first_is_guessed_once_after_its_predecessor(tokens: int, length: int) -> None:
    task = causal_task(tokens, length)
    guessed, given_before = [], []
    for inputs, labels in task.batches("test", 4):
        assert inputs["input_ids"].shape[1] == length
        counted = labels != NOT_COUNTED
        guessed += labels[counted].tolist()
        given_before += inputs["input_ids"][counted].tolist()
    assert guessed == list(range(1, tokens))
    assert given_before == list(range(tokens - 1))


def test_masked_rows_are_the_text_between_cls_and_sep() -> None:
    words = subwords(train_tokenizer(LINES, 320, False).to_str())
    rows = cut(np.arange(10, 31, dtype=np.uint16), Settings(length=7), words)
    found = rows.take(slice(0, 9))
    assert found.shape == (4, 7)
    assert (found[:, 0] == words.cls).all()
    assert (found[:, -1] == words.sep).all()
    assert found[:, 1:-1].reshape(-1).tolist() == list(range(10, 30))
    assert rows.take(np.array([2, 0])).tolist() == found[[2, 0]].tolist()


def test_rows_past_the_end_are_not_counted_whatever_the_ids_width() -> None:
    rows = Rows(np.array([65535, 7, 9], dtype=np.uint16), np.array([0, 2]), 3)
    assert rows.take(slice(0, 2)).tolist() == [[65535, 7, 9], [9, NOT_COUNTED, NOT_COUNTED]]


def test_special_tokens_are_neither_guessed_nor_put_in() -> None:
    tokens = np.tile(np.array([0, 1, 8, 2, 3, 4, 5, 6, 7], dtype=np.uint16), 4000)
    rows = {split: Rows(tokens, np.arange(0, len(tokens), 9), 9) for split in SPLITS}
    task = TokenTask("hmm", rows, VOCABULARY)
    inputs, labels = task.fixed_masks("train")
    clean = torch.from_numpy(task.rows["train"].take(slice(None)))
    assert (labels[:, :3] == NOT_COUNTED).all()
    assert torch.equal(inputs[:, :3].long(), clean[:, :3])
    assert 0.14 < (labels[:, 3:] != NOT_COUNTED).float().mean() < 0.16
    changed = inputs[(labels != NOT_COUNTED) & (inputs != clean)]
    assert set(changed.tolist()) == {8, *VOCABULARY.words}


def test_fixed_masks_do_not_depend_on_how_a_long_split_is_asked_for() -> None:
    count = 2 * AT_ONCE + 5
    tokens = np.arange(4 * count, dtype=np.uint16) % 6 + 2
    rows = {split: Rows(tokens, np.arange(count) * 4, 4) for split in SPLITS}
    task = TokenTask("hmm", rows, VOCABULARY)
    whole = task.fixed_masks("test")
    for size in (700, AT_ONCE, 3 * AT_ONCE):
        parts = list(task.batches("test", size))
        assert torch.equal(torch.cat([part.inputs["input_ids"] for part in parts]), whole.inputs.long())
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels.long())
    first, second = whole.labels[:AT_ONCE] >= 0, whole.labels[AT_ONCE : 2 * AT_ONCE] >= 0
    assert not torch.equal(first, second)


def test_unigram_loss_by_hand() -> None:
    counts = np.array([4, 2, 1, 0])
    labels = np.array([[0, NOT_COUNTED, 2]])
    assert unigram_loss(counts, labels) == pytest.approx(-(np.log(4 / 7) + np.log(1 / 7)) / 2, abs=1e-12)
    assert np.isnan(unigram_loss(counts, np.full((1, 2), NOT_COUNTED)))


@pytest.mark.parametrize(("objective", "expected"), [("masked_lm", [0, 0, 5, 3, 1, 1, 1, 1, 0]), ("causal_lm", None)])
def test_unigram_counts_what_can_be_asked(objective: str, expected: list[int] | None) -> None:
    row = np.array([1, 2, 2, 2, 2, 3, 3, 0], dtype=np.uint16)
    rows = {split: Rows(row, np.array([0]), 8) for split in SPLITS}
    counts = TokenTask("hmm", rows, VOCABULARY, objective)._counts()
    assert counts.tolist() == (expected or [2, 1, 5, 3, 1, 1, 1, 1, 1])


def test_a_batch_without_selected_positions_has_loss_zero() -> None:
    rows = {split: Rows(np.full(160, 2, dtype=np.uint16), np.arange(40) * 4, 4) for split in SPLITS}
    task = TokenTask("hmm", rows, VOCABULARY)
    labels = torch.full((1, 4), NOT_COUNTED)
    assert task.loss(torch.randn(1, 4, 9), labels).item() == 0
    assert np.isnan(task.score("test", iter([(torch.randn(1, 4, 9), labels)])).loss)


def test_the_demo_text_begins_with_cls_and_guesses_each_word_once() -> None:
    small = {"length": 8, "train": 20, "validation": 6, "test": 6}
    masked, causal = (
        hmm.load(hmm.Settings(objective=objective, **small), None, None) for objective in ("masked_lm", "causal_lm")
    )
    words = torch.from_numpy(masked.rows["test"].take(slice(None)))[:, 1:]
    inputs, labels = next(causal.batches("test", 6))
    assert torch.equal(labels, words)
    assert (inputs["input_ids"][:, 0] == hmm.cls_id(64)).all()
    assert torch.equal(inputs["input_ids"][:, 1:], words[:, :-1])
    inputs, labels = next(masked.batches("test", 6))
    assert (inputs["input_ids"][:, 0] == hmm.cls_id(64)).all()
    assert (labels[:, 0] == NOT_COUNTED).all()
    assert masked.vocabulary_hash == causal.vocabulary_hash


def test_the_source_decides_the_meaning_of_the_demos_ids() -> None:
    tables = [hmm.make_source(64, 4, 6, 0), hmm.make_source(64, 4, 6, 1), hmm.make_source(65, 4, 6, 0)]
    assert len({hmm.source_hash(source) for source in tables}) == 3
