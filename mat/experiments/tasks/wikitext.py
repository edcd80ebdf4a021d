"""Language modelling, masked or causal, on WikiText (Merity et al., ICLR 2017), from the hub or a mirror of it.

Memory: token streams are uint16, two bytes a token. Of WikiText-103 (about 120 million tokens) 0.25 GB are held in the
end, and about 1 GB while the text is first encoded; blocks are cut from the stream when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from mat.errors import InputError
from mat.experiments.task_signature import LONGEST
from mat.experiments.tasks.base import SPLITS, Count, Outline, fixed_order
from mat.experiments.tasks.storage.cache import cached_arrays
from mat.experiments.tasks.storage.hub import content_key
from mat.experiments.tasks.storage.mirror import Source
from mat.experiments.tasks.text import prepared, wikitext_files
from mat.experiments.tasks.text.language_modelling import OBJECTIVES, Rows, TokenTask, token_outline
from mat.experiments.tasks.text.tokenizer import Subwords, encode
from mat.experiments.tasks.text.tokenizer_choice import (
    MODELS,
    SCHEME,
    VocabularySize,
    check_tokenizer,
    load_tokenizer,
    tokenizer_sources,
    vocabulary_size,
)
from mat.limits import Range, check_limits

# Tokens per published word, measured on WikiText-2: BERT's vocabulary writes <unk> in four tokens, raw text has none.
# On WikiText-103 a trained vocabulary of the same size writes more tokens, by an estimated 5 %.
BERT_RATIO = {"v1": 1.18, "raw": 1.12}
TRAINED_RATIO = {  # log2 of the vocabulary's size -> tokens per word, cased and lower-case
    8: (4.90, 4.89),
    9: (2.43, 2.35),
    10: (1.94, 1.86),
    11: (1.63, 1.56),
    12: (1.40, 1.34),
    13: (1.23, 1.18),
    14: (1.10, 1.08),
    15: (1.03, 1.02),
    16: (1.01, 1.01),
}
RAW_FACTOR, LARGE_FACTOR = 1.06, 1.05
SPLITS_ARE_DISJOINT = False  # two texts may be equal


@dataclass(frozen=True)
class Settings:
    """Which WikiText, how it is tokenised, what is guessed, and how many blocks of it are used.

    masked_lm: [CLS], length - 2 tokens of the text, [SEP]; a last, shorter block is dropped. causal_lm: every token but
    the split's first is guessed once, in a last, shorter block too. Line ends are [SEP].
    """

    config: Literal[wikitext_files.CONFIGS] = "wikitext-2-v1"
    """Which WikiText: wikitext-2-v1 or wikitext-103-v1."""
    objective: Literal[OBJECTIVES] = "masked_lm"
    """What is guessed: masked_lm or causal_lm."""
    tokenizer: Literal[tuple(MODELS)] | None = None
    """A published model's own, such as google-bert/bert-base-uncased; none: BPE trained on the training split."""
    vocab_size: VocabularySize | None = None
    """Ids of the trained tokenizer; none: 4096."""
    lowercase: bool = False
    """Whether the trained tokenizer is lower-case, without accents."""
    length: Annotated[int, Range(ge=3, le=LONGEST)] = 64
    """Tokens that the model takes."""
    train_blocks: Count | None = None
    """Blocks trained on: the first so many in a fixed random order; none: all."""
    validation_blocks: Count | None = None
    """Blocks of the validation split; none: all."""
    test_blocks: Count | None = None
    """Blocks of the test split; none: all."""

    def __post_init__(self) -> None:
        check_limits(self)
        check_tokenizer(self.tokenizer, self.vocab_size, self.lowercase)

    @property
    def tokenizer_name(self) -> str:
        """Published model, or the config on whose training split the tokenizer is trained."""
        return self.tokenizer or self.config

    @property
    def wanted(self) -> dict[str, int | None]:
        """Blocks per split, None = all."""
        return {split: getattr(self, f"{split}_blocks") for split in SPLITS}


def load(settings: Settings, data: Path | None, cache: Path) -> TokenTask:
    """The task; tokenizer and token streams are kept in ``cache``.

    Raises InputError: files or columns are not as on the hub, or too little text for the blocks asked for.
    """
    words, streams = _tokens(settings, data, cache)
    rows = {}
    for split, wanted in settings.wanted.items():
        rows[split] = choose(cut(streams[split], settings, words), wanted, split)
    task = TokenTask("wikitext", rows, words.vocabulary, settings.objective)
    task.vocabulary_hash, task.tokenizer = words.hash, words.json
    return task


def prepare(settings: Settings, data: Path | None, cache: Path, mirror: Path) -> None:
    """Put the tokenised text into ``mirror``, from which the same task can be loaded. Raises InputError as ``load``."""
    prepared.write(_place(mirror, settings), *_tokens(settings, data, cache))


def _place(mirror: Path, settings: Settings) -> Path:
    how = (settings.tokenizer, settings.vocab_size, settings.lowercase)
    return prepared.place(mirror, settings.config, *how)


def _tokens(settings: Settings, data: Path | None, cache: Path) -> prepared.Tokens:
    """The tokenizer and the stream of every split: as the mirror holds them prepared, else made of its text."""
    found = None if data is None else prepared.read(_place(data, settings), SPLITS)
    if found is not None:
        return found
    words = load_tokenizer(settings.tokenizer_name, settings.vocab_size, settings.lowercase, data, cache)
    return words, {split: _cached_stream(settings.config, split, words, data, cache) for split in SPLITS}


def sources(settings: Settings) -> tuple[Source, ...]:
    """The three splits, and the tokenizer's own vocabulary where it has one."""
    text = (wikitext_files.origin(settings.config),)
    return text if settings.tokenizer is None else (*text, *tokenizer_sources(settings.tokenizer))


def outline(settings: Settings) -> Outline:
    """Signature and sizes from the published words per split times ``tokens_per_word``: within about a tenth."""
    sizes = {}
    for split, wanted in settings.wanted.items():
        words = wikitext_files.WORDS[wikitext_files.edition(settings.config)][split]
        blocks = _blocks(round(words * tokens_per_word(settings)), settings)
        sizes[split] = blocks if wanted is None else min(blocks, wanted)
    outputs = vocabulary_size(settings.tokenizer_name, settings.vocab_size)
    return token_outline(settings.objective, settings.length, outputs, sizes)


def tokens_per_word(settings: Settings) -> float:
    """Estimated tokens per published word (line ends count on both sides; blank lines only among the words)."""
    raw = "-raw-" in settings.config
    if settings.tokenizer in MODELS:
        return BERT_RATIO["raw" if raw else "v1"]
    size = vocabulary_size(settings.config, settings.vocab_size)
    ratios = [pair[settings.lowercase] for pair in TRAINED_RATIO.values()]
    found = float(np.interp(np.log2(size), list(TRAINED_RATIO), ratios))
    return found * (RAW_FACTOR if raw else 1) * (LARGE_FACTOR if "-103-" in settings.config else 1)


def _blocks(tokens: int, settings: Settings) -> int:
    if settings.objective == "causal_lm":
        return -(-(tokens - 1) // settings.length)
    return tokens // (settings.length - 2)


def cut(stream: np.ndarray, settings: Settings, words: Subwords) -> Rows:
    """Consecutive blocks of a token ``stream`` [T], as ``Settings`` says for each objective."""
    count = max(0, _blocks(len(stream), settings))
    if settings.objective == "causal_lm":
        return Rows(stream, np.arange(count) * settings.length, settings.length + 1)
    width = settings.length - 2
    return Rows(stream, np.arange(count) * width, width, (words.cls,), (words.sep,))


def choose(rows: Rows, wanted: int | None, split: str) -> Rows:
    """The first ``wanted`` of ``rows`` in a fixed random order, in text order (None = all).

    Raises InputError: there are fewer blocks than wanted, or none.
    """
    if len(rows) < (wanted or 1):
        raise InputError(
            f"Expected at least {wanted or 1} blocks of text in split '{split}' of {wikitext_files.REPO}, got "
            f"{len(rows)}; lower the wikitext setting '{split}_blocks' or 'length'."
        )
    if wanted is None:
        return rows
    starts = rows.starts[np.sort(fixed_order(len(rows), "wikitext", split)[:wanted])]
    return Rows(rows.stream, starts, rows.width, rows.before, rows.after)


def _cached_stream(config: str, split: str, words: Subwords, data: Path | None, cache: Path) -> np.ndarray:
    """Token ids of a split, uint16 [T], encoded once per text and tokenizer."""
    content = content_key(wikitext_files.origin(config), split, data)
    name = f"{config}-{split}-{words.hash[:16]}-{SCHEME}-{version('tokenizers')}-{content}.npz"

    def make() -> dict[str, np.ndarray]:
        tokenizer = words.load()
        parts = [encode(tokenizer, lines, words.sep) for lines in wikitext_files.lines(config, split, data, cache)]
        return {"stream": np.concatenate(parts)}

    return cached_arrays(cache / "wikitext" / name, make)["stream"]
