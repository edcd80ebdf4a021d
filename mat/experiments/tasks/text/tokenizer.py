"""Sub-word tokenizers: BERT's own, and byte-level BPE trained on a text; both as JSON with what their ids mean.

BERT's (Devlin et al., NAACL 2019) is WordPiece over its published vocabulary, and gives what transformers'
``BertTokenizerFast`` gives. A trained one is byte-level, because every text can then be written without an unknown
token, and because the trainer numbers its start alphabet in a fixed order (WordPiece's "##x" ids have none).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mat.errors import InputError
from mat.experiments.tasks.text.masking import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN_WORD = "<unk>"  # WikiText writes it for rare words: a word like any other, kept whole
SMALLEST = len(SPECIALS) + 1 + 256 + 1
LARGEST = 1 << 16  # ids are stored as uint16
UNUSED = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True)
class Subwords:
    """A tokenizer's ``json`` and its ids: ``size`` of them, the special ones, and ``words``, the range of real words.

    Ids outside ``words`` (special and unused ones) are never to be guessed, nor put in at random.
    """

    json: str
    size: int
    pad: int
    cls: int
    sep: int
    mask: int
    words: range

    @property
    def vocabulary(self) -> Vocabulary:
        """What masking needs to know."""
        return Vocabulary(self.size, self.mask, self.words)

    @property
    def hash(self) -> str:
        """SHA-256 of the JSON: equal where ids mean the same."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    def load(self) -> Tokenizer:
        """A tokenizer of its own, so that truncation set on it stays with its user."""
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.json)


def subwords(json: str) -> Subwords:
    """The ids of a tokenizer's ``json``.

    Raises InputError: one of ``SPECIALS`` has no id, or there are more ids than uint16 holds.
    """
    from tokenizers import Tokenizer

    ids = Tokenizer.from_str(json).get_vocab()
    missing = [token for token in SPECIALS if token not in ids]
    if missing or len(ids) > LARGEST:
        raise InputError(
            f"Expected a vocabulary of at most {LARGEST} tokens with {', '.join(SPECIALS)}, got {len(ids)} without "
            f"{', '.join(missing) or 'none of them missing'}; check the file of the setting 'tokenizer'."
        )
    reserved = (index for token, index in ids.items() if token in SPECIALS or UNUSED.fullmatch(token))
    pad, _, cls, sep, mask = (ids[token] for token in SPECIALS)
    return Subwords(json, len(ids), pad, cls, sep, mask, range(max(reserved) + 1, len(ids)))


def wordpiece(tokens: list[str]) -> Tokenizer:
    """BERT's uncased tokenizer over ``tokens``, whose place is their id.

    Raises InputError: a token comes twice, or one of ``SPECIALS`` is missing.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    ids = {token: index for index, token in enumerate(tokens)}
    missing = [token for token in SPECIALS if token not in ids]
    if missing or len(ids) < len(tokens):
        raise InputError(
            f"Expected a WordPiece vocabulary with one token a line, {', '.join(SPECIALS)} among them, got "
            f"{len(tokens)} lines with {len(ids)} different ones, {', '.join(missing) or 'no special one'} missing; "
            "check the file vocab.txt."
        )
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(list(SPECIALS))
    return _with_template(tokenizer)


def published(path: Path) -> Subwords:
    """BERT's tokenizer over the word list ``path`` (vocab.txt), one word a line."""
    return subwords(wordpiece(path.read_text(encoding="utf-8").removesuffix("\n").split("\n")).to_str())


def train_tokenizer(lines: Iterable[str] | Iterable[list[str]], vocab_size: int, lowercase: bool) -> Tokenizer:
    """A byte-level BPE tokenizer of at most ``vocab_size`` ids, ``SPECIALS`` and <unk> first; deterministic.

    ``lowercase``: text is decomposed (NFD), freed of accents and lowered first, as BERT's uncased one does.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=True
        )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    first = [AddedToken(token, lstrip=True, special=True) for token in (*SPECIALS, UNKNOWN_WORD)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=first,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return _with_template(tokenizer)


def _with_template(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, writing [CLS] a [SEP] and [CLS] a [SEP] b [SEP] with token types 0 and 1 when asked to."""
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def encode(tokenizer: Tokenizer, lines: list[str], end: int) -> np.ndarray:
    """All ``lines`` as one stream of ids, uint16 [T], each line ended by the id ``end``."""
    encoded = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    found = [np.array([*line.ids, end], dtype=np.uint16) for line in encoded]
    return np.concatenate(found) if found else np.empty(0, dtype=np.uint16)
