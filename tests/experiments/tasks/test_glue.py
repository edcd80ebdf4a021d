"""GLUE: splits, encoding, bounds, and one clear error for each thing that can be wrong with its files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mat.errors import InputError
from mat.experiments.tasks.base import Task
from mat.experiments.tasks.glue import Settings, load, outline, sources
from mat.experiments.tasks.text.glue_files import SUBSETS
from tests.experiments.tasks.made_text import BERT, GLUE_ROWS, glue_rows, write_glue

LENGTH = 24
HELD_OUT = 20


def made(root: Path, cache: Path, subset: str, **settings) -> Task:
    if subset != "mrpc":
        settings = {"validation_examples": HELD_OUT, **settings}
    return load(Settings(subset=subset, length=LENGTH, **settings), root, cache)


@pytest.fixture
def writable(text_mirror: Path, tmp_path: Path) -> Path:
    """A made mirror whose files a test may replace."""
    return Path(shutil.copytree(text_mirror, tmp_path / "mirror"))


def texts(subset: str, seed: int, count: int) -> list[tuple[str, ...]]:
    rows = glue_rows(subset, count, seed)
    return list(zip(*(rows[column] for column in SUBSETS[subset].columns), strict=True))


@pytest.mark.parametrize("number, subset", list(enumerate(SUBSETS)))
def test_rows_are_the_files_as_transformers_writes_them(
    number: int, subset: str, text_mirror: Path, tmp_path: Path
) -> None:
    from transformers import BertTokenizerFast

    task = made(text_mirror, tmp_path, subset)
    tokenizer = BertTokenizerFast(vocab=str(text_mirror / BERT / "vocab.txt"))
    last = len(SUBSETS[subset].rows) - 1
    test = texts(subset, 10 * number + last, 30)
    if subset == "mnli":
        test = texts(subset, 10 * number + 1, 30) + test
    expected = tokenizer(*map(list, zip(*test, strict=True)), padding="max_length", truncation=True, max_length=LENGTH)
    (batch,) = task.batches("test", 1000)
    for name, value in batch.inputs.items():
        assert value.tolist() == expected[name], name
    uncut = tokenizer(*map(list, zip(*test, strict=True)))["input_ids"]
    assert task.truncated["test"] == sum(len(ids) > LENGTH for ids in uncut)
    assert task.signature.vocabulary == len(tokenizer)


def test_some_made_rows_are_longer_than_the_model_takes(text_mirror: Path, tmp_path: Path) -> None:
    task = made(text_mirror, tmp_path, "rte")
    assert all(count > 0 for count in task.truncated.values())
    assert made(text_mirror, tmp_path, "mnli").truncated.keys() == {"train", "validation", "test"}


@pytest.mark.parametrize("subset", SUBSETS)
def test_splits(subset: str, text_mirror: Path, tmp_path: Path) -> None:
    task = made(text_mirror, tmp_path, subset)
    held_out = GLUE_ROWS["validation"] if subset == "mrpc" else HELD_OUT
    train = GLUE_ROWS["train"] - (0 if subset == "mrpc" else HELD_OUT)
    assert task.sizes == {"train": train, "validation": held_out, "test": 60 if subset == "mnli" else 30}


def test_held_out_rows_are_a_fixed_part_of_train(text_mirror: Path, tmp_path: Path) -> None:
    parts = {n: made(text_mirror, tmp_path, "cola", validation_examples=n) for n in (10, 30)}
    rows = {
        (n, split): {tuple(row) for row in task.rows[split].ids.tolist()}
        for n, task in parts.items()
        for split in ("train", "validation")
    }
    assert rows[10, "validation"] <= rows[30, "validation"]
    assert rows[10, "train"] | rows[10, "validation"] == rows[30, "train"] | rows[30, "validation"]


def test_the_default_share_is_a_tenth_and_at_most_5000() -> None:
    sizes = {subset: outline(Settings(subset=subset)).sizes for subset in SUBSETS}
    assert sizes["cola"] == {"train": 8551 - 855, "validation": 855, "test": 1043}
    assert sizes["mnli"] == {"train": 392702 - 5000, "validation": 5000, "test": 9815 + 9832}
    assert sizes["mrpc"] == {"train": 3668, "validation": 408, "test": 1725}
    assert sizes["wnli"] == {"train": 572, "validation": 63, "test": 71}


@pytest.mark.parametrize("subset", SUBSETS)
def test_outline_and_sources_are_as_published(subset: str) -> None:
    known = Settings(subset=subset, length=LENGTH)
    signature = outline(known).signature
    assert (signature.outputs, signature.vocabulary) == (SUBSETS[subset].outputs, 30522)
    files, vocabulary = sources(known)
    assert (files.part, dict(files.rows)) == (subset, SUBSETS[subset].rows)
    assert vocabulary.repo == BERT
    (_, text) = sources(Settings(subset=subset, tokenizer="wikitext-103-v1"))
    assert (text.part, dict(text.rows)) == ("wikitext-103-v1", {"train": 1_801_350})


def test_mnli_tells_its_two_test_sets_apart(text_mirror: Path, tmp_path: Path) -> None:
    task = made(text_mirror, tmp_path, "mnli")
    labels = torch.cat([batch.labels for batch in task.batches("test", 16)])
    guesses = labels.clone()
    guesses[:6] = (guesses[:6] + 1) % 3  # six of thirty wrong in the first set, three in the second
    guesses[30:33] = (guesses[30:33] + 1) % 3
    logits = torch.nn.functional.one_hot(guesses, 3).float() * 9
    answers = [(logits[i : i + 16], labels[i : i + 16]) for i in range(0, 60, 16)]
    found = task.score("test", answers).metrics
    assert found == pytest.approx({"accuracy": 0.85, "accuracy_matched": 0.8, "accuracy_mismatched": 0.9})
    assert task.score("validation", answers).metrics.keys() == {"accuracy"}


def test_sizes_of_the_two_sets_are_those_of_the_files(writable: Path, tmp_path: Path) -> None:
    write_glue(writable, "mnli", "validation_matched", glue_rows("mnli", 10, 5))
    task = made(writable, tmp_path, "mnli")
    (batch,) = task.batches("test", 100)
    wrong = (batch.labels + 1) % 3
    wrong[10:] = batch.labels[10:]
    found = task.score("test", [(torch.nn.functional.one_hot(wrong, 3).float(), batch.labels)]).metrics
    assert (found["accuracy_matched"], found["accuracy_mismatched"]) == (0, 1)


def test_bounds_by_hand(writable: Path, tmp_path: Path) -> None:
    rows = {"sentence": ["a town"] * 8, "label": [1, 1, 1, 0, 1, 1, 1, 0], "idx": list(range(8))}
    write_glue(writable, "sst2", "train", rows)
    write_glue(writable, "sst2", "validation", {**rows, "label": [0, 0, 1, 1, 1, 0, 1, 1]})
    task = made(writable, tmp_path, "sst2", validation_examples=1)
    ones = int((task.labels["train"] == 1).sum())
    assert task.bounds["majority_accuracy_test"] == 5 / 8
    expected = -(5 * np.log(ones / 7) + 3 * np.log(1 - ones / 7)) / 8
    assert task.bounds["prior_test"] == pytest.approx(expected)


def test_stsb_is_a_regression_in_squared_points(text_mirror: Path, tmp_path: Path) -> None:
    task = made(text_mirror, tmp_path, "stsb")
    (batch,) = task.batches("test", 100)
    assert (task.signature.outputs, task.loss_unit) == (1, "squared points")
    mean = task.labels["train"].double().mean()
    constant = torch.full((30, 1), mean.item(), dtype=torch.float64)
    score = task.score("test", [(constant, batch.labels)])
    assert score.loss == pytest.approx(task.bounds["prior_test"])
    assert score.metrics == {"combined_score": 0, "pearson": 0, "spearman": 0}
    perfect = task.score("test", [(batch.labels[:, None] * 2 - 1, batch.labels)])
    assert perfect.metrics["pearson"] == pytest.approx(1)
    assert perfect.loss == pytest.approx(((batch.labels - 1) ** 2).mean().item())


def cola(**changes) -> dict[str, list]:
    rows = glue_rows("cola", 40, 3)
    return {**rows, **{name: change(list(rows[name])) for name, change in changes.items()}}


def put(row: int, value):
    return lambda column: [*column[:row], value, *column[row + 1 :]]


@pytest.mark.parametrize(
    ("split", "rows", "words"),
    [
        ("validation", cola(label=put(7, -1)), r"labels 0 to 1.*'validation'.*got -1 in row 7, as a hidden"),
        ("train", cola(label=put(9, 2)), r"labels 0 to 1.*'train'.*got 2 in row 9;"),
        ("train", cola(label=put(3, None)), r"'train'.*got nan in row 3"),
        ("train", cola(sentence=put(5, " ")), r"text in every row of split 'train'.*none in row 5"),
        ("validation", cola(sentence=put(0, None)), r"split 'validation'.*none in row 0"),
        ("train", cola(label=lambda column: [1] * len(column)), r"every class.*got \[0, 30\]"),
        ("train", {"text": ["a"], "label": [1], "idx": [0]}, r"columns sentence, label in split 'train'"),
        ("validation", {"sentence": ["a"], "idx": [0]}, r"columns sentence, label in split 'validation'"),
    ],
)
def test_bad_rows_are_refused(split: str, rows: dict, words: str, writable: Path, tmp_path: Path) -> None:
    path = write_glue(writable, "cola", split, rows)
    with pytest.raises(InputError, match=words) as caught:
        made(writable, tmp_path, "cola", validation_examples=10)
    assert "nyu-mll/glue" in str(caught.value)
    if "row " in words and "row of" not in words:
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("score", [-0.5, 5.5, -1.0, float("nan")])
def test_scores_out_of_range_are_refused(score: float, writable: Path, tmp_path: Path) -> None:
    rows = glue_rows("stsb", 40, 3)
    write_glue(writable, "stsb", "train", {**rows, "label": put(4, score)(rows["label"])})
    with pytest.raises(InputError, match=r"scores from 0 to 5 in split 'train'.*row 4"):
        made(writable, tmp_path, "stsb")


def test_one_empty_sentence_of_two_is_kept(writable: Path, tmp_path: Path) -> None:
    rows = glue_rows("qqp", 40, 3)
    write_glue(writable, "qqp", "validation", {**rows, "question2": put(2, "")(rows["question2"])})
    task = made(writable, tmp_path, "qqp")
    row = task.rows["test"].take(slice(2, 3))
    assert row["token_type_ids"].sum() == 1
    both = {**rows, "question1": put(2, "")(rows["question1"]), "question2": put(2, " ")(rows["question2"])}
    write_glue(writable, "qqp", "validation", both)
    with pytest.raises(InputError, match=r"text in every row.*row 2"):
        made(writable, tmp_path, "qqp")


@pytest.mark.parametrize(("subset", "split"), [("qnli", "train"), ("mnli", "validation_mismatched"), ("mrpc", "test")])
def test_missing_splits_are_named(subset: str, split: str, writable: Path, tmp_path: Path) -> None:
    (writable / "nyu-mll/glue" / subset / f"{split}-00000-of-00001.parquet").unlink()
    with pytest.raises(InputError, match=rf"nyu-mll/glue/{subset}/{split}-\*.*'data'"):
        made(writable, tmp_path, subset)


def test_a_replaced_file_is_read_anew(writable: Path, tmp_path: Path) -> None:
    before = made(writable, tmp_path, "cola")
    write_glue(writable, "cola", "validation", glue_rows("cola", 30, 99))
    after = made(writable, tmp_path, "cola")
    assert after.data_hash != before.data_hash
    assert np.array_equal(after.rows["train"].ids, before.rows["train"].ids)


def test_hidden_test_labels_are_not_read(writable: Path, tmp_path: Path) -> None:
    before = made(writable, tmp_path, "cola")
    write_glue(writable, "cola", "test", glue_rows("cola", 30, 5, hidden=True))
    assert made(writable, tmp_path, "cola").data_hash == before.data_hash


def test_more_held_out_than_there_is_is_refused(text_mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"beside the 120 held out.*'validation_examples'"):
        made(text_mirror, tmp_path, "cola", validation_examples=120)


def test_a_tokenizer_is_needed() -> None:
    with pytest.raises(InputError, match=r"tokenizer must be one of .*wikitext-2-v1.*None"):
        Settings(tokenizer=None)


@pytest.mark.parametrize("subset", ["cola", "mrpc", "stsb", "rte", "wnli"])
def test_real_files(subset: str, real_text: Path, tmp_path: Path) -> None:
    known = Settings(subset=subset)
    task = load(known, real_text, tmp_path)
    expected = outline(known)
    assert task.sizes == expected.sizes
    assert task.signature.vocabulary == expected.signature.vocabulary == 30522
    assert task.truncated["test"] == (33 if subset == "rte" else 0)
    majority = {"cola": 0.6913, "mrpc": 0.6649, "rte": 0.5271, "wnli": 0.5634}  # published majority baselines
    if subset in majority:
        assert task.bounds["majority_accuracy_test"] == pytest.approx(majority[subset], abs=5e-5)
