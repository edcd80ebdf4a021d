"""Runs that are killed: at a random moment, at a random operation on files, once or twice; and stopped by signals."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from dataclasses import dataclass

from mat.experiments.cli import stopping
from mat.records.seal import SEAL
from tests.campaign.bench import Bench
from tests.campaign.commands import Command, done, killed_at, nothing
from tests.campaign.outcomes import Judged, Verdict, judged

KIND, COUNT, SHARE = "kills of runs", 120, 0.2
STOPS = (*stopping.STOPS, signal.SIGINT)  # at which a state is saved
SIGNALS = (signal.SIGKILL, signal.SIGKILL, *STOPS)
SUBJECTS = ("first", "text", "follower", "pictures")
STEP = re.compile(r"^step (\d+)/\d+ ", re.M)


@dataclass(frozen=True)
class Kill:
    """``moments``: of each try but the last, the share of its time, or of its operations on files, at which it is ended
    by the ``signal``; a state is saved after each step, or after none."""

    subject: str
    moments: tuple[float, ...]
    by_operation: bool
    signal: signal.Signals
    saves: bool
    kind: str = KIND

    @property
    def what(self) -> str:
        at = "operation" if self.by_operation else "moment"
        return f"{self.subject} by {self.signal.name} at {at} {', '.join(f'{one:.3f}' for one in self.moments)}"

    def carry_out(self, bench: Bench) -> Judged:
        case = bench.cases[self.subject]
        folder = bench.place(*(name for name, other in bench.cases.items() if other.spec in case.needs))
        if self.subject == "pictures":
            shutil.rmtree(folder / "cache")  # so that it is killed while it decodes, too
        argv, trained, saved = case.argv(folder, 0 if self.saves else 60), False, False
        for moment in self.moments:
            before = killed_at(1 + int(moment * bench.operations[self.subject]), folder)
            command = Command(argv, folder, before if self.by_operation else nothing)
            if not self.by_operation:
                time.sleep(moment * bench.seconds[self.subject])
                command.send(self.signal)
            ended = command.wait()
            if "Traceback" in ended.said:
                return Verdict.TRACEBACK, ended.last
            trained |= any(int(step) > 0 for step in STEP.findall(ended.said))
            saved |= any((folder / ".state").glob(f"*/[0-9]*/{SEAL}"))
        again = done(argv, folder)
        verdict, why = judged(again, bench.difference(self.subject, folder))
        if verdict is Verdict.CLEAR:  # the work that was done is not to be had by the same command
            return Verdict.LOST, why
        kept = saved or (self.signal in STOPS and not self.by_operation and trained)
        if verdict is Verdict.RECOVERED and kept and STEP.findall(again.said)[:1] == ["0"]:
            return Verdict.LOST, "trained again from its first step, though it had been interrupted later"
        return verdict, why


def planned(rng: random.Random) -> list[Kill]:
    found = []
    for number in range(COUNT):
        by_operation = number % 2 == 1
        chosen = signal.SIGKILL if by_operation else rng.choice(SIGNALS)
        moments = tuple(rng.random() for _ in range(rng.choice((1, 1, 2))))
        saves = by_operation or chosen not in STOPS or rng.random() < 0.5
        found.append(Kill(rng.choice(SUBJECTS), moments, by_operation, chosen, saves))
    return found
