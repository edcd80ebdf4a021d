"""Language modelling, masked or causal, on text of a hidden Markov source whose best possible loss is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mat.experiments.tasks.base import Count, Length, Outline, hash_arrays
from mat.experiments.tasks.label_noise import NoiseShare, replaced
from mat.experiments.tasks.storage.mirror import Origin
from mat.experiments.tasks.text import markov_bounds
from mat.experiments.tasks.text.language_modelling import OBJECTIVES, Rows, TokenTask, token_outline
from mat.experiments.tasks.text.markov_source import (
    Factor,
    MarkovSource,
    SourceSeed,
    Words,
    check_source,
    check_text,
    make_source,
    sample,
)
from mat.experiments.tasks.text.masking import Vocabulary
from mat.limits import check_limits


@dataclass(frozen=True)
class Settings:
    """The source (`mat.experiments.tasks.text.markov_source`), what is guessed, and independent sequences per split.

    A sequence is [CLS] and its words. masked_lm: the model takes them all, [CLS] is never selected. causal_lm: every
    word is guessed once, the first from [CLS] alone. Ids: the words, then [MASK], then [CLS].
    """

    objective: Literal[OBJECTIVES] = "masked_lm"
    """What is guessed: masked_lm or causal_lm."""
    words: Words = 64
    """Size of the vocabulary, at least topics × syntax."""
    topics: Factor = 4
    """Hidden topics."""
    syntax: Factor = 6
    """Hidden syntactic states."""
    length: Length = 64
    """Words of a sequence."""
    train: Count = 8192
    """Sequences trained on."""
    validation: Count = 512
    """Sequences held out."""
    test: Count = 512
    """Sequences of the test."""
    source_seed: SourceSeed = 0
    """What the source is made by; equal ones give equal ids."""
    token_noise: NoiseShare = 0.0
    """Share of the training words that is replaced by another word, always the same ones."""

    def __post_init__(self) -> None:
        check_limits(self)
        check_source(self.words, self.topics, self.syntax)
        check_text(self.sizes, self.length, self.words, self.topics * self.syntax)

    @property
    def sizes(self) -> dict[str, int]:
        """Sequences per split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def vocabulary(words: int) -> Vocabulary:
    """Ids 0 … words - 1, then [MASK], then [CLS]."""
    return Vocabulary(words + 2, words, range(words))


def cls_id(words: int) -> int:
    """The id that begins every sequence."""
    return words + 1


def source_hash(source: MarkovSource) -> str:
    """SHA-256 of the tables that give a word's id its meaning."""
    return hash_arrays({"emission": source.emission, "moves": source.syntax_moves})


def load(settings: Settings, data: Path | None, cache: Path) -> TokenTask:
    """Generate the text (``data`` and ``cache`` are not used) and the bounds on the very samples evaluated.

    Bounds, nats per guessed word: "floor_validation", "floor_test" (nothing can do better on average),
    "unigram_validation", "unigram_test".
    """
    source = make_source(settings.words, settings.topics, settings.syntax, settings.source_seed)
    text = {
        split: sample(source, count, settings.length, settings.source_seed, split)
        for split, count in settings.sizes.items()
    }
    rows = {split: _rows(settings, found) for split, found in text.items()}
    given, places = replaced(text["train"], settings.words, settings.token_noise, "hmm", "token_noise")
    true = rows["train"] if len(places) else None
    rows["train"] = _rows(settings, given)
    task = TokenTask("hmm", rows, vocabulary(settings.words), settings.objective, true)
    task.vocabulary_hash = source_hash(source)
    for split in ("validation", "test"):
        inputs, labels = (part.numpy() for part in task.fixed_masks(split))
        task.bounds[f"floor_{split}"] = (
            markov_bounds.causal_loss(source, text[split])
            if task.causal
            else markov_bounds.masked_loss(source, inputs[:, 1:], labels[:, 1:])
        )
    return task


def _rows(settings: Settings, text: np.ndarray) -> Rows:
    """[CLS] and then one sequence of ``text`` [N, length] each."""
    starts = np.arange(len(text)) * settings.length
    return Rows(text.reshape(-1), starts, settings.length, (cls_id(settings.words),))


def sources(settings: Settings) -> tuple[Origin, ...]:
    """Nothing is fetched."""
    return ()


def outline(settings: Settings) -> Outline:
    """Exact: the text is made here."""
    length = settings.length + (settings.objective == "masked_lm")
    return token_outline(settings.objective, length, settings.words + 2, settings.sizes)
