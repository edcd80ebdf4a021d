"""GLUE's files on the hub (Wang et al., ICLR 2019): columns, classes and rows of each task, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mat.errors import InputError
from mat.experiments.tasks.storage.hub import check_names, load_split
from mat.experiments.tasks.storage.mirror import Origin, mirror_files

if TYPE_CHECKING:
    from datasets import Dataset

REPO = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
HIGHEST = 5.0  # stsb's scores go from 0 to it


class Subset(NamedTuple):
    """One task: its text columns, number of classes (1 = a score), and rows of the hub's splits that are used.

    The hub's validation is the test here, as its test has no labels; mrpc's has.
    """

    columns: tuple[str, ...]
    outputs: int
    rows: dict[str, int]


PAIR = ("sentence1", "sentence2")
SUBSETS = {
    "cola": Subset(("sentence",), 2, {"train": 8_551, "validation": 1_043}),
    "sst2": Subset(("sentence",), 2, {"train": 67_349, "validation": 872}),
    "mrpc": Subset(PAIR, 2, {"train": 3_668, "validation": 408, "test": 1_725}),
    "stsb": Subset(PAIR, 1, {"train": 5_749, "validation": 1_500}),
    "qqp": Subset(("question1", "question2"), 2, {"train": 363_846, "validation": 40_430}),
    "mnli": Subset(
        ("premise", "hypothesis"), 3, {"train": 392_702, "validation_matched": 9_815, "validation_mismatched": 9_832}
    ),
    "qnli": Subset(("question", "sentence"), 2, {"train": 104_743, "validation": 5_463}),
    "rte": Subset(PAIR, 2, {"train": 2_490, "validation": 277}),
    "wnli": Subset(PAIR, 2, {"train": 635, "validation": 71}),
}


def origin(subset: str) -> Origin:
    """Where ``subset`` is, with the published rows of the splits that are used."""
    return Origin(REPO, subset, REVISION, SUBSETS[subset].rows)


def read(subset: str, split: str, data: Path | None, cache: Path) -> Dataset:
    """The rows of a split on the hub, in file order; every row with a text and a label that the task has.

    Raises InputError: names split, file and row of what is not as on the hub.
    """
    rows = load_split(origin(subset), split, data, cache)
    check_names(rows.column_names, len(rows), origin(subset), split, (*SUBSETS[subset].columns, "label"))
    files = "" if data is None else f", {', '.join(map(str, mirror_files(origin(subset), split, data)))}"
    where = f"split '{split}' of {REPO} ({subset}{files})"
    for row, texts in enumerate(zip(*(rows[column] for column in SUBSETS[subset].columns), strict=True)):
        if not all(isinstance(text, str) for text in texts) or not any(text.strip() for text in texts):
            raise InputError(
                f"Expected text in every row of {where}, got none in row {row}; check the files under the setting "
                "'data' (MAT_DATA)."
            )
    labels_of(rows, subset, where)
    return rows


def labels_of(rows: Dataset, subset: str, where: str = "") -> np.ndarray:
    """Labels [N] of ``rows``: int64 classes, or float32 scores.

    Raises InputError: a label that the task does not have, -1 (hidden) included; names the row.
    """
    found = np.array([label if isinstance(label, int | float) else np.nan for label in rows["label"]], dtype=np.float64)
    outputs = SUBSETS[subset].outputs
    if outputs == 1:
        good, expected = (found >= 0) & (found <= HIGHEST), f"scores from 0 to {HIGHEST:g}"
    else:
        good, expected = np.isin(found, np.arange(outputs)), f"labels 0 to {outputs - 1}"
    if not good.all():
        row = int(np.argmin(good))
        hidden = ", as a hidden label has" if found[row] == -1 else ""
        raise InputError(
            f"Expected {expected} in {where}, got {found[row]:g} in row {row}{hidden}; check the files under the "
            "setting 'data' (MAT_DATA)."
        )
    return found.astype(np.float32 if outputs == 1 else np.int64)
