"""Which failed jobs of a workflow are tried again: those that failed for outside reasons, never a refused input.

Snakemake counts attempts and knows no reasons. Commands say theirs: what they refuse is the last line of their log. A
handler of Snakemake's logger hears of an error before it is decided whether there is another attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from mat.experiments.cli.main import REFUSED

TAIL = 4096  # bytes of a log: a refusal is one line


class Attempted(Protocol):
    """A job as Snakemake has it: attempts count from 1, and the first is no restart."""

    attempt: int
    restart_times: int


class NoSecondRefusal(logging.Handler):
    """``job_of``: the job, or the group of jobs, that is submitted for a job's number; None for one that cannot be
    refused for good, because others decide what it finds."""

    def __init__(self, job_of: Callable[[int], Attempted | None]) -> None:
        super().__init__()
        self.job_of = job_of

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) == "job_error" and refused(record.log or ()):
            job = self.job_of(record.jobid)
            if job is not None:
                job.attempt = max(job.attempt, 1 + job.restart_times)


def refused(logs: Iterable[str]) -> bool:
    """Whether one of these logs ends with a refusal."""
    return any(_last_line(Path(log)).startswith(REFUSED) for log in logs)


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:  # it did not come so far
        return ""
    return lines[-1] if lines else ""
