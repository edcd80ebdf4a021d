"""A job, one measurement beside the runs, and its session: a run that is trained from checkpoint to checkpoint and
measured at each, resumable anywhere."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch

from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.experiments.training import resume
from mat.experiments.training.code_version import code_hash, run_modules
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import HERE, Machine, versions
from mat.experiments.training.resume import SAVE_EVERY, Report, silent
from mat.records.code import differences
from mat.records.files import read_whole, remove, write_record
from mat.records.seal import beside, check_seal, write_seal


@dataclass(frozen=True)
class Job:
    """``family``: a model in training that the ``study`` asks about; ``task``: the label of the block whose data it
    reads; ``spec``: the run that is trained; ``settings``: what is measured on it."""

    study: str
    scale: str
    family: str
    task: str
    spec: Spec
    settings: Any

    @cached_property
    def name(self) -> str:
        """Family, seed and the hash of specification and settings."""
        return f"{self.family}-s{self.spec.seed}-{self._digest(self.spec.identity)}"

    @property
    def setup(self) -> str:
        """The hash of specification and settings without the seed: jobs that share it may be pooled."""
        return self._digest({k: v for k, v in self.spec.identity.items() if k != "seed"})

    def _digest(self, spec: dict[str, Any]) -> str:
        text = json.dumps([spec, asdict(self.settings)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def labels(self) -> dict[str, str]:
        return {"scale": self.scale, "family": self.family, "task": self.task}

    @property
    def json(self) -> str:
        """The job as the command line takes it."""
        return json.dumps(
            {"labels": self.labels, "spec": json.loads(self.spec.json), "settings": asdict(self.settings)}
        )


class Session(ABC):
    """A run in training and what has been measured on it. ``rows``: what the rows of its table are, in words;
    ``kept``: names of the attributes that grow, and are saved."""

    rows: ClassVar[str]
    kept: ClassVar[tuple[str, ...]]

    def __init__(self, job: Job, out: Path, machine: Machine) -> None:
        self.job, self.settings, self.machine = job, job.settings, machine
        self.loop = Loop(job.spec, out, machine)
        self.checkpoints = checkpoints(job.settings.shares, self.loop.steps)
        self.stands_on = self.loop.stands_on

    def advance(self, report: Report) -> None:
        """One step of the run."""
        self.loop.advance(report)

    @abstractmethod
    def measured(self, step: int, share: float) -> Iterator[str]:
        """Measure what has not been at a checkpoint, part by part, and yield the name of each."""

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """Everything measured."""

    def work(self, report: Report) -> Iterator[None]:
        """Train to each checkpoint in turn, and measure there."""
        progress = self.loop.progress
        for step, share in self.checkpoints:
            while progress.step < step and not progress.diverged:
                self.advance(lambda line, done: report(line, 0.99 * done))
                yield
            for part in self.measured(step, share):
                report(f"step {step}/{self.loop.steps}  {part}", 0.99 * share)
                yield

    def state(self) -> dict[str, Any]:
        return {"loop": self.loop.state(), **{name: getattr(self, name) for name in self.kept}}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.loop.restore(state["loop"])
        for name in self.kept:
            setattr(self, name, state[name])

    def about(self) -> dict[str, Any]:
        """What a table says of the job in every row: its labels and what it stands on, code apart."""
        job, loop, machine = self.job, self.loop, self.machine.hardware()
        return {
            **job.labels,
            "model": job.spec.model.name,
            "seed": job.spec.seed,
            "job": job.name,
            "setup": job.setup,
            "steps": loop.steps,
            "diverged": loop.progress.diverged,
            "data_hash": loop.task.data_hash,
            **{f"version_{name}": found for name, found in versions().items()},
            "threads": job.spec.threads,
            "device": machine["device"],
            "cpu": machine["cpu"],
        }

    @classmethod
    def modules(cls, job: Job) -> dict[str, str]:
        """Hash by module of what a job's numbers stand on: this session, its run's task and model."""
        return run_modules(job.spec, cls.__module__)

    @classmethod
    def measure(
        cls, job: Job, out: Path, machine: Machine = HERE, report: Report = silent, save_every: float = SAVE_EVERY
    ) -> pd.DataFrame:
        """Train a job's run, measure it, and write the table ``out``; returns it.

        Resumes from the state of an interrupted process; a finished table is returned as it is. Raises InputError
        before any training for input that cannot be used.
        """
        with resume.alone(out):
            return cls._measure(job, out, machine, report, save_every)

    @classmethod
    def _measure(cls, job: Job, out: Path, machine: Machine, report: Report, save_every: float) -> pd.DataFrame:
        code = cls.modules(job)
        states = resume.state_path(out, code_hash(code))
        table = finished(out, job, code)
        if table is not None:
            remove(states)  # of a process that was killed before it did
            report("already finished; remove the file to measure it again", 1.0)
            return table
        torch.set_num_threads(job.spec.threads)
        session = cls(job, out, machine)
        identity = {"run": job.name, "code_hash": code_hash(code)}
        resume.complete(session, states, identity, report, save_every)
        session.loop.prefetch.close()
        table = session.table().assign(**session.about(), code_hash=identity["code_hash"])
        # once: it is longer than all else in a row
        table["code"] = [json.dumps(code, sort_keys=True), *[""] * (len(table) - 1)]
        write_record(table, out)
        write_seal(beside(out), [out.name])
        remove(states)
        report(f"{len(table)} {cls.rows} written to {out}", 1.0)
        return table


def finished(out: Path, job: Job, code: Mapping[str, str]) -> pd.DataFrame | None:
    """The table at ``out`` if it is this job's by this code; InputError if it is another's, or damaged. One without
    its seal was not finished."""
    if not (out.exists() and beside(out).is_file()):
        return None
    check_seal(beside(out), [out.name], "move both away to measure it again")
    try:
        found = read_whole(out)
        name, theirs = found["job"].iloc[0], json.loads(found["code"].iloc[0])
    except (InputError, ValueError, KeyError, IndexError):
        raise InputError(f"{out} is no table of this measurement; move it away, or choose another file") from None
    changed = differences(theirs, code)
    if name != job.name or changed:
        other = f" by other code ({', '.join(changed)} changed)" if changed else ""
        raise InputError(f"{out} holds {name}{other}, this is {job.name}; move it away, or choose another file")
    return found


def checkpoints(shares: tuple[float, ...], steps: int) -> list[tuple[int, float]]:
    """(step, share) of every checkpoint. Raises InputError when two shares fall on one step."""
    found = [(round(share * steps), share) for share in shares]
    if len({step for step, _ in found}) < len(found):
        raise InputError(f"shares {list(shares)} of {steps} steps fall on one step; leave one of them out")
    return found
