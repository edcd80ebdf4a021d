"""Measurements beside the runs: a job is one family of a config's block and one seed, trained by vanilla.

A family is a task label of the config, with its model and recipe or with others; what is measured on the run is said
by the block's settings.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch

from mat.errors import InputError
from mat.experiments.config.families import families
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.config.spec import Spec
from mat.experiments.training import code_version, resume
from mat.records.files import write_parquet
from mat.records.strict import read


@dataclass(frozen=True)
class Job:
    """One family and seed: the run that is trained, and what is measured on it. ``what``: the config's block."""

    what: ClassVar[str]
    scale: str
    family: str
    task: str  # the label of the task block whose data it reads
    spec: Spec
    settings: Any

    @cached_property
    def name(self) -> str:
        """Family, seed and the hash of specification and settings."""
        return f"{self.family}-s{self.spec.seed}-{self._digest(json.loads(self.spec.json))}"

    @property
    def setup(self) -> str:
        """The hash of specification and settings without the seed: jobs that share it may be pooled."""
        return self._digest({k: v for k, v in json.loads(self.spec.json).items() if k != "seed"})

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


Kind = TypeVar("Kind", bound=Job)


def job_of(kind: type[Kind], settings: type, given: Mapping[str, Any]) -> Kind:
    """A job from its JSON content. Raises InputError."""
    if not isinstance(given, Mapping) or set(given) != {"labels", "spec", "settings"}:
        raise InputError(f"a job is a mapping with labels, spec and settings, got {str(given)[:80]}")
    labels = given["labels"]
    if not isinstance(labels, Mapping) or set(labels) != {"scale", "family", "task"}:
        raise InputError(f"a job's labels are scale, family and task, got {labels!r}")
    return kind(**labels, spec=Spec.of(given["spec"]), settings=read(settings, given["settings"], kind.what))


def jobs_of(kind: type[Kind], settings: type, config: ScaleConfig) -> list[Kind]:
    """Every family × seed of the config's block ``kind.what``; none without one. Raises InputError."""
    block = getattr(config, kind.what)
    if block is None:
        return []
    with config.named:
        chosen = read(settings, block.model_extra, kind.what)
    return [kind(config.scale, *found, chosen) for found in families(config, kind.what)]


def is_number(value: Any, *kinds: type) -> bool:
    """Whether ``value`` is of one of ``kinds``, and no truth value."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_increasing(name: str, values: tuple[Any, ...], fits: Callable[[Any], bool], wanted: str) -> None:
    """Raise InputError unless there is a value, all of them fit and each is larger than the one before."""
    if not values or not all(map(fits, values)) or list(values) != sorted(set(values)):
        raise InputError(f"{name} must be {wanted}, increasing and at least one, got {list(values)}")


def checkpoints(shares: tuple[float, ...], steps: int) -> list[tuple[int, float]]:
    """(step, share) of every checkpoint. Raises InputError when two shares fall on one step."""
    found = [(round(share * steps), share) for share in shares]
    if len({step for step, _ in found}) < len(found):
        raise InputError(f"shares {list(shares)} of {steps} steps fall on one step; leave one of them out")
    return found


def finished(out: Path, job: Job, code: str) -> pd.DataFrame | None:
    """The table at ``out`` if it is this job's by the code of this hash; InputError if it is another's."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if not out.exists():
        return None
    try:
        found = pd.read_parquet(out)
        identity = (found["job"].iloc[0], found["code_hash"].iloc[0])
    except (OSError, ValueError, KeyError, IndexError):
        raise InputError(
            f"{out} is no table of this measurement; move it away, or choose another file"
        ) from None
    if identity != (job.name, code):
        raise InputError(
            f"{out} holds {identity[0]} by code {str(identity[1])[:12]}, this is {job.name} by {code[:12]}; move it "
            "away, or choose another file"
        )
    return found


def measure(
    job: Job,
    out: Path,
    begin: Callable[[], Any],
    code: Sequence[str],
    what: str,
    report: Callable[[str, float], None],
    save_every: float,
) -> pd.DataFrame:
    """Train a job's run from checkpoint to checkpoint, measure at each, and write the table ``out``; returns it.

    ``begin`` makes the session: ``loop``, ``checkpoints``, ``identity``, ``state()``, ``restore(state)``, ``table()``,
    and ``measured(step, share)``, which measures what has not been at a checkpoint, part by part, and yields the name
    of each. ``code``: as ``run.code_hash`` takes it. ``what``: of the table's rows. Resumes from the state of an
    interrupted process; a finished table is returned as it is.
    """
    table = finished(out, job, code_version.code_hash(*code))
    if table is not None:
        report("already finished; remove the file to measure it again", 1.0)
        return table
    torch.set_num_threads(job.spec.threads)
    session = begin()
    state_file = resume.state_path(out, *code)
    session.restore(resume.load_state(state_file, session.identity))
    saved = time.monotonic()

    def save_when_due() -> None:
        nonlocal saved
        if time.monotonic() - saved > save_every:
            resume.save_state(state_file, session.state())
            saved = time.monotonic()

    progress = session.loop.progress
    for step, share in session.checkpoints:
        while progress.step < step and not progress.diverged:
            session.loop.advance(lambda line, done: report(line, 0.99 * done))
            save_when_due()
        for part in session.measured(step, share):
            report(f"step {step}/{session.loop.steps}  {part}", 0.99 * share)
            save_when_due()
    session.loop.feed.close()
    table = session.table()
    write_parquet(table, out)
    state_file.unlink(missing_ok=True)
    report(f"{len(table)} {what} written to {out}", 1.0)
    return table
