"""A burst from its first second to its last: test, time, train until the time is up, export what is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mat.experiments.burst import beside, plan
from mat.experiments.burst.deadline import until
from mat.experiments.config.runs import Run
from mat.experiments.training.machine import Machine, versions
from mat.experiments.training.resume import Report
from mat.experiments.training.run import train
from mat.records import archive
from mat.records.files import missing, write_json
from mat.records.run import FILES

PARTS = ("tests", "benchmark", "train")
SAVE_EVERY = 120.0  # seconds: a state of BERT-base is 1.3 GB
PLAN, SUMMARY, TESTED, TIMED, NUMBERS = "plan.json", "burst.json", "tests.txt", "benchmark.txt", "benchmark.json"
ARCHIVE = "runs.zip"


@dataclass(frozen=True)
class Burst:
    """``seconds``: all that there are; ``out``: a few small files; ``kept``: runs and their states, for the next burst
    to go on with; ``root``: of the code; ``carried``: packages that came along with it."""

    seconds: float
    out: Path
    kept: Path
    root: Path
    carried: Path
    machine: Machine
    say: Callable[[str], None]
    report: Report
    begun: float = field(default_factory=time.monotonic)

    @property
    def end(self) -> float:
        """When training stops, by ``time.monotonic()``."""
        return self.begun + self.seconds - plan.margin(self.seconds)

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.end - time.monotonic()

    def carry_out(self, runs: list[Run], parts: Collection[str] = PARTS) -> dict[str, Any]:
        """Do these ``parts`` with the ``runs`` in their order; returns what is written as ``burst.json``.

        Whatever ends it, finished runs are exported and the summary is written.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        task, machine = runs[0].spec.task, self.machine
        sizes = task.module.load(
            task.settings, machine.data, machine.cache
        ).sizes  # what is wrong with it shows at once
        device = machine.hardware()["device"]
        about: dict[str, Any] = {
            "seconds": self.seconds,
            "hardware": machine.hardware(),
            "versions": versions(),
            "sizes": sizes,
            "gflops": {"assumed": plan.assumed(device)},
            "ended": {},
        }
        planned = self.plan(runs, about["gflops"]["assumed"], "assumed", sizes)
        try:
            if "tests" in parts:
                about["ended"]["tests"] = self.beside(beside.tests, TESTED, plan.TESTS)
            if "benchmark" in parts:
                made = self.out / NUMBERS
                how = (machine.device, made)
                about["ended"]["benchmark"] = self.beside(beside.benchmark, TIMED, plan.BENCHMARK, *how)
                for one in beside.of_benchmark(made)[:1]:
                    about["gflops"]["measured"] = plan.measured(one["dense_macs"], one["dense_seconds"])
                    planned = self.plan(runs, about["gflops"]["measured"], "measured", sizes)
            if "train" in parts:
                self.train(planned)
        finally:
            finished = [self.kept / run.spec.name for run in runs if not missing(self.kept / run.spec.name, FILES)]
            if finished:
                archive.export(finished, self.out / ARCHIVE)
            about |= {"finished": [path.name for path in finished], "took": time.monotonic() - self.begun}
            write_json(about, self.out / SUMMARY, sort_keys=True)
            self.say(f"{len(finished)} of {len(runs)} runs are finished; {self.out} says what was done")
        return about

    def beside(self, what: Callable[..., str], log: str, share: float, *more: Any) -> str:
        """Do a part in a process of its own, within its share of the time."""
        how = what(self.root, self.carried, self.out / log, min(share * self.seconds, max(self.left, 1)), *more)
        self.say(f"{what.__name__}: {how}")
        return how

    def plan(self, runs: list[Run], rate: float, how: str, sizes: Mapping[str, int]) -> list[plan.Part]:
        """Say and keep what the time would be enough for."""
        planned = plan.planned(runs, rate, sizes)
        rows = [one.row() for one in planned]
        write_json({"gflops": rate, "how": how, "left": self.left, "runs": rows}, self.out / PLAN)
        enough = sum(row["ends"] <= self.left for row in rows)
        self.say(f"at {rate:.4g} GFLOP/s, {how}, {self.left:.0f} s are enough for {enough} of {len(rows)} runs")
        return planned

    def train(self, planned: Iterable[plan.Part]) -> None:
        """Train the runs one after the other; the one that the time is over in saves its state."""
        for one in planned:
            if self.left <= 0:
                return
            self.say(f"{one.run.spec.name}: {one.seconds:.0f} s as planned, {self.left:.0f} s left")
            with until(self.end):
                train(
                    one.run.spec,
                    self.kept / one.run.spec.name,
                    self.machine,
                    labels=one.run.labels,
                    report=self.report,
                    save_every=SAVE_EVERY,
                )
