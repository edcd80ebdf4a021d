"""Masked-language modelling on text of a hidden Markov source whose best possible loss is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mat.errors import InputError
from mat.tasks import bayes
from mat.tasks.base import check_whole
from mat.tasks.markov import make_source, sample
from mat.tasks.masking import Vocabulary
from mat.tasks.tokens import TokenTask


@dataclass(frozen=True)
class Settings:
    """The source (`mat.tasks.markov`) and how many independent sequences of ``length`` words each split has.

    The vocabulary has one id more than ``words``: the last is [MASK].
    """

    words: int = 64
    topics: int = 4
    syntax: int = 6
    length: int = 64
    train: int = 8192
    validation: int = 512
    test: int = 512
    source_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("topics", "syntax", "train", "validation", "test"):
            check_whole(f"hmm setting '{name}'", getattr(self, name), 1)
        for name in ("words", "length"):
            check_whole(f"hmm setting '{name}'", getattr(self, name), 2)
        check_whole("hmm setting 'source_seed'", self.source_seed, 0)
        if self.words < self.topics * self.syntax:
            raise InputError(
                f"Expected hmm setting 'words' to be at least topics x syntax = {self.topics * self.syntax}, "
                f"got {self.words}; raise 'words' or lower 'topics' or 'syntax'."
            )


def load(settings: Settings, data: Path | None, cache: Path) -> TokenTask:
    """Generate the text (``data`` and ``cache`` are not used) and the bounds on the very masks evaluated.

    Bounds, nats per selected token: "floor_validation", "floor_test" (nothing can do better on average),
    "unigram_validation", "unigram_test"; per token, left to right: "causal_floor_validation".
    """
    source = make_source(settings.words, settings.topics, settings.syntax, settings.source_seed)
    counts = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    text = {
        split: sample(source, count, settings.length, settings.source_seed, split)
        for split, count in counts.items()
    }
    vocabulary = Vocabulary(settings.words + 1, settings.words, range(settings.words))
    task = TokenTask("hmm", text, vocabulary)
    for split in ("validation", "test"):
        inputs, labels = (part.numpy() for part in task.fixed_masks(split))
        task.bounds[f"floor_{split}"] = bayes.masked_loss(source, inputs, labels)
    task.bounds["causal_floor_validation"] = bayes.causal_loss(source, text["validation"])
    return task
