"""The state that an unfinished run resumes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mat.errors import InputError
from mat.experiments.training.code_version import code_hash
from mat.records.files import replacing


def state_path(out: Path, *also: str) -> Path:
    """Where an unfinished run keeps its state: beside ``out``, not in it, because Snakemake empties a job's
    outputs before it starts and after it fails; by code version (``code_hash(*also)``), so that no run mixes two."""
    return out.parent / ".state" / f"{out.name}-{code_hash(*also)[:12]}.pt"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the state in one step: a process killed while writing leaves the one before."""
    with replacing(path) as half:
        torch.save(state, half)


def load_state(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The saved state, or None. Raises InputError when it belongs to other data, code or versions."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=False)
    for key, value in identity.items():
        if state["identity"].get(key) != value:
            raise InputError(
                f"{path} was saved with {key} {state['identity'].get(key)!r}, this is {value!r}; "
                "resuming would mix the two: delete the file to start this run afresh"
            )
    return state
