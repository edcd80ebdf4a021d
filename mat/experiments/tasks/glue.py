"""GLUE's nine tasks (Wang et al., ICLR 2019), from the hub or a mirror of it.

Splits: the hub hides the labels of its test splits (but mrpc's), so a part of the training split, always the same, is
held out for validation, and the hub's validation is the test, read once at the end. mrpc has its official three.
mnli's test is validation_matched and then validation_mismatched. Official data are kept as they are: a sentence that
is in several splits stays in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from mat.errors import InputError
from mat.experiments.tasks.base import Count, Length, Outline, divide, division
from mat.experiments.tasks.storage.cache import cached_arrays
from mat.experiments.tasks.storage.hub import content_key
from mat.experiments.tasks.storage.mirror import Source
from mat.experiments.tasks.text import glue_metrics, wikitext_files
from mat.experiments.tasks.text.classification import Encoded, TextClassification, classification_outline
from mat.experiments.tasks.text.glue_files import REPO, SUBSETS, labels_of, origin, read
from mat.experiments.tasks.text.tokenizer import Subwords
from mat.experiments.tasks.text.tokenizer_choice import (
    MODELS,
    SCHEME,
    VocabularySize,
    check_tokenizer,
    load_tokenizer,
    tokenizer_sources,
    vocabulary_size,
)
from mat.limits import check_limits

LARGEST_VALIDATION = 5_000
ROWS_AT_ONCE = 8192
SPLITS_ARE_DISJOINT = False  # two texts may be equal


@dataclass(frozen=True)
class Settings:
    """Which task, how its sentences become tokens, and how many training rows are held out."""

    subset: Literal[tuple(SUBSETS)] = "cola"
    """Which task of GLUE, such as cola or sst2."""
    tokenizer: Literal[*MODELS, *wikitext_files.CONFIGS] = "google-bert/bert-base-uncased"
    """A published model's own, or a config of WikiText, whose tokenizer a model pre-trained on it has."""
    vocab_size: VocabularySize | None = None
    """Ids of WikiText's tokenizer; none: its default."""
    lowercase: bool = False
    """Whether WikiText's tokenizer is lower-case, without accents."""
    length: Length = 128
    """Tokens of a row: shorter ones are padded, longer ones cut, the longer sentence first."""
    validation_examples: Count | None = None
    """Training rows that are held out; none: a tenth of them, at most 5,000. Not for mrpc, which has its own."""
    train_examples: Count | None = None
    """Rows trained on: the first so many in a fixed random order; none: all."""

    def __post_init__(self) -> None:
        check_limits(self)
        check_tokenizer(self.tokenizer, self.vocab_size, self.lowercase)
        least = 2 + len(SUBSETS[self.subset].columns)
        if self.length < least:
            raise InputError(
                f"length must be ≥ {least}: of each sentence a token, and those around it; got {self.length}"
            )
        if self.validation_examples is not None and self.subset == "mrpc":
            raise InputError(
                "validation_examples must be left out for mrpc, which has a validation split of its own, got "
                f"{self.validation_examples}"
            )

    def division(self, rows: int) -> tuple[int, int]:
        """How many of ``rows`` training rows are trained on and held out. Raises InputError where they are too few."""
        held_out = self.validation_examples or max(1, min(LARGEST_VALIDATION, rows // 10))
        if "test" in SUBSETS[self.subset].rows:
            held_out = 0
        return division(f"rows of {REPO} ({self.subset})", rows, self.train_examples, held_out), held_out


def load(settings: Settings, data: Path | None, cache: Path) -> TextClassification:
    """The task; encoded sentences are kept in ``cache``. ``truncated``: rows per split that were longer.

    Bounds: "prior_…" and "majority_accuracy_…" (`mat.experiments.tasks.text.classification.prior_bounds`). Raises
    InputError: names split, file and row of what is not as on the hub, or too few training rows.
    """
    subset = SUBSETS[settings.subset]
    words = load_tokenizer(settings.tokenizer, settings.vocab_size, settings.lowercase, data, cache)
    official = {split: _cached(settings, split, words, data, cache) for split in subset.rows}
    splits = _divide(settings, official)
    if subset.outputs > 1:
        counts = np.bincount(splits["train"]["labels"], minlength=subset.outputs)
        if not counts.all():
            raise InputError(
                f"Expected every class in the training rows of {REPO} ({settings.subset}), got {counts.tolist()} rows "
                "of classes 0 and up; check the files under the setting 'data' (MAT_DATA)."
            )
    measure = partial(_measure, settings.subset, len(official.get("validation_matched", {}).get("labels", ())))
    task = TextClassification(
        "glue",
        {split: Encoded(found["ids"], found["second"], found["total"]) for split, found in splits.items()},
        {split: found["labels"] for split, found in splits.items()},
        subset.outputs,
        words.size,
        glue_metrics.metrics(settings.subset),
        measure,
    )
    task.truncated = {split: int(found["cut"].sum()) for split, found in splits.items()}
    task.vocabulary_hash, task.tokenizer = words.hash, words.json
    return task


def sources(settings: Settings) -> tuple[Source, ...]:
    """The splits that are used, and what the tokenizer is made of."""
    return (origin(settings.subset), *tokenizer_sources(settings.tokenizer))


def outline(settings: Settings) -> Outline:
    """Signature and sizes from the published rows."""
    subset = SUBSETS[settings.subset]
    train, held_out = settings.division(subset.rows["train"])
    others = {split: rows for split, rows in subset.rows.items() if split != "train"}
    if "test" not in others:
        others = {"validation": held_out, "test": sum(others.values())}
    sizes = {"train": train, **others}
    vocabulary = vocabulary_size(settings.tokenizer, settings.vocab_size)
    return classification_outline(settings.length, subset.outputs, vocabulary, sizes)


def _measure(subset: str, matched: int, split: str, guessed: np.ndarray, true: np.ndarray) -> dict[str, float]:
    if subset == "mnli" and split == "test":
        return glue_metrics.measure_parts(guessed, true, matched)
    return glue_metrics.measure(subset, guessed, true)


def _divide(settings: Settings, official: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """The task's three splits from the hub's."""
    all_rows = official["train"]
    count = len(all_rows["labels"])
    chosen = divide(count, *settings.division(count), "glue", settings.subset)
    train, validation = ({name: array[rows] for name, array in all_rows.items()} for rows in chosen)
    if "test" in official:
        return {**official, "train": train}
    tests = [found for split, found in official.items() if split != "train"]
    test = {name: np.concatenate([found[name] for found in tests]) for name in train}
    return {"train": train, "validation": validation, "test": test}


def _cached(settings: Settings, split: str, words: Subwords, data: Path | None, cache: Path) -> dict[str, np.ndarray]:
    """ "ids" uint16 [N, S], "second", "total" (see `Encoded`), "cut" bool [N] and "labels" [N] of a hub split."""
    content = content_key(origin(settings.subset), split, data)
    name = f"{split}-{words.hash[:16]}-{settings.length}-{SCHEME}-{version('tokenizers')}-{content}.npz"

    def make() -> dict[str, np.ndarray]:
        rows = read(settings.subset, split, data, cache)
        parts = list(encode_rows(rows, SUBSETS[settings.subset].columns, words, settings.length))
        arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return {**arrays, "labels": labels_of(rows, settings.subset)}

    return cached_arrays(cache / "glue" / settings.subset / name, make)


def encode_rows(rows, columns: tuple[str, ...], words: Subwords, length: int) -> Iterator[dict[str, np.ndarray]]:
    """Sentences as [CLS] a [SEP] or [CLS] a [SEP] b [SEP], cut to ``length`` as transformers' fast tokenizers do."""
    tokenizer = words.load()
    tokenizer.enable_truncation(length, strategy="longest_first")
    for start in range(0, len(rows), ROWS_AT_ONCE):
        batch = rows[start : start + ROWS_AT_ONCE]
        texts = list(zip(*(batch[column] for column in columns), strict=True))
        encoded = tokenizer.encode_batch(texts if len(columns) > 1 else [text for (text,) in texts])
        found = {
            "ids": np.full((len(encoded), length), words.pad, dtype=np.uint16),
            "second": np.array([len(row) - sum(row.type_ids) for row in encoded], dtype=np.uint16),
            "total": np.array([len(row) for row in encoded], dtype=np.uint16),
            "cut": np.array([len(row.overflowing) > 0 for row in encoded]),
        }
        for i, row in enumerate(encoded):
            found["ids"][i, : len(row)] = row.ids
        yield found
