"""WikiText's files (Merity et al., ICLR 2017): where they are, their published sizes, their lines in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mat.errors import InputError
from mat.experiments.tasks.base import SPLITS
from mat.experiments.tasks.storage.hub import check_text, load_split
from mat.experiments.tasks.storage.mirror import Origin

REPO = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
CONFIGS = ("wikitext-2-v1", "wikitext-2-raw-v1", "wikitext-103-v1", "wikitext-103-raw-v1")
ROWS = {
    "wikitext-2": {"train": 36_718, "validation": 3_760, "test": 4_358},
    "wikitext-103": {"train": 1_801_350, "validation": 3_760, "test": 4_358},
}
WORDS = {  # published; line ends are counted, those of blank lines too
    "wikitext-2": {"train": 2_088_628, "validation": 217_646, "test": 245_569},
    "wikitext-103": {"train": 103_227_021, "validation": 217_646, "test": 245_569},
}
ROWS_AT_ONCE = 8192


def edition(config: str) -> str:
    """ "wikitext-2" or "wikitext-103", whose published sizes ``config`` has."""
    return config.removesuffix("-v1").removesuffix("-raw")


def origin(config: str, splits: tuple[str, ...] = SPLITS) -> Origin:
    """Where the ``splits`` of ``config`` are, with their published rows."""
    rows = ROWS[edition(config)]
    return Origin(REPO, config, REVISION, {split: rows[split] for split in splits})


def lines(config: str, split: str, data: Path | None, cache: Path) -> Iterator[list[str]]:
    """The lines of a split that are not blank, stripped, in lists: the whole text is never held as Python objects.

    Raises InputError: files or the column are not as on the hub, or no line has text.
    """
    place = origin(config)
    rows = load_split(place, split, data, cache)
    check_text(rows, place, split, "text")
    found = False
    for start in range(0, len(rows), ROWS_AT_ONCE):
        texts = rows[start : start + ROWS_AT_ONCE]["text"]
        batch = [line for text in texts if text and (line := text.strip())]
        found = found or bool(batch)
        yield batch
    if not found:
        raise InputError(
            f"Expected lines of text in split '{split}' of {REPO} ({config}), got {len(rows)} blank ones; check the "
            "files under the setting 'data' (MAT_DATA)."
        )
