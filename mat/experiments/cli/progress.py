"""A line in the terminal while Snakemake runs: how many jobs are done, which are running, how long it will take.

What a job takes is its closed form in multiply-adds times the seconds per multiply-add of the jobs that have ended;
for one without a closed form the mean of those. The line stands in for what Snakemake says of each job, which goes to
its log as ever; warnings and errors are shown.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

ERASE = "\r\x1b[K"
STREAM = "DefaultStreamHandler"  # Snakemake's name of what writes to the terminal


@dataclass
class Progress:
    """``work``: multiply-adds by job, of those that have a closed form; ``waiting``: the jobs that are not done, by
    name; ``running``: name and time of start by id; ``ended``: name and seconds."""

    work: Mapping[str, float]
    waiting: Counter[str]
    running: dict[int, tuple[str, float]] = field(default_factory=dict)
    ended: list[tuple[str, float]] = field(default_factory=list)
    slots: int = 1  # the most that ran at once

    def start(self, job: int, name: str, now: float) -> None:
        self.waiting[name] -= 1
        self.running[job] = name, now
        self.slots = max(self.slots, len(self.running))

    def end(self, job: int, now: float) -> None:
        if job in self.running:
            name, since = self.running.pop(job)
            self.ended.append((name, now - since))

    def fail(self, job: int) -> None:
        """It may be tried again."""
        if job in self.running:
            self.waiting[self.running.pop(job)[0]] += 1

    def seconds_left(self, now: float) -> float:
        """NaN until a job that has a closed form has ended, where one is left."""
        known = [(self.work[name], seconds) for name, seconds in self.ended if name in self.work]
        others = [seconds for name, seconds in self.ended if name not in self.work]
        rate = sum(seconds for _, seconds in known) / sum(work for work, _ in known) if known else math.nan
        mean = sum(others) / len(others) if others else 0.0
        total = sum(count * self._takes(name, rate, mean) for name, count in self.waiting.items() if count > 0)
        for name, since in self.running.values():
            left = self._takes(name, rate, mean) - (now - since)
            total += left if math.isnan(left) else max(0.0, left)
        return total / self.slots

    def _takes(self, name: str, rate: float, mean: float) -> float:
        return self.work[name] * rate if name in self.work else mean

    def line(self, now: float) -> str:
        left = +self.waiting
        names = ", ".join(name for name, _ in self.running.values())
        done = len(self.ended)
        said = f"{done} of {done + len(self.running) + left.total()} jobs done"
        seconds = self.seconds_left(now)
        if self.ended and not math.isnan(seconds):
            said += f", about {duration(seconds)} left"
        return f"{said}  {names}"


def duration(seconds: float) -> str:
    """In seconds below two minutes, in minutes below two hours, in hours from there on."""
    for size, unit in ((1, "s"), (60, "min")):
        if seconds < 120 * size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{seconds / 3600:.1f} h"


class Live(logging.Handler):
    """Keeps the line up to date with the events of Snakemake's logger."""

    def __init__(self, progress: Progress, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.progress, self.stream, self.clock = progress, stream, clock

    def passes(self, record: logging.LogRecord) -> bool:
        """A filter of the handler that writes to the same terminal."""
        shown = record.levelno > logging.INFO
        if shown:
            self._write(ERASE)
        return shown

    def emit(self, record: logging.LogRecord) -> None:
        event, now = getattr(record, "event", None), self.clock()
        if event == "job_info":
            self.progress.start(record.jobid, name_of(record.rule_name, record.wildcards), now)
        elif event == "job_finished":
            self.progress.end(record.job_id, now)
        elif event == "job_error":
            self.progress.fail(record.jobid)
        line = self.progress.line(now)
        self._write(ERASE + line[: shutil.get_terminal_size().columns - 1])

    def close(self) -> None:
        self._write(ERASE)
        super().close()

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def name_of(rule: str, wildcards: Mapping[str, str]) -> str:
    """A run's or a study's own name for the job; of other jobs the rule, with what it makes."""
    return wildcards.get("run") or wildcards.get("job") or " ".join([rule, *wildcards.values()])


def show(logger: logging.Logger, names: Iterable[str], work: Mapping[str, float], stream: TextIO) -> None:
    """Begin the line; ``names`` of the jobs to be done."""
    live = Live(Progress(work, Counter(names)), stream)
    for handler in logger.handlers:
        if handler.name == STREAM:
            handler.addFilter(live.passes)
    logger.addHandler(live)


def end(logger: logging.Logger) -> None:
    """End it: what Snakemake says from here on is shown again."""
    for live in [handler for handler in logger.handlers if isinstance(handler, Live)]:
        for handler in logger.handlers:
            handler.removeFilter(live.passes)
        logger.removeHandler(live)
        live.close()
