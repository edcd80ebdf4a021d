"""Small text data in the hub's layout: WikiText, BERT's vocabulary and all nine tasks of GLUE."""

from __future__ import annotations

import os
import string
from pathlib import Path

import numpy as np
import pytest

from mat.experiments.tasks.text.glue_files import SUBSETS
from mat.experiments.tasks.text.wikitext_files import CONFIGS

REAL = Path(os.environ.get("MAT_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
BERT = "google-bert/bert-base-uncased"
WORDS = ["the", "river", "ran", "north", "of", "a", "town", ",", "in", "1923", ".", "Café", "don't", "rivers"]
UNUSED = [f"[unused{i}]" for i in range(3)]
GLUE_ROWS = {"train": 120, "validation": 30, "test": 30}


def vocabulary() -> list[str]:
    """A small vocabulary in the order of BERT's: unused ids before and between the special ones, real words last."""
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    words = [word.lower() for word in WORDS if word.isalpha() and word.isascii()]
    pieces = [f"##{letter}" for letter in string.ascii_lowercase + string.digits]
    specials = ["[PAD]", *UNUSED[:2], "[UNK]", "[CLS]", "[SEP]", "[MASK]", *UNUSED[2:]]
    return [*specials, *letters, *pieces, *(word for word in words if len(word) > 1)]


def sentence(draws: np.random.Generator, longest: int = 12) -> str:
    return " ".join(draws.choice(WORDS, size=draws.integers(2, longest)))


def glue_rows(subset: str, count: int, seed: int, hidden: bool = False) -> dict[str, list]:
    """Columns of ``count`` rows as the hub has them; ``hidden``: the labels are -1."""
    draws = np.random.default_rng(seed)
    outputs = SUBSETS[subset].outputs
    rows: dict[str, list] = {column: [sentence(draws) for _ in range(count)] for column in SUBSETS[subset].columns}
    labels = [float(x) for x in draws.uniform(0, 5, count)] if outputs == 1 else [i % outputs for i in range(count)]
    return {**rows, "label": [-1] * count if hidden else labels, "idx": list(range(count))}


def write_glue(root: Path, subset: str, split: str, rows: dict[str, list]) -> Path:
    """One split's Parquet file with the hub's features; returns its path."""
    from datasets import ClassLabel, Dataset, Features, Value

    classes = SUBSETS[subset].outputs
    kinds = {"label": ClassLabel(num_classes=max(classes, 5)) if classes > 1 else Value("float32")}
    features = {name: kinds.get(name, Value("int32" if name == "idx" else "string")) for name in rows}
    path = root / "nyu-mll/glue" / subset / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=Features(features)).to_parquet(path)
    return path


def write_lines(folder: Path, split: str, lines: list[str]) -> None:
    """One split of WikiText."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"text": lines}).to_parquet(folder / f"{split}-00000-of-00001.parquet", index=False)


def write_text(folder: Path, split: str, count: int, seed: int) -> None:
    """A Parquet file of random lines with the hub's column: blank lines, titles and <unk> included."""
    draws = np.random.default_rng(seed)
    words = ["the", "river", "ran", "<unk>", "north", "of", "a", "town", ",", "in", "1923", "."]
    lines = [" " + " ".join(draws.choice(words, size=draws.integers(5, 20))) + " \n" for _ in range(count)]
    lines[0], lines[1] = "", " = A title = \n"
    write_lines(folder, split, lines)


def make_mirror(root: Path) -> Path:
    """WikiText in all configs, BERT's vocabulary and GLUE's nine tasks, a few rows of each."""
    for config in CONFIGS:
        for seed, (split, count) in enumerate((("train", 240), ("validation", 60), ("test", 60))):
            draws = np.random.default_rng(seed)
            lines = [f" {sentence(draws, 20)} <unk> \n" if i % 3 else "" for i in range(count)]
            write_lines(root / "Salesforce/wikitext" / config, split, lines)
    (root / BERT).mkdir(parents=True)
    (root / BERT / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    for number, (subset, known) in enumerate(SUBSETS.items()):
        for seed, split in enumerate(known.rows):
            rows = glue_rows(subset, GLUE_ROWS[split.split("_")[0]], 10 * number + seed)
            write_glue(root, subset, split, rows)
    return root


@pytest.fixture(scope="session")
def text_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a made mirror of all text data (`make_mirror`)."""
    return make_mirror(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def real_text() -> Path:
    """Root of the real mirror with BERT's vocabulary, WikiText-2 and some of GLUE."""
    wanted = (f"{BERT}/vocab.txt", "Salesforce/wikitext/wikitext-2-v1", "nyu-mll/glue/rte", "nyu-mll/glue/stsb")
    for path in wanted:
        if not (REAL / path).exists():
            pytest.skip(f"no real data: {REAL / path} is missing; MAT_DATA can name the root of a mirror")
    return REAL
