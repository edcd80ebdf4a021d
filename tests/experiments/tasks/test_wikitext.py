"""WikiText: blocks, caps, what the tokenizer sees, and estimates of its size."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mat.errors import InputError
from mat.experiments.tasks.base import SPLITS
from mat.experiments.tasks.storage.cache import read_arrays
from mat.experiments.tasks.text.language_modelling import Rows
from mat.experiments.tasks.text.tokenizer_choice import TRAINED_SIZE
from mat.experiments.tasks.wikitext import Settings, choose, load, outline, prepare, sources
from tests.experiments.tasks.made_text import BERT, write_lines

ROOT = Path(__file__).parents[3]
SMALL = {"vocab_size": 300, "length": 16}


def rows_of(task, split: str) -> list[tuple[int, ...]]:
    return [tuple(row) for row in task.rows[split].take(slice(None)).tolist()]


def test_chosen_blocks_are_nested_and_in_text_order() -> None:
    rows = Rows(np.arange(12), np.arange(0, 12, 3), 3)
    assert choose(rows, None, "train") is rows
    chosen = [choose(rows, n, "train").starts.tolist() for n in (1, 2, 3)]
    assert all(found == sorted(found) for found in chosen)
    assert set(chosen[0]) < set(chosen[1]) < set(chosen[2])
    with pytest.raises(InputError, match="'train_blocks'"):
        choose(rows, 5, "train")


@pytest.mark.parametrize("objective", ["masked_lm", "causal_lm"])
def test_caps_keep_the_same_blocks(objective: str, text_mirror: Path, tmp_path: Path) -> None:
    whole = load(Settings(**SMALL, objective=objective), text_mirror, tmp_path)
    capped = load(
        Settings(**SMALL, objective=objective, train_blocks=20, validation_blocks=5, test_blocks=4),
        text_mirror,
        tmp_path,
    )
    assert capped.sizes == {"train": 20, "validation": 5, "test": 4}
    for split in ("train", "validation", "test"):
        assert set(rows_of(capped, split)) <= set(rows_of(whole, split))


def test_the_tokenizer_sees_the_training_split_alone(text_mirror: Path, tmp_path: Path) -> None:
    data, folder = tmp_path / "data", "Salesforce/wikitext/wikitext-2-v1"
    shutil.copytree(text_mirror / folder, data / folder)
    for split in ("validation", "test"):
        write_lines(data / folder, split, ["other words than there"] * 30)
    ours = load(Settings(**SMALL), data, tmp_path / "cache")
    theirs = load(Settings(**SMALL), text_mirror, tmp_path / "cache")
    assert ours.tokenizer == theirs.tokenizer
    assert rows_of(ours, "train") == rows_of(theirs, "train")
    assert rows_of(ours, "test") != rows_of(theirs, "test")


def test_blank_lines_are_left_out_and_line_ends_are_sep(text_mirror: Path, tmp_path: Path) -> None:
    import pandas as pd

    task = load(Settings(config="wikitext-2-raw-v1", vocab_size=300, length=3), text_mirror, tmp_path)
    path = text_mirror / "Salesforce/wikitext/wikitext-2-raw-v1/test-00000-of-00001.parquet"
    texts = [text for text in pd.read_parquet(path)["text"] if text.strip()]
    body = task.rows["test"].take(slice(None))[:, 1]
    sep = 3
    assert (body == sep).sum() == len(texts)
    assert (body == task.vocabulary.words.start).sum() == len(texts)  # each line has one <unk>


def test_the_vocabulary_is_what_the_tokenizer_made(text_mirror: Path, tmp_path: Path) -> None:
    task = load(Settings(**SMALL), text_mirror, tmp_path)
    assert task.signature.outputs == task.vocabulary.size <= 300
    assert set(task.bounds) == {"unigram_validation", "unigram_test"}


@pytest.mark.parametrize("settings", [SMALL, {**SMALL, "objective": "causal_lm"}, {"tokenizer": BERT}])
def test_the_outline_has_the_tasks_form(settings: dict, text_mirror: Path, tmp_path: Path) -> None:
    known = Settings(**settings)
    signature, real = outline(known).signature, load(known, text_mirror, tmp_path).signature
    assert signature.objective == real.objective
    assert signature.outputs == (30522 if "tokenizer" in settings else real.outputs)


def test_caps_and_defaults_of_the_outline() -> None:
    assert outline(Settings(train_blocks=100)).sizes["train"] == 100
    assert outline(Settings()).signature.outputs == TRAINED_SIZE
    large, small = (outline(Settings(config=f"wikitext-{n}-v1")).sizes for n in (103, 2))
    assert large["train"] == pytest.approx(small["train"] * 103_227_021 / 2_088_628 * 1.05, rel=1e-3)


def test_sources() -> None:
    (text,) = sources(Settings(config="wikitext-103-raw-v1"))
    assert (text.part, dict(text.rows)) == (
        "wikitext-103-raw-v1",
        {"train": 1_801_350, "validation": 3_760, "test": 4_358},
    )
    names = [origin.repo for origin in sources(Settings(tokenizer=BERT))]
    assert names == ["Salesforce/wikitext", BERT]


@pytest.mark.parametrize("settings", [{"vocab_size": 300}, {"lowercase": True}])
def test_a_published_tokenizer_brings_its_own_size_and_case(settings: dict) -> None:
    with pytest.raises(InputError, match="left out with the tokenizer google-bert"):
        Settings(tokenizer=BERT, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"vocab_size": 3000, "length": 128, "lowercase": True},
        {"tokenizer": BERT, "length": 128, "objective": "causal_lm"},
    ],
)
def test_estimates_are_within_a_tenth_of_the_real_text(settings: dict, real_text: Path, tmp_path: Path) -> None:
    known = Settings(**settings)
    estimate, real = outline(known), load(known, real_text, tmp_path)
    assert estimate.signature.outputs == real.signature.outputs
    for split, count in real.sizes.items():
        assert estimate.sizes[split] == pytest.approx(count, rel=0.1), split


def test_prepared_token_ids_are_the_same_task_without_text_or_tokenizers(text_mirror, tmp_path) -> None:
    settings, mirror = Settings(**SMALL, train_blocks=20), tmp_path / "mirror"
    usual = load(settings, text_mirror, tmp_path / "cache")
    prepare(settings, text_mirror, tmp_path / "cache", mirror)
    code = f"""
import sys
for name in ("tokenizers", "datasets", "pyarrow", "transformers", "huggingface_hub"):
    sys.modules[name] = None
from pathlib import Path
from mat.experiments.tasks.wikitext import Settings, load
task = load(Settings(**{SMALL!r}, train_blocks=20), Path({str(mirror)!r}), Path({str(tmp_path / "none")!r}))
print(task.data_hash, task.vocabulary_hash, task.sizes)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert said.strip() == f"{usual.data_hash} {usual.vocabulary_hash} {usual.sizes}"
    (path,) = mirror.rglob("*.npz")
    assert all(array.dtype == np.uint16 for name, array in read_arrays(path).items() if name in SPLITS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"is not what .* prepare it again, or remove it"):
        load(settings, mirror, tmp_path / "cache")


def test_text_prepared_otherwise_is_not_taken(text_mirror, tmp_path) -> None:
    prepare(Settings(**SMALL), text_mirror, tmp_path, text_mirror_copy := tmp_path / "mirror")
    for other in ({"vocab_size": 301}, {"lowercase": True}, {"config": "wikitext-2-raw-v1"}):
        with pytest.raises(InputError, match="mirror"):
            load(Settings(**{**SMALL, **other}), text_mirror_copy, tmp_path / "none")
