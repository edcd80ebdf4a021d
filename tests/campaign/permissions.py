"""Folders and files that may not be read or written; where root attacks, by a process without its right to it all."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mat.records.files import CURVE
from tests.campaign.bench import Bench
from tests.campaign.commands import Command, computed, done
from tests.campaign.files import newest, show
from tests.campaign.outcomes import Ended, Judged, Verdict, judged, worst

KIND, SHARE = "no permission", 0.05
OVERRIDES = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux: to read and write all the same
VERSION = 0x20080522  # of the system call that takes them away
# what may not be used, below a place; {run}: the run's folder. The subject is finished there, half done, or not begun
PLACES = (
    ("", "first", "not begun"),
    ("", "pictures", "not begun"),
    ("{run}", "first", "finished"),
    ("{run}/run.json", "first", "finished"),
    (f"{{run}}/{CURVE}", "first", "finished"),
    ("{run}/final.json", "first", "finished"),
    ("{run}/SHA256SUMS", "first", "finished"),
    ("{run}/checkpoint", "text", "finished"),
    (".state", "first", "half done"),
    (".state/{run}-*", "first", "half done"),
    (".state/*/*/state.pt", "first", "half done"),
    (".state/*/*/SHA256SUMS", "first", "half done"),
    (".state/{run}.lock", "first", "half done"),
    ("cache", "pictures", "not begun"),
    ("cache/cifar10", "pictures", "not begun"),
    ("cache/cifar10/train-*/pixels.npy", "pictures", "not begun"),
)
MODES = {"nothing": 0o000, "no writing": 0o555}


@dataclass(frozen=True)
class Permission:
    """``pattern``: what may not be used below a place; ``allowed``: what is still allowed, a name of ``MODES``."""

    pattern: str
    subject: str
    begun: str
    allowed: str
    kind: str = KIND

    @property
    def what(self) -> str:
        return f"{self.pattern or 'the place'}: {self.allowed} allowed, {self.subject} {self.begun}"

    def carry_out(self, bench: Bench) -> Judged:
        case = bench.cases[self.subject]
        place = bench.place(*([self.subject] if self.begun == "finished" else []))
        if self.begun == "half done":
            shutil.copytree(bench.root / "halfway" / self.subject / ".state", place / ".state")
            (place / ".state" / f"{case.name}.lock").touch()
        path = newest(place, self.pattern.format(run=case.name)) if self.pattern else place
        usual = path.stat().st_mode
        path.chmod(MODES[self.allowed])
        argv = case.argv(place)
        first = Command(argv, place, obey, start=Path("/")).wait()
        found = [self._judged(bench, place, first)]
        if self.subject == "first" and self.begun == "finished":
            found.append(show(bench, place, obey))
        if path.exists():
            path.chmod(usual)
        last = self._judged(bench, place, done(argv, place, obey))
        lost = [(Verdict.LOST, f"allowed again: {last[1]}")] if last[0] is Verdict.CLEAR else [last]
        return worst([*found, *lost])

    def _judged(self, bench: Bench, place: Path, ended: Ended) -> Judged:
        retrained = self.begun != "finished" or "already finished" not in ended.said
        return judged(ended, "" if ended.status else bench.difference(self.subject, place, retrained))


def obey() -> None:
    """Be a process to which permissions mean something: give up the rights to override them."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head, rights = (
        (ctypes.c_uint32 * 2)(VERSION, 0),
        (ctypes.c_uint32 * 6)(),
    )  # effective, permitted, inheritable; twice
    libc.capget(head, rights)
    for right in OVERRIDES:
        for number in range(3):  # effective, permitted, inheritable
            rights[number] &= ~(1 << right)
    if libc.capset(head, rights) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def matter() -> bool:
    """Whether permissions can be made to mean something to this user."""
    return os.geteuid() != 0 or (sys.platform == "linux" and computed(_is_refused))


def _is_refused() -> bool:
    obey()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0)
    try:
        (folder / "a").touch()
    except PermissionError:
        return True
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)
    return False


def planned(rng: random.Random) -> list[Permission]:
    """All of them, in random order; none where permissions mean nothing."""
    found = [Permission(*place, allowed) for place in PLACES for allowed in MODES] if matter() else []
    rng.shuffle(found)
    return found
