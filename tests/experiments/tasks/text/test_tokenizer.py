"""Tokenizers: BERT's as transformers has it, trained ones deterministic, ids that say which are words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mat.errors import InputError
from mat.experiments.tasks import glue, wikitext
from mat.experiments.tasks.text.tokenizer import (
    SPECIALS,
    UNKNOWN_WORD,
    Subwords,
    encode,
    subwords,
    train_tokenizer,
    wordpiece,
)
from mat.experiments.tasks.text.tokenizer_choice import load_tokenizer
from tests.experiments.tasks.made_text import BERT, UNUSED, vocabulary, write_lines

LINES = ["= A title =", "the <unk> river ran north , in 1923 .", "Senjō no Valkyria : 戦場の 3"] * 5
TRICKY = [
    "",
    "  two  spaces\tand\na newline\r\n ",
    "Café naïve Ελλάδα Þór İstanbul ÅNGSTRÖM ﬁne ß",
    "e\u0301 zero\u200bwidth soft\u00adhyphen nul\x00 replacement\ufffd",
    "東京 mixed漢字kana かな ｆｕｌｌ",
    "don't -- 3.14159 @-@ <unk> [unused0] [MASK] [SEP] [CLS] x[PAD]y",
    "a" * 150,
    "🙂👍🏽 €100 ½ x²",
    "antidisestablishmentarianism rivers, RIVERS!",
]
PAIRS = [("the river " * n, "a Town, north " * m) for n in (1, 4, 9, 20) for m in (1, 3, 8, 20)]


def transformers_tokenizer(path: Path):
    from transformers import BertTokenizerFast

    return BertTokenizerFast(vocab=str(path))


def same_as_transformers(path: Path, root: Path, cache: Path) -> None:
    ours = load_tokenizer(BERT, None, False, root, cache).load()
    theirs = transformers_tokenizer(path)
    for text in TRICKY:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
        assert ours.encode(text, add_special_tokens=False).tokens == theirs.tokenize(text), text
    ours.enable_truncation(17, strategy="longest_first")
    for pair in PAIRS:
        expected = theirs(*pair, truncation="longest_first", max_length=17)
        found = ours.encode(*pair)
        assert found.ids == expected["input_ids"]
        assert found.type_ids == expected["token_type_ids"]


def test_berts_is_that_of_transformers(text_mirror: Path, tmp_path: Path) -> None:
    same_as_transformers(text_mirror / BERT / "vocab.txt", text_mirror, tmp_path)


def test_berts_is_that_of_transformers_on_the_real_vocabulary(real_text: Path, tmp_path: Path) -> None:
    same_as_transformers(real_text / BERT / "vocab.txt", real_text, tmp_path)
    words = load_tokenizer(BERT, None, False, real_text, tmp_path)
    assert (words.size, words.words, words.mask) == (30522, range(999, 30522), 103)
    assert (words.pad, words.cls, words.sep) == (0, 101, 102)


def test_words_are_neither_special_nor_unused(text_mirror: Path, tmp_path: Path) -> None:
    words = load_tokenizer(BERT, None, False, text_mirror, tmp_path)
    reserved = [words.load().id_to_token(index) for index in range(words.size) if index not in words.words]
    assert set(reserved) == {*SPECIALS, *UNUSED}


@pytest.mark.parametrize("lowercase", [False, True])
def test_training_twice_gives_the_same_tokenizer(lowercase: bool) -> None:
    first, second = (train_tokenizer(LINES, 320, lowercase).to_str() for _ in range(2))
    assert first == second
    assert subwords(first).hash == subwords(second).hash


def test_the_hash_tells_tokenizers_apart() -> None:
    made = [train_tokenizer(LINES, size, low).to_str() for size, low in ((290, False), (291, False), (290, True))]
    assert len({subwords(text).hash for text in made}) == 3


def test_special_ids_come_first_and_unk_is_one_word() -> None:
    tokenizer = train_tokenizer(LINES, 320, False)
    words = subwords(tokenizer.to_str())
    first = (*SPECIALS, UNKNOWN_WORD)
    assert [tokenizer.id_to_token(i) for i in range(len(first))] == list(first)
    assert words.words == range(len(SPECIALS), tokenizer.get_vocab_size())
    stream = encode(tokenizer, LINES[1:2], words.sep)
    assert (stream == words.words.start).sum() == 1
    assert stream[-1] == words.sep
    assert not set(stream[:-1].tolist()) & set(range(len(SPECIALS)))


def test_any_text_can_be_written_and_read_back() -> None:
    tokenizer = train_tokenizer(LINES[:2], 280, False)
    text = "unseen: Ωμέγα 東京 \u2013 ok"
    assert tokenizer.decode(encode(tokenizer, [text], 3).tolist()).strip() == text


def test_lower_case_is_berts() -> None:
    tokenizer = train_tokenizer(LINES, 320, True)
    text = "Café NAÏVE İstanbul ÅNGSTRÖM"
    from tokenizers.normalizers import BertNormalizer

    expected = BertNormalizer(lowercase=True).normalize_str(text)
    assert tokenizer.decode(tokenizer.encode(text).ids).strip() == expected == "cafe naive istanbul angstrom"


@pytest.mark.parametrize("settings", [{"tokenizer": BERT}, {"vocab_size": 300, "lowercase": True}])
def test_a_tasks_tokenizer_is_loaded_by_transformers(settings: dict, text_mirror: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    task = wikitext.load(wikitext.Settings(length=16, **settings), text_mirror, tmp_path)
    loaded = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(task.tokenizer))
    found = loaded("the river", "a town", return_token_type_ids=True)
    assert found["token_type_ids"] == sorted(found["token_type_ids"])
    assert set(found["token_type_ids"]) == {0, 1}
    assert len(loaded) == task.signature.outputs
    assert json.loads(task.tokenizer)["model"]["type"] in ("BPE", "WordPiece")


@pytest.mark.parametrize("settings", [{"tokenizer": BERT}, {"tokenizer": None, "vocab_size": 300}])
def test_pre_training_and_fine_tuning_share_ids(settings: dict, text_mirror: Path, tmp_path: Path) -> None:
    before = wikitext.load(wikitext.Settings(length=16, **settings), text_mirror, tmp_path / "one")
    settings = {**settings, "tokenizer": settings["tokenizer"] or "wikitext-2-v1"}
    after = glue.load(glue.Settings(length=16, **settings), text_mirror, tmp_path / "two")
    assert after.vocabulary_hash == before.vocabulary_hash
    assert after.tokenizer == before.tokenizer
    assert after.signature.vocabulary == before.signature.outputs


def test_one_cache_keeps_what_differs_apart(text_mirror: Path, tmp_path: Path) -> None:
    seen = set()
    for config, size, low in (("2-v1", 300, False), ("2-v1", 300, True), ("2-v1", 299, True), ("103-v1", 299, True)):
        known = wikitext.Settings(config=f"wikitext-{config}", vocab_size=size, lowercase=low, length=8)
        fresh = wikitext.load(known, text_mirror, tmp_path / f"{config}{size}{low}")
        shared = wikitext.load(known, text_mirror, tmp_path / "one")
        assert (shared.tokenizer, shared.data_hash) == (fresh.tokenizer, fresh.data_hash)
        seen.add(shared.tokenizer)
    assert len(seen) == 3  # the two texts are the same here
    rows = {
        (subset, length): glue.load(glue.Settings(subset=subset, length=length), text_mirror, tmp_path / "one")
        for subset in ("cola", "rte", "sst2")
        for length in (16, 24)
    }
    assert all(task.signature.length == length for (_, length), task in rows.items())
    assert len({task.data_hash for task in rows.values()}) == 6


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([*vocabulary(), "a"], "different ones"),
        ([token for token in vocabulary() if token != "[MASK]"], r"\[MASK\] missing"),
    ],
)
def test_a_bad_vocabulary_is_refused(tokens: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        wordpiece(tokens)


def test_a_vocabulary_too_large_for_its_ids_is_refused() -> None:
    tokens = [*SPECIALS, *(f"w{i}" for i in range(1 << 16))]
    with pytest.raises(InputError, match="at most 65536"):
        subwords(wordpiece(tokens).to_str())


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bert-base-uncased/vocab\.txt.*'data'"):
        load_tokenizer(BERT, None, False, tmp_path, tmp_path)


def test_bad_text_stops_training_with_its_own_error(tmp_path: Path) -> None:
    write_lines(tmp_path / "Salesforce/wikitext/wikitext-2-v1", "train", ["", " \n"])
    with pytest.raises(InputError, match=r"lines of text in split 'train'.*2 blank"):
        load_tokenizer("wikitext-2-v1", 300, False, tmp_path, tmp_path / "cache")


def test_a_tokenizer_set_up_by_one_user_is_not_anothers() -> None:
    words: Subwords = subwords(train_tokenizer(LINES, 320, False).to_str())
    words.load().enable_truncation(3)
    assert len(words.load().encode(LINES[1])) > 3
