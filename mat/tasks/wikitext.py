"""Masked-language modelling on WikiText (Merity et al., ICLR 2017), from the hub or a mirror of it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mat.errors import InputError
from mat.tasks.base import SPLITS, check_whole, fixed_order
from mat.tasks.hub import Origin, cached_arrays, check_columns, content_key, load_split
from mat.tasks.masking import Vocabulary
from mat.tasks.tokens import TokenTask

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REPO = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
CONFIGS = ("wikitext-2-v1", "wikitext-2-raw-v1", "wikitext-103-v1", "wikitext-103-raw-v1")
SPECIALS = ("[MASK]", "<unk>", "[EOL]")
BYTES = 256
SCHEME = 1  # raise when tokenisation changes: it is part of the cache's key


@dataclass(frozen=True)
class Settings:
    """Which WikiText, how it is tokenised, and how many blocks of ``length`` tokens are used.

    ``train_blocks`` and ``validation_blocks`` keep the first so many in a fixed random order (None = all);
    the official test split is always whole.
    """

    config: str = "wikitext-2-v1"
    vocab_size: int = 4096
    length: int = 64
    train_blocks: int | None = None
    validation_blocks: int | None = None

    def __post_init__(self) -> None:
        if self.config not in CONFIGS:
            raise InputError(
                f"Expected wikitext setting 'config' to be one of {', '.join(CONFIGS)}, got {self.config!r}."
            )
        check_whole("wikitext setting 'vocab_size'", self.vocab_size, BYTES + len(SPECIALS) + 1, 1 << 16)
        check_whole("wikitext setting 'length'", self.length, 2)
        for name in ("train_blocks", "validation_blocks"):
            if getattr(self, name) is not None:
                check_whole(f"wikitext setting '{name}'", getattr(self, name), 1)


def load(settings: Settings, data: Path | None, cache: Path) -> TokenTask:
    """The task; the tokenizer is trained on the training split alone, token streams are kept in ``cache``.

    Raises:
        InputError: files or columns are not as on the hub, or too little text for the blocks asked for.
    """
    origin = Origin(REPO, settings.config, REVISION)
    streams = _cached_streams(origin, settings.vocab_size, data, cache)
    wanted = {"train": settings.train_blocks, "validation": settings.validation_blocks, "test": None}
    blocks = {
        split: choose_blocks(cut(streams[split], settings.length), wanted[split], split) for split in SPLITS
    }
    size = int(streams["vocabulary_size"])
    vocabulary = Vocabulary(size, SPECIALS.index("[MASK]"), range(len(SPECIALS), size))
    return TokenTask("wikitext", blocks, vocabulary)


def cut(stream: np.ndarray, length: int) -> np.ndarray:
    """Consecutive blocks [N, length] of a token ``stream`` [T]; a last, shorter one is dropped."""
    count = len(stream) // length
    return stream[: count * length].reshape(count, length)


def choose_blocks(blocks: np.ndarray, wanted: int | None, split: str) -> np.ndarray:
    """The first ``wanted`` of ``blocks`` [N, S] in a fixed random order, in text order (None = all).

    Raises:
        InputError: there are fewer blocks than wanted, or none.
    """
    if len(blocks) < (wanted or 1):
        raise InputError(
            f"Expected at least {wanted or 1} blocks of text in split '{split}' of {REPO}, got "
            f"{len(blocks)}; lower the wikitext setting '{split}_blocks' or 'length'."
        )
    return blocks[np.sort(fixed_order(len(blocks), "wikitext", split)[:wanted])]


def _cached_streams(origin: Origin, vocab_size: int, data: Path | None, cache: Path) -> dict[str, np.ndarray]:
    """Token ids uint16 [T] per split, "vocabulary_size", and the tokenizer's JSON as bytes."""
    contents = "".join(content_key(origin, split, data)[:16] for split in SPLITS)
    name = f"{origin.config}-{vocab_size}-{SCHEME}-{version('tokenizers')}-{contents}.npz"

    def make() -> dict[str, np.ndarray]:
        text = {split: _lines(origin, split, data, cache) for split in SPLITS}
        tokenizer = train_tokenizer(text["train"], vocab_size)
        streams = {split: encode(tokenizer, lines) for split, lines in text.items()}
        streams["vocabulary_size"] = np.array(tokenizer.get_vocab_size())
        streams["tokenizer"] = np.frombuffer(tokenizer.to_str().encode(), dtype=np.uint8)
        return streams

    return cached_arrays(cache / "wikitext" / name, make)


def _lines(origin: Origin, split: str, data: Path | None, cache: Path) -> list[str]:
    rows = load_split(origin, split, data, cache)
    check_columns(rows, origin, split, ("text",))
    return [line for text in rows["text"] if (line := text.strip())]


def train_tokenizer(lines: list[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of at most ``vocab_size`` ids, ``SPECIALS`` first; deterministic.

    Byte-level, because every text can then be written without an unknown token, and because the trainer
    numbers its start alphabet in a fixed order (with WordPiece, "##x" ids follow a hash table's order).
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, lstrip=True, special=True) for token in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, lines: list[str]) -> np.ndarray:
    """All ``lines`` as one stream of ids, uint16 [T], each line ended by [EOL]."""
    end = SPECIALS.index("[EOL]")
    encoded = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return np.concatenate([np.array([*line.ids, end], dtype=np.uint16) for line in encoded])
