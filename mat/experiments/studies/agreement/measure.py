"""Measure module spectra on one run by every estimator and number of samples, and what each costs (X6, X6b, A3).

The run is trained by its own loop; at each checkpoint every disjoint probe set is measured by every estimator that the
budget allows (``agreement.settings``). Samples are independent in evaluation mode, so the kernel on the first n samples
of a probe set is the leading block of the kernel on all of them: each estimator runs once per probe set, on its largest
n. So is the kernel of a training step (estimator ``step``): it is made on as many samples as the recipe's batch has,
the first of the probe set, of which the first n are read. The kernel of r directions is the mean of those of its
directions, so that it adds to the one of fewer. What a probe costs is measured apart, once per job and n, on the
initial weights (``agreement.price``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mat.experiments.studies.agreement.price import KEY, prices
from mat.experiments.studies.agreement.settings import Measurement
from mat.experiments.studies.agreement.training_step import TrainingStep
from mat.experiments.studies.session import Job, Session
from mat.experiments.tasks.base import Batch
from mat.experiments.training.cost import Shape
from mat.experiments.training.machine import Machine
from mat.experiments.training.resume import Report
from mat.forward import evaluation, forward
from mat.kernels.estimators import STEP, Estimator, positions_of
from mat.kernels.ntk import NORMALISATIONS, kernels_by, normalise
from mat.kernels.spectrum import Spectrum, spectrum
from mat.seeds import stream_seed

UNKNOWN = Spectrum(float("nan"), float("nan"), float("nan"))


class Spectra(Session):
    """The run in training, its probe sets, and what has been measured so far.

    The table has one row per checkpoint × probe set × estimator × n × normalisation × module; a kernel that is not
    finite has NaN. The default estimator, at its positions and at all, has every normalisation, others have the
    default's. ``macs`` (executed) are of the kernels of one probe after a run's first, ``macs_eigen`` of their
    eigenvalues, ``seconds`` (CPU) of both; ``epoch_seconds`` and ``epoch_macs`` of an epoch of this run's training: the
    median step, and the mean, times the steps; NaN before the first step.
    """

    rows = "spectra"
    kept = ("tables", "costs", "step_seconds")

    def __init__(self, job: Job, out: Path, machine: Machine) -> None:
        super().__init__(job, out, machine)
        with torch.no_grad(), evaluation(self.loop.model):
            example = {name: value.to(machine.device) for name, value in self.loop.task.signature.example.items()}
            self.positions = positions_of(forward(self.loop.model, example).shape[1:])
        batch = job.spec.recipe.batch
        probe, extent = job.spec.probe, Shape(job.spec).extent
        self.settings = job.settings.beside(probe, extent)
        self.measurements = self.settings.affordable(self.loop.outputs_per_sample, self.positions, batch)
        self.size = self.settings.size(self.measurements, batch)
        drawn = self.loop.task.probe(job.spec.seed, self.settings.probe_sets * self.size)
        self.samples = machine.take(drawn)
        some = probe.positions if probe.positions < self.positions else 0
        self.default = (probe.estimator, extent.directions * (probe.estimator == "projected"), some, extent.n)
        self.tables: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self.costs: dict[int, list[dict[str, Any]]] = {}
        self.step_seconds: list[float] = []

    @property
    def default_of_all_positions(self) -> tuple[str, int, int, int]:
        """What stands for the default where estimators of some positions are left out (the table of agreement)."""
        name, directions, _, n = self.default
        return (name, directions, 0, n)

    def advance(self, report: Report) -> None:
        """A training step, timed."""
        start = time.process_time()
        super().advance(report)
        self.step_seconds.append(time.process_time() - start)

    def measured(self, step: int, share: float) -> Iterator[str]:
        """Measure the probe sets that have not been at a checkpoint; none where the run has diverged before."""
        for probe_set in range(self.settings.probe_sets if self.loop.progress.step == step else 0):
            if (step, probe_set) not in self.tables:
                self.tables[step, probe_set] = self.probe(step, share, probe_set)
                yield f"probe set {probe_set} measured"

    def probe(self, step: int, share: float, probe_set: int) -> list[dict[str, Any]]:
        """All spectra of one probe set on the weights as they are, a row each."""
        modules = self.loop.controller.partition.table()
        rows: list[dict[str, Any]] = []
        for n in self.settings.sizes:
            if n not in self.costs:
                self.costs[n] = self._prices(n)
        for measurement, grams in self.kernels(probe_set):
            for n, module in product(measurement.sizes, modules):
                key = (*measurement[:3], n)
                default = key in (self.default, self.default_of_all_positions)
                asked = NORMALISATIONS if default else (self.job.spec.probe.normalisation,)
                gram = _leading(grams[module["module"]], n, measurement.sizes[-1])
                for normalisation, seen in _spectra(gram, module["parameters"], asked).items():
                    what = {**dict(zip(KEY, key, strict=True)), "normalisation": normalisation, **module, **vars(seen)}
                    rows.append({"step": step, "share": share, "probe_set": probe_set, **what})
        return rows

    def kernels(self, probe_set: int) -> Iterator[tuple[Measurement, dict[str, Tensor]]]:
        """Every measurement with its kernels on the weights as they are, at its largest n."""
        before: dict[str, Tensor] = {}
        for measurement, grams in zip(self.measurements, self._added(probe_set), strict=True):
            n, r, known = measurement.sizes[-1], measurement.directions, measurement.known
            if known:
                grams = {name: (known * before[name][:n, :n] + (r - known) * gram) / r for name, gram in grams.items()}
            yield measurement, grams
            before = grams

    def _added(self, probe_set: int) -> list[dict[str, Tensor]]:
        """Of every measurement the kernels of those directions that the one before it has not; estimators on as many
        samples share a forward pass."""
        together: dict[tuple[int, bool], list[Estimator]] = {}
        for one in self.measurements:
            estimator = self.estimator(one, probe_set)
            if one.known:  # of the same seed, the directions that come after those
                estimator = replace(estimator, directions=one.directions - one.known, skip=one.known)
            together.setdefault((one.sizes[-1], one.estimator == STEP), []).append(estimator)
        found = {key: iter(self.grams(some, probe_set, key[0], check=0)) for key, some in together.items()}
        return [next(found[one.sizes[-1], one.estimator == STEP]) for one in self.measurements]

    def _prices(self, n: int) -> list[dict[str, Any]]:
        """Once per job; not at every checkpoint, because it hardly moves."""
        asked = [one for one in self.measurements if n in one.sizes]

        def probe(name: str, directions: int) -> dict[str, Tensor]:
            return self.grams([self.estimator(Measurement(name, directions, 0, (n,)), 0)], 0, n)[0]

        if not asked:
            return []
        logits, modules = self.loop.outputs_per_sample, self.loop.controller.partition.modules
        step, traced = partial(self.training_step, 0), any(module.kind == "expert" for module in modules)
        return prices(asked, n, logits, len(modules), probe, step, traced, self.machine.device)

    def estimator(self, measurement: Measurement, probe_set: int) -> Estimator:
        """Directions and positions are drawn once per probe set; those of the reference apart."""
        name, r, positions, *_ = measurement
        apart = ("reference",) if r == self.settings.reference_directions else ()
        seed = stream_seed(self.job.spec.seed, "agreement", *apart, probe_set)
        return Estimator(name, max(r, 1), seed, self.loop.task.sample_losses, positions)

    def grams(self, estimators: Sequence[Estimator], probe_set: int, n: int, check: int = 1) -> list[dict[str, Tensor]]:
        """By each estimator module -> its kernel on the first ``n`` samples, found and checked as a probe after a run's
        first does it; ``step`` is asked for alone."""
        if estimators[0].name == STEP:
            found: Sequence[Mapping[str, Tensor]] = [self.training_step(probe_set).kernels(n)]
        else:
            inputs, labels = self.first(n, probe_set)
            model, partition = self.loop.model, self.loop.controller.partition
            found = kernels_by(model, partition, inputs, estimators, labels, verify=False, check=check)
        return [{name: gram.cpu() for name, gram in grams.items()} for grams in found]

    def training_step(self, probe_set: int) -> TrainingStep:
        """A step of the run on the probe set's first samples, as many as a batch has."""
        batch, seed = self.first(self.job.spec.recipe.batch, probe_set), self.job.spec.seed
        return TrainingStep(self.loop, batch, stream_seed(seed, "agreement", STEP, probe_set))

    def first(self, n: int, probe_set: int) -> Batch:
        """The first ``n`` samples of a probe set."""
        chosen = slice(probe_set * self.size, probe_set * self.size + n)
        return Batch({name: value[chosen] for name, value in self.samples.inputs.items()}, self.samples.labels[chosen])

    def table(self) -> pd.DataFrame:
        """Everything measured, with its costs."""
        loop, probe = self.loop, self.job.spec.probe
        frame = pd.DataFrame([row for key in sorted(self.tables) for row in self.tables[key]])
        cost = pd.DataFrame([row for rows in self.costs.values() for row in rows])
        steps, done = loop.steps_per_epoch, loop.progress.step
        about = {
            "epoch_macs": steps * loop.progress.totals["macs_executed"] / done if done else np.nan,
            "epoch_seconds": steps * float(np.median(self.step_seconds)) if done else np.nan,
            "logits": loop.outputs_per_sample,
            "model_positions": self.positions,
            "default_estimator": self.default[0],
            "default_directions": self.default[1],
            "default_positions": self.default[2],
            "default_normalisation": probe.normalisation,
            "default_n": self.default[3],
        }
        return frame.merge(cost, on=KEY, how="left", validate="many_to_one").assign(**about)


def _leading(gram: Tensor, n: int, largest: int) -> Tensor:
    """The block of the first ``n`` of the ``largest`` samples, each of as many rows."""
    rows = len(gram) * n // largest
    return gram[:rows, :rows]


def _spectra(gram: Tensor, parameters: int, asked: tuple[str, ...]) -> dict[str, Spectrum]:
    """The spectrum under the normalisations ``asked``, NaN where the kernel is not finite: a run that overflowed still
    has a table. ``per_parameter`` scales all eigenvalues alike, so it needs no solve of its own."""
    found = {}
    try:
        if "cosine" in asked:
            found["cosine"] = spectrum(normalise(gram, "cosine", parameters))
        if {"raw", "per_parameter"} & set(asked):
            raw = spectrum(gram)
            scaled = Spectrum(raw.lambda_max / parameters, raw.trace / parameters, raw.effective_rank)
            found |= {"raw": raw, "per_parameter": scaled}
    except FloatingPointError:
        return dict.fromkeys(asked, UNKNOWN)
    return {name: found[name] for name in asked}
