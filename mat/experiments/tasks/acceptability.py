"""Is a sentence in its real order? Sentences of the hidden Markov source, with the best possible answers known.

Half of the sentences are as the source made them (label 1); in the others a window of a few words, at a uniformly
random place, is reversed (label 0). Reversing twice gives the sentence back, so with P the source's probability,

    P(x | real) = P(x),    P(x | disturbed) = mean over places p of P(x with the window at p reversed),

and P(real | x) follows by Bayes' rule: exact, by the forward algorithm in float64. Ids are those of task ``hmm``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated

import numpy as np

from mat.experiments.checks import check_most
from mat.experiments.tasks.base import Length, Metric, Outline, fixed_order
from mat.experiments.tasks.hmm import cls_id, source_hash, vocabulary
from mat.experiments.tasks.storage.mirror import Origin
from mat.experiments.tasks.text import markov_bounds
from mat.experiments.tasks.text.classification import Encoded, TextClassification, classification_outline
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
from mat.limits import Range, check_limits
from mat.seeds import stream_seed

Half = Annotated[int, Range(ge=2)]  # one of either label at least


@dataclass(frozen=True)
class Settings:
    """The source (as in ``hmm``) and the sentences, each [CLS] and its words.

    By default the best possible accuracy is about 0.98.
    """

    words: Words = 64
    """Size of the vocabulary, at least topics × syntax."""
    topics: Factor = 4
    """Hidden topics."""
    syntax: Factor = 6
    """Hidden syntactic states."""
    length: Length = 24
    """Words of a sentence."""
    window: Length = 3
    """Words that are reversed in an unacceptable sentence."""
    train: Half = 4096
    """Sentences trained on."""
    validation: Half = 512
    """Sentences held out."""
    test: Half = 512
    """Sentences of the test."""
    source_seed: SourceSeed = 0
    """What the source is made by; equal ones give equal ids."""

    def __post_init__(self) -> None:
        check_limits(self)
        check_most("window", self.window, self.length)
        check_source(self.words, self.topics, self.syntax)
        places = self.length - self.window + 1
        check_text(self.sizes, self.length, self.words, self.topics * self.syntax, places + 1)

    @property
    def sizes(self) -> dict[str, int]:
        """Sentences per split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def load(settings: Settings, data: Path | None, cache: Path) -> TextClassification:
    """Generate the sentences (``data`` and ``cache`` are not used) and what can be reached on those evaluated.

    Bounds: "floor_…" (mean loss of the exact posterior, nats; nothing does better on average), "best_accuracy_…" (of
    the exact posterior), "prior_…" and "majority_accuracy_…".
    """
    source = make_source(settings.words, settings.topics, settings.syntax, settings.source_seed)
    made = {split: sentences(source, settings, split, count) for split, count in settings.sizes.items()}
    task = TextClassification(
        "acceptability",
        {split: _encoded(text, settings.words) for split, (text, _) in made.items()},
        {split: labels for split, (_, labels) in made.items()},
        2,
        vocabulary(settings.words).size,
        (Metric("accuracy", higher_is_better=True),),
        lambda split, guessed, true: {"accuracy": float((guessed == true).mean())},
    )
    task.vocabulary_hash = source_hash(source)
    for split in ("validation", "test"):
        text, labels = made[split]
        odds = log_odds(source, text, settings.window)
        task.bounds[f"floor_{split}"] = float(np.logaddexp(0, np.where(labels == 1, -odds, odds)).mean())
        task.bounds[f"best_accuracy_{split}"] = float(((odds > 0) == (labels == 1)).mean())
    return task


def sources(settings: Settings) -> tuple[Origin, ...]:
    """Nothing is fetched."""
    return ()


def outline(settings: Settings) -> Outline:
    """Exact: the sentences are made here."""
    return classification_outline(settings.length + 1, 2, vocabulary(settings.words).size, settings.sizes)


def sentences(source: MarkovSource, settings: Settings, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Words int32 [count, length] and labels int64 [count]; half of them (rounded up) real, label 1.

    Other sentences than those of ``hmm``: they come from streams of other names.
    """
    text = sample(source, count, settings.length, settings.source_seed, f"acceptability {split}")
    labels = np.ones(count, dtype=np.int64)
    names = ("acceptability", str(settings.source_seed), split)
    labels[fixed_order(count, *names, "disturbed")[: count // 2]] = 0
    places = settings.length - settings.window + 1
    raw = np.random.PCG64(stream_seed(0, *names, "places")).random_raw(count)
    start = (raw % np.uint64(places)).astype(np.int64)  # of 2^64 values: uniform to 1 in 10^18
    window = np.arange(settings.window)
    rows = np.nonzero(labels == 0)[0][:, None]
    text[rows, start[rows] + window] = text[rows, start[rows] + window[::-1]]
    return text, labels


def log_odds(source: MarkovSource, text: np.ndarray, window: int) -> np.ndarray:
    """ln P(real | x) / P(disturbed | x) [N] of sentences ``text`` [N, S] when both are equally likely before."""
    places = text.shape[1] - window + 1

    def turned(place: int) -> np.ndarray:
        back = text.copy()
        back[:, place : place + window] = text[:, place : place + window][:, ::-1]
        return markov_bounds.log_likelihood(source, back)

    disturbed = reduce(np.logaddexp, map(turned, range(places)))
    return markov_bounds.log_likelihood(source, text) - disturbed + np.log(places)


def _encoded(text: np.ndarray, words: int) -> Encoded:
    ids = np.concatenate([np.full((len(text), 1), cls_id(words)), text], 1).astype(np.uint16)
    whole = np.full(len(ids), ids.shape[1], dtype=np.uint16)
    return Encoded(ids, whole, whole)
