"""From a scale's config to its runs: every task × method × seed, and which run needs which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mat.errors import InputError
from mat.experiments.config.plugins import Plugin
from mat.experiments.config.scale import ScaleConfig, own_seeds
from mat.experiments.config.spec import Spec, Start
from mat.settings.strict import read


@dataclass(frozen=True)
class Run:
    """A specification with the labels that its config gives it; ``follows``: the run whose numbers of active modules
    its method repeats, ``starts_from``: the run whose weights it starts from; ``tags`` of its task."""

    scale: str
    task: str
    method: str
    spec: Spec
    follows: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def starts_from(self) -> str | None:
        return None if self.spec.start is None else self.spec.start.run

    @property
    def labels(self) -> dict[str, str]:
        return {"scale": self.scale, "task": self.task, "method": self.method}


def expand(config: ScaleConfig) -> list[Run]:
    """Every task × method × seed of a scale. Raises InputError naming the place.

    A method with ``match: LABEL``, or with ``match_compute: LABEL`` in its recipe, follows the run of that label with
    the same task and seed. A task with
    ``start: {task: LABEL, method: LABEL}`` begins with the weights at the end of that run of the same seed.
    """
    with config.named:
        methods = {
            label: config.plugin("method", block.settings, f"methods.{label}")
            for label, block in config.methods.items()
            if block.tuned is None
        }
        runs: list[Run] = []
        for task in _in_order(config):
            runs += _of_task(config, task, methods, runs)
        names = Counter(run.spec.name for run in runs)
        for run in runs:
            if names[run.spec.name] > 1:
                raise InputError(f"tasks.{run.task} with methods.{run.method} repeats another entry of the config")
        return runs


def _of_task(config: ScaleConfig, task: str, methods: Mapping[str, Plugin], runs: Iterable[Run]) -> list[Run]:
    """The runs of a task label; ``runs``: those of the labels before it."""
    block, trained, blocks = config.tasks[task], config.of_task(task), config.methods_of(task)
    methods = {
        label: methods.get(label) or config.plugin("method", own.settings, f"methods.{label}, as tuned for {task}")
        for label, own in blocks.items()
    }
    changed = {
        label: trained.changed(config, own, f"tasks.{task} with methods.{label}") for label, own in blocks.items()
    }
    found = []
    for seed in config.seeds_of_task(task):
        start = _start(config, task, seed, runs)
        made: dict[str, Run] = {}
        wanted = {
            label: changed[label].spec(methods[label], start=start, seed=seed, threads=config.threads)
            for label, own in blocks.items()
            if own_seeds(own, [seed])
        }
        for label in _ordered({label: spec.follows for label, spec in wanted.items()}):
            spec, follows = wanted[label], None
            if spec.follows is not None:
                follows = made[spec.follows].spec.name
                spec = spec.following(follows)
            made[label] = Run(config.scale, task, label, spec, follows, tuple(block.tags))
        found += made.values()
    return found


def _in_order(config: ScaleConfig) -> list[str]:
    """Task labels, each after the one it starts from. Raises InputError for an unknown one or a circle."""
    done: list[str] = []

    def visit(task: str, path: tuple[str, ...]) -> None:
        if task in done:
            return
        if task in path:
            raise InputError(f"tasks.{task}.start leads back to itself over {', '.join(path)}; break the circle")
        start = config.tasks[task].start
        if start is not None and start.task is not None:
            if start.task not in config.tasks:
                raise InputError(f"tasks.{task}.start: expected one of {', '.join(config.tasks)}, got {start.task!r}")
            visit(start.task, (*path, task))
        done.append(task)

    for task in config.tasks:
        visit(task, ())
    return done


def _start(config: ScaleConfig, task: str, seed: int, runs: Iterable[Run]) -> Start | None:
    """Where a task's weights come from: the run of this seed, or the hub's checkpoint."""
    start, place = config.tasks[task].start, f"tasks.{task}.start"
    if start is None:
        return None
    if start.task is None:
        return read(Start, start.given(), place)
    found = {run.method: run.spec for run in runs if run.task == start.task and run.spec.seed == seed}
    if start.method not in found:
        raise InputError(
            f"{place}: expected a method that {start.task} is trained by with seed {seed}, one of "
            f"{', '.join(found) or 'none'}, got {start.method!r}"
        )
    earlier = found[start.method]
    if earlier.model.name != "bert":
        raise InputError(
            f"{place}: only runs of the model bert can be started from, {start.task} trains {earlier.model.name}"
        )
    return Start(run=earlier.name)


def _ordered(follows: Mapping[str, str | None]) -> list[str]:
    """Labels, each with the one it is matched to, if to any, which comes before it and may not itself be matched."""
    free = [label for label, other in follows.items() if other is None]
    for label, other in follows.items():
        if label not in free and other not in free:
            raise InputError(
                f"methods.{label}: what a run follows (match, match_compute) must be one of "
                f"{', '.join(free) or 'none'}, got {other!r}"
            )
    return free + [label for label in follows if label not in free]
