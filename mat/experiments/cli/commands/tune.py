"""``mat tune``: settings of methods, searched on seeds of their own before any run is judged."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mat.errors import InputError
from mat.experiments.cli import handover, options

if TYPE_CHECKING:
    from mat.experiments.config.runs import Run

WHAT = "the configurations of each method that are tried first, its default among them; all methods get as many"


@click.command(short_help="Choose each method's settings, before any judged run, by successive halving.")
@click.option("--config", required=True, metavar="NAME|FILE", help="a scale of workflows/config, or a config file")
@click.option("--budget", required=True, type=click.IntRange(2, 10_000), help=WHAT)
@click.option(
    "--only",
    default="",
    metavar="TERMS",
    help="labels or tags of tasks, labels of methods, as in glue,mat; vanilla too",
)
@options.path("--space", "what is searched, and on which seeds", "YAML", default=Path("workflows/tuning.yaml"))
@options.path(
    "--out", "what is chosen (default: tuned/SCALE.yaml beside the config); its log beside it", "YAML", default=None
)
@options.path("--runs", "the runs (default: results/SCALE/tuning/runs)", default=None)
@click.option("--cores", type=click.IntRange(1, 1024), default=1, show_default=True, help="runs at once")
@options.machine
def tune(
    config: str,
    budget: int,
    only: str,
    space: Path,
    out: Path | None,
    runs: Path | None,
    cores: int,
    device: str,
    save_every: float,
    data: Path | None,
    cache: Path,
) -> None:
    """Choose the settings that methods train with at their best: labels with `tuned: METHOD` take them.

    Every method of a task gets the same number of configurations and the same compute, probes included, on seeds that
    no judged run has; the loss on the validation split decides. The same command goes on where an earlier one stopped.
    """
    from mat.experiments.config.scale import read_scale
    from mat.experiments.config.selection import terms_of
    from mat.experiments.config.tuned import path_of, read_tuned
    from mat.experiments.training import prepare
    from mat.experiments.tuning.search import Search
    from mat.experiments.tuning.space import read_tuning
    from mat.experiments.tuning.written import write
    from mat.records.tuning import read_log

    machine, scale = options.machine_of(data, cache, device), read_scale(config)
    out = out or path_of(scale.path, scale.scale)
    before = read_tuned(out, scale.seeds)
    if (log := out.with_suffix(".csv")).exists():
        read_log(log)  # it is added to at the end: what cannot be read is said before anything is trained
    tuning = read_tuning(space)
    search = Search.of(scale, tuning, budget, terms_of(only), before)
    folder = runs or Path("results", scale.scale, "tuning", "runs")
    said = ", ".join(f"{rung.count} at {rung.share:.3g}" for rung in search.rungs)
    options.say(
        f"{len(search.pairs)} methods of tasks, configurations and share of a training's compute: {said}; each spends "
        f"up to {search.trainings:.3g} trainings of vanilla"
    )
    if absent := [label for label in tuning.methods if label not in scale.methods]:
        options.say(f"not tuned, because the scale has no such methods: {', '.join(absent)}")
    for task in search.trained:
        spec = search.runs((task, "vanilla"), 0, search.rungs[0])[-1].spec
        prepare.fetch(spec, machine)
        prepare.check(spec, machine)
    how = ["--device", device, "--save-every", str(save_every), "--cache", str(cache)]
    trainer = Trainer(folder, cores, (*how, *(["--data", str(data)] if data else [])))
    asked = ["--config", config, "--budget", str(budget), *(["--only", only] if only else [])]
    with _served():
        chosen, rows = search.carry_out(trainer.train, folder, shlex.join(["mat", "tune", *asked]))
    write(out, before, chosen, rows)
    for (task, method), one in chosen.items():
        options.say(f"{task}, {method}: validation loss {one.loss:.4g} by {json.dumps(one.settings)}")
    options.say(f"written to {out}")


@dataclass(frozen=True)
class Trainer:
    """Trains runs by `mat train` in processes of their own, ``cores`` at once; what each says is in ``logs`` beside the
    folder of runs."""

    folder: Path
    cores: int
    how: tuple[str, ...]
    started: list[subprocess.Popen] = field(default_factory=list)

    def train(self, runs: Iterable[Run]) -> None:
        """Train each after those that it needs, and leave it where it is finished. An interrupt is passed on once, so
        that every run saves its state. Raises InputError with what the first run says that fails."""
        with ThreadPoolExecutor(self.cores) as pool:
            try:
                for wave in waves(runs):
                    list(pool.map(self._one, *zip(*wave, strict=True)))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for one in self.started:
                    if one.poll() is None:
                        one.send_signal(signal.SIGINT)
                raise

    def _one(self, run: Run, keep: bool) -> None:
        name, log = run.spec.name, self.folder.parent / "logs" / f"{run.spec.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        given = ["--spec", run.spec.json, "--labels", json.dumps(run.labels), "--out", str(self.folder / name)]
        command = [sys.executable, "-m", "mat", "train", *given, *self.how, *(["--checkpoint"] if keep else [])]
        threads = dict.fromkeys(handover.THREADS, str(run.spec.threads))
        with log.open("w", encoding="utf-8") as file:
            started = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, **threads}, start_new_session=True
            )
            self.started.append(started)
            status = started.wait()
        if status:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise InputError(f"{run.task} by {run.method}: {(said or ['nothing was said'])[-1]} ({log})")


def waves(runs: Iterable[Run]) -> Iterator[list[tuple[Run, bool]]]:
    """Runs that can be trained beside each other, after those that they need, and whether each keeps its weights."""
    left = {run.spec.name: run for run in runs}
    keep = {run.starts_from for run in left.values()}
    while left:
        ready = [run for run in left.values() if not {run.follows, run.starts_from} & {*left}]
        yield [(run, run.spec.name in keep) for run in ready]
        for run in ready:
            del left[run.spec.name]


@contextmanager
def _served() -> Iterator[None]:
    """With a process that has everything imported, which forks for each run."""
    server = handover.start(())
    try:
        yield
    finally:
        os.environ.pop(handover.VARIABLE, None)
        server.stdin.close()
        server.wait()
