"""Measure module spectra on one run by every estimator, normalisation and number of samples (X6, A3).

The run is trained by ``mat.experiments.training.loop``'s own loop; at each checkpoint every disjoint probe set is measured by every
estimator that the budget allows (``mat.experiments.studies.agreement.config``). Samples are independent in evaluation mode, so the
kernel on the first n samples of a probe set is the leading block of the kernel on all of them: each estimator
runs once per probe set, on its largest n. What a probe of the run's own n costs is measured apart, once per
job, on the initial weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mat.errors import InputError
from mat.experiments.studies import job as jobs
from mat.experiments.studies.agreement.config import Job, Measurement
from mat.experiments.studies.job import checkpoints
from mat.experiments.tasks.base import Batch
from mat.experiments.training import code_version
from mat.experiments.training.loop import Loop
from mat.flops.executed import executed_macs
from mat.kernels.ntk import modular_ntk, normalise
from mat.kernels.spectrum import Spectrum, eigen_macs, spectrum
from mat.seeds import stream_seed

CODE = ("experiments/studies/",)  # files that can change a measurement and no run
Report = Callable[[str, float], None]


def measure(
    job: Job,
    out: Path,
    *,
    data: Path | None = None,
    cache: Path = Path(".mat-cache"),
    device: str = "cpu",
    report: Report = lambda line, share: None,
    save_every: float = 30.0,
) -> pd.DataFrame:
    """Train ``job``'s run, measure it, and write the table ``out`` (Parquet); returns the table.

    One row per checkpoint × probe set × estimator × n × normalisation × module; a kernel that is not finite has
    NaN. ``seconds`` and ``macs`` are of the kernels of a probe of the default n, ``macs_eigen`` of their eigenvalues;
    NaN at other n.
    Resumes from the state of an interrupted process; a finished table is returned as it is. Raises InputError
    before any training for input that cannot be used.
    """

    def begin() -> _Session:
        return _Session(job, out, data, cache, device)

    return jobs.measure(job, out, begin, CODE, "spectra", report, save_every)


class _Session:
    """The run in training, its probe sets, and what has been measured so far."""

    def __init__(self, job: Job, out: Path, data: Path | None, cache: Path, device: str) -> None:
        self.job, self.device = job, device
        self.loop = Loop(job.spec, out, data, cache, device)
        self.checkpoints = checkpoints(job.settings.shares, self.loop.steps)
        self.measurements = job.settings.measurements(self.loop.outputs_per_sample)
        if not self.measurements:
            raise InputError(
                f"no estimator is affordable with {self.loop.outputs_per_sample} logits per sample; raise "
                "sample_passes, or measure sum_of_logits"
            )
        self.size = max(size for measurement in self.measurements for size in measurement.sizes)
        drawn = self.loop.task.probe(job.spec.seed, job.settings.probe_sets * self.size)
        self.samples = Batch(
            {name: value.to(device) for name, value in drawn.inputs.items()}, drawn.labels.to(device)
        )
        self.identity = {**self.loop.identity, "run": job.name, "code_hash": code_version.code_hash(*CODE)}
        self.tables: dict[tuple[int, int], pd.DataFrame] = {}
        self.costs: dict[tuple[str, int, int], dict[str, float]] = {}

    def measured(self, step: int, share: float) -> Iterator[str]:
        """Measure the probe sets that have not been at a checkpoint; none where the run has diverged before."""
        for probe_set in range(self.job.settings.probe_sets if self.loop.progress.step == step else 0):
            if (step, probe_set) not in self.tables:
                self.tables[step, probe_set] = self.probe(step, share, probe_set)
                yield f"probe set {probe_set} measured"

    def probe(self, step: int, share: float, probe_set: int) -> pd.DataFrame:
        """All spectra of one probe set on the weights as they are."""
        modules = self.loop.controller.partition.table()
        rows: list[dict[str, Any]] = []
        for measurement in self.measurements:
            self._count(measurement)
            grams = self._grams(measurement, probe_set, measurement.sizes[-1])
            for n, module in product(measurement.sizes, modules):
                gram = grams[module["module"]]
                rank = len(gram) * n // measurement.sizes[-1]
                for normalisation, seen in _spectra(gram[:rank, :rank], module["parameters"]).items():
                    rows.append(
                        {
                            "step": step, "share": share, "probe_set": probe_set, "n": n,
                            "estimator": measurement.estimator, "directions": measurement.directions,
                            "normalisation": normalisation, **module, **vars(seen),
                        }
                    )  # fmt: skip
        return pd.DataFrame(rows)

    def _grams(self, measurement: Measurement, probe_set: int, n: int) -> dict[str, Tensor]:
        first = probe_set * self.size
        chosen = slice(first, first + n)
        inputs = {name: value[chosen] for name, value in self.samples.inputs.items()}
        options: dict[str, Any] = {}
        if measurement.estimator == "loss":
            options = {"labels": self.samples.labels[chosen], "loss": self.loop.task.sample_losses}
        if measurement.estimator == "projected":
            seed = stream_seed(self.job.spec.seed, "agreement", measurement.directions, probe_set)
            options = {"directions": measurement.directions, "seed": seed}
        model, partition = self.loop.model, self.loop.controller.partition
        grams = modular_ntk(model, partition, inputs, measurement.estimator, verify=False, **options)
        return {name: gram.cpu() for name, gram in grams.items()}

    def _count(self, measurement: Measurement) -> None:
        """The cost of a probe of the default n, once per job; not at every checkpoint, because it hardly moves."""
        n = self.job.spec.probe.n
        key = (measurement.estimator, measurement.directions, n)
        if key in self.costs or n not in measurement.sizes:
            return
        start = time.perf_counter()
        grams = self._grams(measurement, 0, n)
        seconds = time.perf_counter() - start
        macs, _ = executed_macs(lambda: self._grams(measurement, 0, n), self.device)
        eigen = sum(eigen_macs(len(gram)) for gram in grams.values())
        self.costs[key] = {"seconds": seconds, "macs": macs, "macs_eigen": eigen}

    def table(self) -> pd.DataFrame:
        """Everything measured, with its costs and what it stands on."""
        job, loop = self.job, self.loop
        frame = pd.concat([self.tables[key] for key in sorted(self.tables)], ignore_index=True)
        keys = ["estimator", "directions", "n"]
        cost = pd.DataFrame(
            [dict(zip(keys, key, strict=True)) | seen for key, seen in self.costs.items()],
            columns=[*keys, "seconds", "macs", "macs_eigen"],
        )
        machine, projects = code_version.hardware(self.device), job.spec.probe.estimator == "projected"
        about = {
            **job.labels, "model": job.spec.model.name, "seed": job.spec.seed, "job": job.name,
            "setup": job.setup,
            "logits": loop.outputs_per_sample, "steps": loop.steps, "diverged": loop.progress.diverged,
            "default_estimator": job.spec.probe.estimator,
            "default_directions": job.spec.probe.directions * projects,
            "default_normalisation": job.spec.probe.normalisation, "default_n": job.spec.probe.n,
            "code_hash": code_version.code_hash(*CODE), "data_hash": loop.task.data_hash, "version_torch": torch.__version__,
            "threads": job.spec.threads, "device": machine["device"], "cpu": machine["cpu"],
        }  # fmt: skip
        return frame.merge(cost, on=keys, how="left", validate="many_to_one").assign(**about)

    def state(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "loop": self.loop.state(),
            "tables": self.tables,
            "costs": self.costs,
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        if state is not None:
            self.loop.restore(state["loop"])
            self.tables, self.costs = state["tables"], state["costs"]


def _spectra(gram: Tensor, parameters: int) -> dict[str, Spectrum]:
    """The spectrum under every normalisation, NaN where the kernel is not finite: a run that overflowed still
    has a table. ``per_parameter`` scales all eigenvalues alike, so it needs no solve of its own."""
    try:
        raw, cosine = spectrum(gram), spectrum(normalise(gram, "cosine", parameters))
    except FloatingPointError:
        raw = cosine = Spectrum(float("nan"), float("nan"), float("nan"))
    scaled = Spectrum(raw.lambda_max / parameters, raw.trace / parameters, raw.effective_rank)
    return {"raw": raw, "cosine": cosine, "per_parameter": scaled}
