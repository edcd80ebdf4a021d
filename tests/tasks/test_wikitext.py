"""Tokenisation of WikiText: deterministic, trained on the training split alone, nothing lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mat.errors import InputError
from mat.tasks.wikitext import SPECIALS, Settings, choose_blocks, cut, encode, load, train_tokenizer

LINES = ["= A title =", "the <unk> river ran north , in 1923 .", "Senjō no Valkyria : 戦場の 3"] * 5
SMALL = {"config": "wikitext-2-raw-v1", "vocab_size": 300, "length": 16}


def test_training_twice_gives_the_same_tokenizer() -> None:
    first, second = (train_tokenizer(LINES, 320).to_str() for _ in range(2))
    assert first == second


def test_special_ids_come_first_and_unk_stays_whole() -> None:
    tokenizer = train_tokenizer(LINES, 320)
    assert [tokenizer.id_to_token(i) for i in range(len(SPECIALS))] == list(SPECIALS)
    assert tokenizer.get_vocab_size() <= 320
    stream = encode(tokenizer, LINES[1:2])
    assert (stream == SPECIALS.index("<unk>")).sum() == 1
    assert stream[-1] == SPECIALS.index("[EOL]")


def test_any_text_can_be_written_and_read_back() -> None:
    tokenizer = train_tokenizer(LINES[:2], 280)
    text = "unseen: Ωμέγα 東京 \u2013 ok"
    assert tokenizer.decode(encode(tokenizer, [text]).tolist()).strip() == text


def test_blocks() -> None:
    blocks = cut(np.arange(11), 3)
    assert blocks.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert choose_blocks(blocks, None, "train").tolist() == blocks.tolist()
    one, two = (choose_blocks(blocks, n, "train")[:, 0].tolist() for n in (1, 2))
    assert set(one) < set(two)
    with pytest.raises(InputError, match="'train_blocks'"):
        choose_blocks(blocks, 4, "train")


def test_caps_keep_the_same_blocks(mirror: Path, tmp_path: Path) -> None:
    whole = load(Settings(**SMALL), mirror, tmp_path)
    capped = load(Settings(**SMALL, train_blocks=20, validation_blocks=5), mirror, tmp_path)
    assert capped.sizes == {"train": 20, "validation": 5, "test": whole.sizes["test"]}
    for split in ("train", "validation"):
        rows = {tuple(row) for row in capped.tokens[split].tolist()}
        assert rows <= {tuple(row) for row in whole.tokens[split].tolist()}


def test_the_tokenizer_sees_the_training_split_alone(mirror: Path, tmp_path: Path, text_writer) -> None:
    folder = tmp_path / "data" / "Salesforce/wikitext/wikitext-2-raw-v1"
    for split, count, seed in (("train", 240, 0), ("validation", 90, 7), ("test", 90, 8)):
        text_writer(folder, split, count, seed)
    ours = load(Settings(**SMALL), tmp_path / "data", tmp_path / "cache")
    theirs = load(Settings(**SMALL), mirror, tmp_path / "cache")
    assert ours.tokens["train"].equal(theirs.tokens["train"])
    assert not ours.tokens["test"].equal(theirs.tokens["test"])


def test_random_replacements_are_never_special(mirror: Path, tmp_path: Path) -> None:
    task = load(Settings(**SMALL), mirror, tmp_path)
    for step in range(task.steps_per_epoch(8)):
        inputs, labels = task.batch(0, 0, step, 8)
        ids = inputs["input_ids"]
        changed = ids[(labels >= 0) & (ids != labels)]
        assert set(changed[changed < len(SPECIALS)].tolist()) <= {SPECIALS.index("[MASK]")}


def test_the_vocabulary_is_what_the_tokenizer_made(mirror: Path, tmp_path: Path) -> None:
    task = load(Settings(**SMALL), mirror, tmp_path)
    assert task.form.outputs == task.vocabulary.size <= 300
    assert task.vocabulary.words == range(len(SPECIALS), task.form.outputs)
    assert set(task.bounds) == {"unigram_validation", "unigram_test"}
