"""Text that was tokenised before: a mirror can hold its token ids, for machines where neither the libraries of
tokenizers and data sets nor the text are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mat.errors import InputError
from mat.experiments.tasks.storage.cache import read_arrays
from mat.experiments.tasks.text.tokenizer import Subwords
from mat.experiments.tasks.text.tokenizer_choice import SCHEME
from mat.records.files import replacing
from mat.records.seal import beside, check_seal, write_seal

FOLDER = "prepared"  # in a mirror
_IDS = ("size", "pad", "cls", "sep", "mask")
_AGAIN = "prepare it again, or remove it and give the text"

Tokens = tuple[Subwords, Mapping[str, np.ndarray]]  # and the stream of each split, uint16 [T]


def place(mirror: Path, name: str, *how: str | int | None) -> Path:
    """Where ``mirror`` holds the text ``name`` that was tokenised as ``how`` says."""
    key = hashlib.sha256(json.dumps([*how, SCHEME]).encode()).hexdigest()[:16]
    return mirror / FOLDER / f"{name}-{key}.npz"


def write(path: Path, words: Subwords, streams: Mapping[str, np.ndarray]) -> None:
    """Write token ids, compressed and sealed, with what they mean."""
    ids = [*(getattr(words, name) for name in _IDS), words.words.start, words.words.stop]
    with replacing(path) as half, half.open("wb") as file:
        np.savez_compressed(file, ids=np.array(ids), json=np.frombuffer(words.json.encode(), np.uint8), **streams)
    write_seal(beside(path), [path.name])


def read(path: Path, splits: Iterable[str]) -> Tokens | None:
    """What ``write`` wrote; None where there is no such file. Raises InputError where it is not as it was written."""
    if not path.is_file():
        return None
    check_seal(beside(path), [path.name], _AGAIN)
    try:
        arrays = read_arrays(path)
        *ids, first, last = arrays["ids"].tolist()
        words = Subwords(arrays["json"].tobytes().decode(), *ids, words=range(first, last))
        return words, {split: arrays[split] for split in splits}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no prepared text ({error}); {_AGAIN}") from None
