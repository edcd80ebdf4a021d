"""Two commands at once on the same folder."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import dataclass

from tests.campaign.bench import Bench
from tests.campaign.commands import Command, done
from tests.campaign.outcomes import Judged, Verdict, judged, refused, worst

KIND, COUNT, SHARE = "two at once", 24, 0.1
SUBJECTS = ("first", "text", "pictures")
BESIDE = ("the same", "the same", "show", "collect")


@dataclass(frozen=True)
class Together:
    """The second begins at a ``moment`` of the first, a share of its time, and is ``beside`` it."""

    subject: str
    beside: str
    moment: float
    kind: str = KIND

    @property
    def what(self) -> str:
        return f"{self.beside} beside {self.subject} from {self.moment:.3f} of its time on"

    def carry_out(self, bench: Bench) -> Judged:
        folder = bench.place(*(["second"] if self.beside == "collect" else []))
        if self.subject == "pictures":
            shutil.rmtree(folder / "cache")
        argv = bench.cases[self.subject].argv(folder)
        first = Command(argv, folder)
        time.sleep(self.moment * bench.seconds[self.subject])
        ended = [done(self._beside(bench, argv), folder), first.wait()]
        found = [refused(one) for one in ended]
        if all(one.status for one in ended):
            return worst([one for one in found if one])
        again = done(argv, folder)
        last = judged(again, bench.difference(self.subject, folder))
        if last[0] is Verdict.CLEAR:
            last = Verdict.LOST, last[1]
        return worst([last, *(one for one in found if one)])

    def _beside(self, bench: Bench, argv: list[object]) -> list[object]:
        first, second = (bench.cases[name].name for name in ("first", "second"))
        return {
            "the same": argv,
            "show": ["show", first],
            "collect": ["step", "collect", first, second, "--tables", "pooled"],
        }[self.beside]


def planned(rng: random.Random) -> list[Together]:
    found = []
    for number in range(COUNT):
        beside = BESIDE[number % len(BESIDE)]
        subject = rng.choice(SUBJECTS) if beside == "the same" else "first"
        found.append(Together(subject, beside, 1.2 * rng.random()))
    return found
