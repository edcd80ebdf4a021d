"""The search of a scale's settings: its runs, rung by rung, and what they found. Trains nothing by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mat.errors import InputError
from mat.experiments.config.blocks import MethodBlock
from mat.experiments.config.runs import Run, expand
from mat.experiments.config.scale import ScaleConfig, Trained
from mat.experiments.config.spec import Spec
from mat.experiments.config.tuned import Chosen, How, check_alike, check_apart, merged
from mat.experiments.training.cost import Shape, run_cost
from mat.experiments.tuning.halving import Left, Rung, halve, rungs
from mat.experiments.tuning.space import Configuration, Tuning, drawn
from mat.records.columns import DIVERGED
from mat.records.costs import total_cpu_seconds, total_macs
from mat.records.run import read_run
from mat.records.tuning import REFERENCE, START
from mat.settings.strict import validate

TRIES = 100  # draws for each configuration that is wanted
FULL = Rung(1, 1.0)
Pair = tuple[str, str]  # labels of a task and a method
Row = dict[str, Any]
Before = Mapping[str, Mapping[str, Chosen]]  # by task and method


@dataclass(frozen=True)
class Search:
    """What is searched: ``pairs`` of task and method, ``budget`` configurations of each in the first rung.

    Every run of a rung spends what vanilla's default spends in that rung's share of the steps, probes included. Methods
    that train everything or must know their number of steps make as many as that surely pays for, and spend no more.
    """

    config: ScaleConfig
    tuning: Tuning
    budget: int
    pairs: tuple[Pair, ...]

    @classmethod
    def of(
        cls, config: ScaleConfig, tuning: Tuning, budget: int, only: Sequence[str] = (), before: Before | None = None
    ) -> Search:
        """Of the tasks and methods that the terms name, and of vanilla in any case: of all that have a space without
        terms; ``before``: what was tuned before and stays. Raises InputError, naming the place, for whatever would show
        only once something has been trained."""
        with config.named:
            check_apart(tuning.seeds, config.seeds, "the tuning's seeds")
            found = cls(config, tuning, budget, tuple(_pairs(config, tuning, only)))
            for task in found.trained:
                others = {name: one.how for name, one in (before or {}).get(task, {}).items()}
                kept = {name: how for name, how in others.items() if (task, name) not in found.pairs}
                check_alike({**kept, "what is asked for": found.how}, f"tuned settings of {task}")
            for pair in found.pairs:
                for index in range(budget):
                    found._check(pair, index)
            return found

    def _check(self, pair: Pair, index: int) -> None:
        """Refuse a configuration that no run can be made of, or one that goes by steps and spends more than there is,
        because its model or its epochs are larger."""
        self.runs(pair, index, self.rungs[0])
        settings, shape = self.settings(pair, self.configurations[pair][index], FULL), self.trained[pair[0]][1]
        spec, there = self._spec(pair[0], settings), shape.steps * shape.step
        asked = run_cost(spec).training
        if spec.recipe.match_compute is None and asked > there:
            raise InputError(
                f"methods.{pair[1]} for {pair[0]}: expected at most the {there:,} multiply-adds of {REFERENCE}'s "
                f"training, got {asked:,} by {json.dumps(settings)}; leave out what makes more or larger steps"
            )

    @cached_property
    def rungs(self) -> list[Rung]:
        return rungs(self.budget, self.tuning.eta, self.tuning.least)

    @property
    def how(self) -> How:
        """What is the same for all methods."""
        return How(budget=self.budget, rungs=[list(rung) for rung in self.rungs], seeds=self.tuning.seeds)

    @property
    def trainings(self) -> float:
        """What one method of a task spends at most, in trainings of vanilla."""
        return len(self.tuning.seeds) * sum(rung.count * rung.share for rung in self.rungs)

    @cached_property
    def trained(self) -> dict[str, tuple[Trained, Shape]]:
        """By task what is trained, its probe's interval in steps where it is an epoch's, and vanilla's run of it."""
        found = {}
        for task in dict.fromkeys(task for task, _ in self.pairs):
            one, shape = self.config.of_task(task), Shape(self._spec(task, self.config.methods[REFERENCE].written))
            found[task] = replace(one, probe=replace(one.probe, every=one.probe.every or shape.steps_per_epoch)), shape
        return found

    def _spec(self, task: str, settings: Mapping[str, Any]) -> Spec:
        """What a method's block trains. Raises InputError."""
        place = f"methods for {task}"
        block = validate(MethodBlock, settings, place)
        method = self.config.plugin("method", block.settings, place)
        return self.config.of_task(task).changed(self.config, block, place).spec(method, seed=0, threads=1)

    @cached_property
    def configurations(self) -> dict[Pair, list[Configuration]]:
        """Of each task and method ``budget`` configurations, no two of which are one at full compute."""
        found = {}
        for pair in self.pairs:
            different: dict[str, Configuration] = {}
            alone = self.config.methods[pair[1]].settings.get("match") is None  # else the default has none to follow
            stream = drawn(self.tuning.methods[pair[1]], pair[1], self.tuning.seeds[0], default=alone)
            for one, _ in zip(stream, range(TRIES * self.budget), strict=False):
                different.setdefault(self._spec(pair[0], self.settings(pair, one, FULL)).name, one)
                if len(different) == self.budget:
                    break
            if len(different) < self.budget:
                raise InputError(
                    f"methods.{pair[1]}: expected a space of {self.budget} configurations, found {len(different)} in "
                    "it, the default included; widen it, or lower --budget"
                )
            found[pair] = list(different.values())
        return found

    def settings(self, pair: Pair, drawn: Configuration, rung: Rung, reference: str = REFERENCE) -> dict[str, Any]:
        """A method's block with what was drawn, for the compute of a rung, which is that of the label ``reference``.
        Raises InputError naming the place."""
        task, method = pair
        base = {name: value for name, value in self.config.methods[method].written.items() if name != "seeds"}
        (trained, shape), block = self.trained[task], base
        for setting in drawn:
            value = setting.said(base, trained, round(rung.share * shape.steps))
            *inside, name = setting.place
            block = merged(block, {inside[0]: {name: value}} if inside else {name: value})
        place = f"methods.{method} for {task}"
        known = self.config.plugin("method", validate(MethodBlock, block, place).settings, place).settings
        recipe = dict(block.get("recipe", {}))
        if known.dense or known.needs_length:
            recipe["budget"] = rung.share * recipe.get("budget", 1)
            cost = run_cost(self._spec(task, {**block, "recipe": recipe}))
            recipe["budget"] *= cost.training / (cost.training + (cost.probes if known.reads else 0))
        else:
            recipe["match_compute"] = reference
        return {**block, "recipe": recipe}

    def runs(self, pair: Pair, index: int, rung: Rung) -> list[Run]:
        """The runs of a configuration in a rung, after those that they need: of vanilla's default, and what their task
        starts from. Raises InputError."""
        task, method = pair
        default, own = f"{REFERENCE}-0", f"{method}-{index}"
        first = self.configurations[task, REFERENCE][0]
        written = {default: self.settings((task, REFERENCE), first, rung)}
        written[own] = self.settings(pair, self.configurations[pair][index], rung, default)
        blocks = {label: validate(MethodBlock, one, f"methods.{label} for {task}") for label, one in written.items()}
        tasks = {task: self.config.tasks[task].model_copy(update={"methods": list(blocks), "seeds": None})}
        start = self.config.tasks[task].start
        while start is not None and start.task is not None and start.task not in tasks:
            block = self.config.tasks[start.task]
            tasks[start.task] = block.model_copy(update={"methods": [start.method], "seeds": None})
            blocks[start.method] = self.config.methods[start.method].model_copy(update={"seeds": None})
            start = block.start
        changes = {"seeds": self.tuning.seeds, "tasks": tasks, "methods": blocks}
        scale = self.config.model_copy(update=changes)
        scale._planned = {}  # how many seeds are judged says nothing of these
        return expand(scale)

    def carry_out(
        self, train: Callable[[Iterable[Run]], None], folder: Path, command: str
    ) -> tuple[dict[Pair, Chosen], list[Row]]:
        """Search with ``train``, which makes the folders of runs, each by its name, in ``folder``, and leaves those
        that are there as they are, so that the same search goes on where it was.

        What was chosen, ``command`` with it, and a row for every configuration, rung and seed. Raises InputError where
        all configurations of a method diverged, or vanilla's default, which the others are held to.
        """
        log: dict[tuple[str, ...], Row] = {}

        def measure(number: int, left: Left) -> Mapping[Pair, Mapping[int, float]]:
            rung = self.rungs[number]
            asked = {(pair, i): self.runs(pair, i, rung) for pair, some in left.items() for i in some}
            train({run.spec.name: run for runs in asked.values() for run in runs}.values())
            for (pair, _), runs in asked.items():
                for run in runs:
                    log.setdefault(_key(pair[0], run), self._row(run, pair[0], number, left, folder))
            losses: dict[Pair, dict[int, float]] = {pair: {} for pair in left}
            for (pair, i), runs in asked.items():
                losses[pair][i] = float(np.mean([log[_key(pair[0], run)]["loss"] for run in _own(runs, pair, i)]))
            return losses

        index = halve(self.rungs, self.pairs, measure)
        rows = list(log.values())
        return {pair: self._chosen(pair, i, rows, command) for pair, i in index.items()}, rows

    def _row(self, run: Run, task: str, number: int, left: Left, folder: Path) -> Row:
        """What a run of a rung found, for the log. Raises InputError where vanilla's default has diverged."""
        found, rung = read_run(folder / run.spec.name, run.spec.name), self.rungs[number]
        last, diverged = found.curve.iloc[-1], found.final["status"] == DIVERGED
        method, _, index = run.method.rpartition("-") if run.task == task else (START, "", "0")
        if diverged and (method, index) == (REFERENCE, "0"):
            raise InputError(f"{task} by {REFERENCE} as the scale has it diverged ({run.spec.name}); mend its recipe")
        pair, settings = (task, method), {}
        if method != START:
            settings = self.settings(pair, self.configurations[pair][int(index)], rung)
        return {
            "scale": run.scale,
            "task": task,
            "method": method,
            "rung": number,
            "share": rung.share if settings else 1.0,
            "configuration": int(index),
            "competes": int(index) in left.get(pair, ()),
            "seed": run.spec.seed,
            "run": run.spec.name,
            "status": found.final["status"],
            "loss": math.inf if diverged else found.final["best_val_loss"],
            "macs": int(total_macs(last, "executed", found.run["charges_probe"])),
            "cpu_seconds": total_cpu_seconds(last, charged=True),
            "code_hash": found.run["code_hash"],
            "versions": found.run["versions"],
            "settings": json.dumps(settings),
        }

    def _chosen(self, pair: Pair, index: int, rows: Iterable[Row], command: str) -> Chosen:
        mine = [row for row in rows if (row["task"], row["method"]) == pair]
        last = [row for row in mine if row["configuration"] == index and row["rung"] == len(self.rungs) - 1]
        once = {row["run"]: row for row in mine}.values()
        return Chosen(
            settings=self.settings(pair, self.configurations[pair][index], FULL),
            loss=float(np.mean([row["loss"] for row in last])),
            how=self.how,
            macs=float(sum(row["macs"] for row in once)),
            cpu_seconds=round(sum(row["cpu_seconds"] for row in once), 1),
            code_hash=last[0]["code_hash"],
            command=command,
            versions=last[0]["versions"],
        )


def _pairs(config: ScaleConfig, tuning: Tuning, only: Sequence[str]) -> Iterable[Pair]:
    """Task and method labels that terms name, vanilla first."""
    known = [label for label in tuning.methods if label in config.methods and config.methods[label].tuned is None]
    if REFERENCE not in known:
        raise InputError(f"expected {REFERENCE} among the scale's methods and the spaces: all are held to its compute")
    tags = {tag for block in config.tasks.values() for tag in block.tags}
    unknown = [term for term in only if term not in {*known, *config.tasks, *tags}]
    if unknown:
        raise InputError(
            f"nothing to be tuned is called {unknown[0]!r}; tasks: {', '.join(config.tasks)}; tags: "
            f"{', '.join(sorted(tags)) or 'none'}; methods with a space: {', '.join(known)}"
        )
    methods = [label for label in known if label in only or label == REFERENCE or not {*known} & {*only}]
    tasks = [
        label
        for label, block in config.tasks.items()
        if {label, *block.tags} & {*only} or not {*config.tasks, *tags} & {*only}
    ]
    return [(task, method) for task in tasks for method in sorted(methods, key=lambda label: label != REFERENCE)]


def _key(task: str, run: Run) -> tuple[str, ...]:
    """What a row of the log is of: two configurations may be one run where a setting is a rounded step."""
    return task, run.method, run.spec.name


def _own(runs: Iterable[Run], pair: Pair, index: int) -> list[Run]:
    """Of a configuration's runs those of itself."""
    return [run for run in runs if (run.task, run.method) == (pair[0], f"{pair[1]}-{index}")]
