"""Work that is saved as it goes on, so that a process that is stopped loses half a minute of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from mat.errors import InputError
from mat.records.files import replacing

Report = Callable[[str, float], None]  # a line of text, and the share that is done
SAVE_EVERY = 30.0  # seconds


def silent(line: str, share: float) -> None:
    """The report that says nothing."""


class Resumable(Protocol):
    """A run in training, or a measurement of one."""

    stands_on: Mapping[str, Any]  # data, weights, versions: what it goes on with must be the same

    def work(self, report: Report) -> Iterator[None]:
        """Do what is left, piece by piece; the state may be saved after each."""

    def state(self) -> dict[str, Any]:
        """Everything that a later process needs."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""


def complete(
    what: Resumable,
    state_file: Path,
    identity: Mapping[str, Any],
    report: Report = silent,
    save_every: float = SAVE_EVERY,
) -> None:
    """Do the work from its last saved state to its end, and save the state about every ``save_every`` seconds.

    ``identity``: of the work, beside what it stands on. The state is left where it is, to be removed when the results
    are written. Raises InputError when it belongs to other data, code or versions.
    """
    identity = {**identity, **what.stands_on}
    state = load_state(state_file, identity)
    if state is not None:
        what.restore(state)
    saved = time.monotonic()
    for _ in what.work(report):
        if time.monotonic() - saved > save_every:
            save_state(state_file, {**what.state(), "identity": identity})
            saved = time.monotonic()


def state_path(out: Path, code: str) -> Path:
    """Where what makes ``out`` keeps its state: beside ``out``, not in it, because Snakemake empties a job's outputs
    before it starts and after it fails; by the hash of its code, so that no run mixes two."""
    return out.parent / ".state" / f"{out.name}-{code[:12]}.pt"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the state in one step: a process killed while writing leaves the one before."""
    with replacing(path) as half:
        torch.save(dict(state), half)


def load_state(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
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
