"""Disks that are full, or can only be read: mounted small where that is allowed, else by a limit on files."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.bench import Bench
from tests.campaign.commands import done, nothing
from tests.campaign.outcomes import Judged, Verdict, judged

COUNT, SHARE = 36, 0.1
ENOUGH = "64m"
SUBJECTS = ("first", "text", "pictures")
HALF = re.compile(r"^\..+\.\d+$|\.partial$")  # something that was being written
WAYS = ("full disk", "limit on files", "read-only disk")


@dataclass(frozen=True)
class Disk:
    """``share``: of what the subject needs, how much there is."""

    subject: str
    way: str
    share: float

    @property
    def kind(self) -> str:
        return f"disks: {self.way}"

    @property
    def what(self) -> str:
        return f"{self.subject} on a {self.way}, {self.share:.3f} of what it needs"

    def carry_out(self, bench: Bench) -> Judged:
        case, folder = bench.cases[self.subject], bench.root / f"disk-{os.getpid()}"
        with _disk(folder) as remount:
            argv = case.argv(folder)
            if self.way == "full disk":
                remount(f"size={int(self.share * _needed(bench, case.name)) // 4096 * 4096 + 4096}")
            elif self.way == "read-only disk":
                remount("ro")
            before = nothing
            if self.way == "limit on files":
                largest = max(path.stat().st_size for path in _files(bench, case.name))
                before = _limited(1 + int(self.share * largest))
            first = done(argv, folder, before)
            remount(f"rw,size={ENOUGH}")
            found = judged(first, bench.difference(self.subject, folder) if first.status == 0 else "")
            if found[0] not in (Verdict.CLEAR, Verdict.RECOVERED):
                return found
            again = done(argv, folder)
            verdict, why = judged(again, bench.difference(self.subject, folder) if again.status == 0 else "")
            if verdict is not Verdict.RECOVERED:
                return Verdict.LOST, f"with room again: {why}"
            left = [str(path.relative_to(folder)) for path in folder.rglob("*") if HALF.search(path.name)]
            return (Verdict.SILENT, f"left behind: {', '.join(left)}") if left else found


def _files(bench: Bench, name: str) -> list[Path]:
    """What a case writes: its run, a state like it, and the pictures."""
    below = (bench.runs / name, bench.root / "halfway/first/.state", bench.runs / "cache")
    return [path for folder in below for path in folder.rglob("*") if path.is_file()]


def _needed(bench: Bench, name: str) -> int:
    """Bytes on a disk, in whole pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in _files(bench, name))


def _limited(size: int) -> Callable[[], None]:
    """Before a command: let no file grow above ``size`` bytes."""

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return before


@contextmanager
def _disk(folder: Path) -> Iterator[Callable[[str], None]]:
    """A small disk at ``folder``, and how it is mounted again; a plain folder where mounting is not allowed."""
    folder.mkdir()
    if not mounts():
        yield lambda options: None
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ENOUGH}", "mat-campaign", folder], check=True)
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def mounts() -> bool:
    """Whether this user may mount."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


def planned(rng: random.Random) -> list[Disk]:
    ways = WAYS if mounts() else ("limit on files",)
    return [Disk(rng.choice(SUBJECTS), ways[i % len(ways)], rng.random()) for i in range(COUNT)]
