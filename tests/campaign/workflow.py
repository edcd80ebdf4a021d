"""The workflow, killed at a random moment and started again."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from snakemake import cli

from mat.experiments.training.resume import PLACE
from mat.records.files import write_text
from tests.campaign.bench import REPOSITORY, SMALL, Bench, content, is_result
from tests.campaign.commands import Command, computed
from tests.campaign.outcomes import Ended, Judged, Verdict

KIND, COUNT, SHARE = "kills of the workflow", 24, 0.4
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
METHODS = {"vanilla": {"name": "vanilla"}, "mat": {"name": "mat"}, "random": {"name": "random", "match": "mat"}}
TABLE = "results/mini/tables/results.csv"
PATIENCE = 900.0  # seconds
HURDLES = ("--unlock", "--rerun-incomplete")  # what Snakemake asks for after a kill, by name


@dataclass(frozen=True)
class WorkflowKill:
    """``moments``: of each try but the last, the share of a whole one's time at which it is ended by the ``signal``;
    ``twice``: a second workflow is started in the same folder before."""

    moments: tuple[float, ...]
    signal: signal.Signals
    twice: bool
    kind: str = KIND

    @property
    def what(self) -> str:
        beside = ", a second one beside it" if self.twice else ""
        return f"by {self.signal.name} at {', '.join(f'{one:.3f}' for one in self.moments)}{beside}"

    def carry_out(self, bench: Bench) -> Judged:
        place = folder(bench)
        whole, expected = undisturbed(bench)
        for moment in self.moments:
            command = start(place)
            if self.twice:
                time.sleep(0.2 * moment * whole)
                second = start(place).wait(PATIENCE)
                if "Traceback" in second.said:
                    return Verdict.TRACEBACK, second.last
            time.sleep(moment * whole * (0.8 if self.twice else 1))
            command.send(self.signal)
            ended = command.wait(PATIENCE)
            if "Traceback" in ended.said:
                return Verdict.TRACEBACK, ended.last
            time.sleep(0.5)  # what it had started notices that it is gone
        ended, taken = again(place)
        if ended.status != 0:
            kind = Verdict.TRACEBACK if "Traceback" in ended.said else Verdict.LOST
            return kind, f"after {', '.join(taken) or 'nothing'}: {_why(ended)}"
        found = results(place)
        other = [name for name in {*expected, *found} if found.get(name) != expected.get(name)]
        if other:
            return Verdict.SILENT, f"other {', '.join(sorted(other))[:200]}"
        left = states(place)
        return (Verdict.SILENT, f"left behind: {', '.join(left)}") if left else (Verdict.RECOVERED, ", ".join(taken))


def folder(bench: Bench) -> Path:
    """A place where the workflow can run."""
    place = bench.place()
    (place / "workflows").symlink_to(REPOSITORY / "workflows")
    task = {key: SMALL[key] for key in ("task", "model", "recipe", "probe")}
    config = {"scale": "mini", "seeds": [0], "tasks": {"digits": task}, "methods": METHODS}
    (place / "mini.yaml").write_text(yaml.safe_dump(config))
    return place


def start(place: Path, *options: str) -> Command:
    """``snakemake``, as a user gives it."""
    argv = [TABLE, "--cores", "2", "--snakefile", REPOSITORY / "Snakefile", "--directory", place, *options]

    def run(given: list[str]) -> None:
        os.environ |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        sys.argv = ["snakemake", *given, "--config", f"scale={place / 'mini.yaml'}"]
        cli.main()

    return Command(argv, place, run=run)


def again(place: Path) -> tuple[Ended, list[str]]:
    """The same command until it ends well, with what Snakemake asks for; and what that was."""
    taken: list[str] = []
    while True:
        ended = start(place, *(one for one in taken if one != "--unlock")).wait(PATIENCE)
        asked = [option for option in HURDLES if option in ended.said and option not in taken]
        if ended.status == 0 or not asked:
            return ended, taken
        if asked[0] == "--unlock":
            start(place, "--unlock").wait(PATIENCE)
        taken.append(asked[0])


def _why(ended: Ended) -> str:
    lines = [line for line in ended.said.splitlines() if re.search("rror|xception", line)]
    return (lines or [ended.last])[0]


def undisturbed(bench: Bench) -> tuple[float, dict[str, str]]:
    """Seconds and results of a workflow that nothing disturbs; computed once a campaign."""
    kept = bench.root / "workflow.yaml"
    if not kept.exists():
        place, began = folder(bench), time.monotonic()
        ended = start(place).wait(PATIENCE)
        if ended.status != 0:
            raise RuntimeError(ended.said[-2000:])
        write_text(yaml.safe_dump([time.monotonic() - began, results(place)]), kept)
    whole, expected = yaml.safe_load(kept.read_text())
    return whole, expected


def results(place: Path) -> dict[str, str]:
    """What the runs of a workflow give, times apart, by run, file and part; states beside them are no results."""
    runs = sorted(run for run in _runs(place).iterdir() if run.name != PLACE)
    return {
        f"{run.name}/{part}": value
        for run in runs
        for part, value in computed(partial(content, run)).items()
        if is_result(part)
    }


def states(place: Path) -> list[str]:
    """Saved states of runs: what goes on from one removes it when the run is finished."""
    return sorted(path.name for path in (_runs(place) / PLACE).glob("*") if path.is_dir())


def _runs(place: Path) -> Path:
    return place / "results/mini/runs"


def planned(rng: random.Random) -> list[WorkflowKill]:
    return [
        WorkflowKill(tuple(rng.random() for _ in range(rng.choice((1, 1, 2)))), rng.choice(SIGNALS), i % 4 == 3)
        for i in range(COUNT)
    ]
