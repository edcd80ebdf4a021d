"""Which tokenizer a text task uses: a published model's own, or one trained on WikiText's training split alone."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np

from mat.errors import InputError
from mat.experiments.tasks.storage.cache import cached_arrays
from mat.experiments.tasks.storage.hub import content_key, hub_file
from mat.experiments.tasks.storage.mirror import PlainFile, Source
from mat.experiments.tasks.text import wikitext_files
from mat.experiments.tasks.text.tokenizer import LARGEST, SMALLEST, Subwords, published, subwords, train_tokenizer
from mat.limits import Range

MODELS = {"google-bert/bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594"}
FILE = "vocab.txt"
MODEL_SIZES = {"google-bert/bert-base-uncased": 30_522}
TRAINED_SIZE = 4096
VocabularySize = Annotated[int, Range(ge=SMALLEST, le=LARGEST)]  # of a tokenizer that is trained
SCHEME = 2  # raise when tokenisation changes: it is part of the cache's keys


def check_tokenizer(tokenizer: str | None, vocab_size: int | None, lowercase: bool) -> None:
    """Raise InputError for a size or case of a ``tokenizer`` that brings its own."""
    if tokenizer in MODELS and (vocab_size is not None or lowercase):
        raise InputError(
            f"vocab_size and lowercase must be left out with the tokenizer {tokenizer}, which brings its own, got "
            f"{vocab_size!r} and {lowercase!r}"
        )


def load_tokenizer(name: str, vocab_size: int | None, lowercase: bool, data: Path | None, cache: Path) -> Subwords:
    """The tokenizer ``name``: one of ``MODELS``, or a config of WikiText on whose training split it is trained.

    Trained once and kept in ``cache``, so that pre-training and fine-tuning have the very same one. Raises InputError:
    the file or text is missing or not as on the hub.
    """
    if name in MODELS:
        return published(hub_file(PlainFile(name, FILE, MODELS[name]), data, cache))
    key = content_key(wikitext_files.origin(name, ("train",)), "train", data)
    size = vocab_size or TRAINED_SIZE
    path = f"{name}-{size}-{'lower' if lowercase else 'cased'}-{SCHEME}-{version('tokenizers')}-{key}.npz"

    def make() -> dict[str, np.ndarray]:
        trained = train_tokenizer(wikitext_files.lines(name, "train", data, cache), size, lowercase)
        return {"json": np.frombuffer(trained.to_str().encode(), dtype=np.uint8)}

    return subwords(cached_arrays(cache / "tokenizers" / path, make)["json"].tobytes().decode())


def tokenizer_sources(name: str) -> tuple[Source, ...]:
    """What has to be fetched for the tokenizer ``name``."""
    if name in MODELS:
        return (PlainFile(name, FILE, MODELS[name]),)
    return (wikitext_files.origin(name, ("train",)),)


def vocabulary_size(name: str, vocab_size: int | None) -> int:
    """Ids of the tokenizer ``name``; a trained one has fewer where its text has too few pairs to merge."""
    return MODEL_SIZES[name] if name in MODELS else vocab_size or TRAINED_SIZE
