"""What a search chose and its log as files: what was tuned before stays unless it is tuned again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mat.experiments.config.tuned import Chosen
from mat.records.files import write_text
from mat.records.tuning import LOG, read_log
from mat.settings.yaml_file import yaml_text

HEAD = "# Chosen by `mat tune`, which writes this file and, beside it as CSV, every configuration that it tried.\n"


def write(
    path: Path,
    before: Mapping[str, Mapping[str, Chosen]],
    chosen: Mapping[tuple[str, str], Chosen],
    rows: Iterable[Mapping[str, Any]],
) -> None:
    """Write the log beside ``path``, and then what was chosen there."""
    tasks = {task: dict(methods) for task, methods in before.items()}
    for (task, method), one in chosen.items():
        tasks.setdefault(task, {})[method] = one
    log, found = path.with_suffix(".csv"), pd.DataFrame(rows)[list(LOG)]
    if log.exists():
        old = read_log(log)
        again = {*zip(found["task"], found["method"], strict=True)}
        found = pd.concat([old[[(one.task, one.method) not in again for one in old.itertuples()]], found])
    found = found.sort_values(["task", "method", "rung", "configuration", "seed"], kind="stable")
    write_text(found.to_csv(index=False, lineterminator="\n"), log)
    content = {task: {name: one.model_dump() for name, one in sorted(them.items())} for task, them in tasks.items()}
    write_text(HEAD + yaml_text({"tasks": content}), path)
