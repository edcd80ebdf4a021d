"""Measurements beside the runs: a job is one family of a config's block and one seed, trained by vanilla.

A family is a task label of the config, with its model and recipe or with others; what is measured on the run is said
by the block's settings.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch

from mat.errors import InputError
from mat.experiments.config.scale import check_seeds, own_seeds, trained
from mat.records.strict import read
from mat.experiments.config.spec import Spec
from mat.experiments.training import code_version, resume
from mat.records.files import write_parquet


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


def jobs_of(
    kind: type[Kind],
    settings: type,
    config: Mapping[str, Any],
    own: Sequence[str] = ("model", "recipe"),
) -> list[Kind]:
    """Every family × seed of the config's block ``kind.what``; none without one. Raises InputError.

    A family is ``{of: TASK LABEL}``: that block's task, model, recipe and probe; the keys ``own`` may be given instead,
    ``task`` as settings that replace single ones of the block's task. ``seeds`` of the block: of the config's
    those that it is measured with (default: all).
    """
    what = kind.what
    block = config.get(what)
    if block is None:
        return []
    if not isinstance(block, Mapping):
        raise InputError(f"{what} must be a mapping with families and settings, got {block!r}")
    families = block.get("families")
    if not isinstance(families, Mapping) or not families:
        raise InputError(f"{what} needs a non-empty mapping of families, got {families!r}")
    check_seeds(f"{what}: seeds", block.get("seeds", []))
    chosen = read(settings, {key: v for key, v in block.items() if key not in ("families", "seeds")}, what)
    found = []
    for family, entry in families.items():
        where = f"{what}.families.{family}"
        base = _base(where, family, entry, config["tasks"], ("of", *own))
        for seed in own_seeds(block, config["seeds"]):
            given = {**base, "method": {"name": "vanilla"}, "seed": seed, "threads": config.get("threads", 1)}
            try:
                spec = Spec.of(given)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            found.append(kind(str(config["scale"]), str(family), entry["of"], spec, chosen))
    return found


def _base(
    where: str, family: Any, entry: Any, tasks: Mapping[str, Any], known: Sequence[str]
) -> dict[str, Any]:
    """What the family's specifications share."""
    if not re.fullmatch(r"[\w-]+", str(family)):
        raise InputError(f"{where}: a family's name is made of letters, digits, _ and -; choose another")
    if not isinstance(entry, Mapping) or "of" not in entry or set(entry) - set(known):
        raise InputError(f"{where} must be a mapping with 'of' and only {', '.join(known)}, got {entry!r}")
    if entry["of"] not in tasks:
        raise InputError(f"{where}: 'of' must name one of the tasks {', '.join(tasks)}, got {entry['of']!r}")
    if tasks[entry["of"]].get("start") is not None:
        raise InputError(f"{where}: {entry['of']} starts from another run; choose a task that does not")
    base = {**trained(entry["of"], tasks), **{k: v for k, v in entry.items() if k not in ("of", "task")}}
    if "task" in entry:
        if not isinstance(entry["task"], Mapping) or "name" in entry["task"]:
            raise InputError(
                f"{where}: task must be settings of the task of {entry['of']}, got {entry['task']!r}"
            )
        base["task"] = {**base["task"], **entry["task"]}
    if isinstance(base.get("recipe", {}), Mapping):  # no curve is kept: only the two ends are evaluated
        base["recipe"] = {**base.get("recipe", {}), "evaluate_every": 10**9}
    return base


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
