"""Work that is saved as it goes on, so that a process that is stopped loses half a minute of it."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout

from mat import processes
from mat.errors import InputError
from mat.experiments.training import sharing
from mat.records.files import leftovers, remove, replacing
from mat.records.seal import SEAL, check_seal, write_seal

Report = Callable[[str, float], None]  # a line of text, and the share that is done
SAVE_EVERY = 30.0  # seconds
KEPT = 2  # states: where the newest is damaged, the one before is gone on from
STATE = "state.pt"
PLACE = ".state"


def silent(line: str, share: float) -> None:
    """The report that says nothing."""


class Resumable(Protocol):
    """A run in training, or a measurement of one."""

    stands_on: Mapping[str, Any]  # data, weights, versions: what it goes on with must be the same

    def work(self, report: Report) -> Iterator[None]:
        """Do what is left, piece by piece; the state may be saved after each."""

    def state(self) -> dict[str, Any]:
        """Everything that a later process needs, in plain types and tensors."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""


def complete(
    what: Resumable, states: Path, identity: Mapping[str, Any], report: Report = silent, save_every: float = SAVE_EVERY
) -> None:
    """Do the work from its last saved state to its end, and save the state about every ``save_every`` seconds.

    ``identity``: of the work, beside what it stands on. ``states`` stays where it is, to be removed when the results
    are written. An interrupt waits for the end of the piece that is being done, and for its state to be saved; a second
    one does not. Of several processes the first one's states are read and saved, and all save and stop together. Raises
    InputError when the state belongs to other data, code or versions.
    """
    for left in leftovers(states) if processes.rank() == 0 else ():
        remove(left)
    identity = {**identity, **what.stands_on}
    state = processes.of_first(lambda: load_state(states, identity, report))
    if state is not None:
        what.restore(state)
    saved = time.monotonic()
    with _interrupts() as asked:
        for _ in what.work(report):
            stop, due = sharing.anywhere(asked(), time.monotonic() - saved > save_every)
            if stop or due:
                state = what.state()
                if processes.rank() == 0:
                    save_state(states, {**state, "identity": identity})
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt("its state is saved, the same command goes on from there")


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether an interrupt has come, which raises nothing meanwhile; the second one does. Another thread than the main
    one, or a process with a handler of its own, sees none."""
    come: list[int] = []

    def note(number: int, frame: Any) -> None:
        come.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(come)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other processes from making ``out`` meanwhile, and remove what killed ones left half written.

    Raises InputError where another one is at it, or where nothing can be written. The lock is the system's and ends
    with its process: the file that stays says nothing.
    """
    place = out.parent / PLACE
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / f"{out.name}.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process is making {out}; wait for it, or choose another place with --out") from None
    except OSError as error:
        raise InputError(f"cannot write to {place}: {error.strerror}; choose another place with --out") from None
    try:
        for left in (*leftovers(out), *leftovers(out.parent, f".{out.name}.")):
            remove(left)
        yield
    finally:
        lock.release()


def state_path(out: Path, code: str) -> Path:
    """The folder where what makes ``out`` keeps its states: beside ``out``, not in it, because Snakemake empties a
    job's outputs before it starts and after it fails; by the hash of its code, so that no run mixes two."""
    return out.parent / PLACE / f"{out.name}-{code[:12]}"


def save_state(states: Path, state: Mapping[str, Any]) -> None:
    """Write a state beside the one before, whole or not at all, and remove older ones."""
    before = _saved(states)
    number = int(before[-1].name) + 1 if before else 1
    with replacing(states / f"{number:06d}") as half:
        half.mkdir()
        try:
            with (half / STATE).open("wb") as file:
                torch.save(dict(state), file)
        except RuntimeError as error:  # torch's own, after the system's: a full disk
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        write_seal(half / SEAL, [STATE])
    for old in before[: 1 - KEPT]:
        remove(old)


def load_state(states: Path, identity: Mapping[str, Any], report: Report = silent) -> dict[str, Any] | None:
    """The newest saved state that is as it was written, or None; damaged ones are reported and passed over.

    Nothing in a file is run: it holds plain types and tensors. Raises InputError when it holds anything else, or
    belongs to other data, code or versions.
    """
    for folder in reversed(_saved(states)):
        try:
            check_seal(folder / SEAL, [STATE], "it is passed over")
        except InputError as error:
            report(f"a saved state is damaged: {error}", 0.0)
            continue
        afresh = f"delete {states} to start afresh"
        try:
            state = torch.load(folder / STATE, weights_only=True)
            found = dict(state["identity"])
        except pickle.UnpicklingError:  # torch's words advise to run it all the same
            raise InputError(f"{folder / STATE} holds more than plain types and tensors; {afresh}") from None
        except (RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
            why = " ".join(str(error).split())[:200]
            raise InputError(f"{folder / STATE} is no state that was saved here ({why}); {afresh}") from None
        for key, value in identity.items():
            if found.get(key) != value:
                raise InputError(
                    f"{folder} was saved with {key} {found.get(key)!r}, this is {value!r}; resuming would mix the two: "
                    f"{afresh}"
                )
        return state
    return None


def _saved(states: Path) -> list[Path]:
    """The folders of the states that were saved, the newest last."""
    return sorted(path for path in states.glob("*") if path.name.isdecimal() and path.is_dir())
