"""What came of an attack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

CLEAR_LINE = re.compile(r"^mat: error: .+$", re.M)


class Verdict(Enum):
    """From good to bad."""

    RECOVERED = "recovered"
    CLEAR = "clear error"
    LOST = "lost"
    SILENT = "silent"
    TRACEBACK = "traceback"


GOOD = (Verdict.RECOVERED, Verdict.CLEAR)
Judged = tuple[Verdict, str]


@dataclass(frozen=True)
class Outcome:
    """``attack``: its name, by which it is carried out again; ``what`` was done, of the ``kind``; ``why``: what speaks
    for the verdict; ``seconds`` that it took."""

    attack: str
    kind: str
    what: str
    verdict: Verdict
    why: str
    seconds: float = 0


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit status, minus the signal that ended it, or None where it did not end in time; and
    all that it said."""

    status: int | None
    said: str

    @property
    def last(self) -> str:
        """The last line that it said."""
        return (self.said.strip().splitlines() or ["nothing was said"])[-1]


def refused(ended: Ended) -> Judged | None:
    """The verdict on a command that did not succeed; None for one that says that it did."""
    if "Traceback (most recent call last)" in ended.said:
        return Verdict.TRACEBACK, ended.last
    if ended.status is None:
        return Verdict.SILENT, "did not end in time"
    if ended.status < 0:
        return Verdict.TRACEBACK, f"ended by signal {-ended.status}"
    if ended.status > 0:
        lines = CLEAR_LINE.findall(ended.said)
        if len(lines) == 1:
            return Verdict.CLEAR, lines[0]
        return Verdict.TRACEBACK, f"status {ended.status} with {len(lines)} lines of error: {ended.last}"
    return None


def judged(ended: Ended, difference: str) -> Judged:
    """The verdict on a command; ``difference`` of what it left from what the undisturbed one leaves, "" for none."""
    found = refused(ended)
    if found is not None:
        return found
    return (Verdict.SILENT, difference) if difference else (Verdict.RECOVERED, "")


def worst(found: list[Judged]) -> Judged:
    """The worst of several verdicts, the first of equals."""
    order = list(Verdict)
    return max(found, key=lambda one: order.index(one[0]))
