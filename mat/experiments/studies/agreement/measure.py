"""Measure module spectra on one run by every estimator, normalisation and number of samples (X6, A3).

The run is trained by its own loop; at each checkpoint every disjoint probe set is measured by every estimator that the
budget allows (``agreement.settings``). Samples are independent in evaluation mode, so the kernel on the first n samples
of a probe set is the leading block of the kernel on all of them: each estimator runs once per probe set, on its largest
n. What a probe of the run's own n costs is measured apart, once per job, on the initial weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from mat.errors import InputError
from mat.experiments.studies.agreement.settings import Measurement
from mat.experiments.studies.session import Job, Session
from mat.experiments.training.machine import Machine
from mat.flops.executed import executed_macs
from mat.kernels.ntk import modular_ntk, normalise
from mat.kernels.spectrum import Spectrum, eigen_macs, spectrum
from mat.seeds import stream_seed


class Spectra(Session):
    """The run in training, its probe sets, and what has been measured so far.

    The table has one row per checkpoint × probe set × estimator × n × normalisation × module; a kernel that is not
    finite has NaN. ``seconds`` and ``macs`` are of the kernels of a probe of the default n, ``macs_eigen`` of their
    eigenvalues; NaN at other n.
    """

    rows = "spectra"
    kept = ("tables", "costs")

    def __init__(self, job: Job, out: Path, machine: Machine) -> None:
        super().__init__(job, out, machine)
        self.measurements = job.settings.measurements(self.loop.outputs_per_sample)
        if not self.measurements:
            raise InputError(
                f"no estimator is affordable with {self.loop.outputs_per_sample} logits per sample; raise "
                "sample_passes, or measure sum_of_logits"
            )
        self.size = max(size for measurement in self.measurements for size in measurement.sizes)
        drawn = self.loop.task.probe(job.spec.seed, job.settings.probe_sets * self.size)
        self.samples = machine.take(drawn)
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
                    what = {"n": n, "estimator": measurement.estimator, "directions": measurement.directions}
                    what |= {"normalisation": normalisation, **module, **vars(seen)}
                    rows.append({"step": step, "share": share, "probe_set": probe_set, **what})
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
        macs, _ = executed_macs(lambda: self._grams(measurement, 0, n), self.machine.device)
        eigen = sum(eigen_macs(len(gram)) for gram in grams.values())
        self.costs[key] = {"seconds": seconds, "macs": macs, "macs_eigen": eigen}

    def table(self) -> pd.DataFrame:
        """Everything measured, with its costs."""
        job, loop = self.job, self.loop
        frame = pd.concat([self.tables[key] for key in sorted(self.tables)], ignore_index=True)
        keys = ["estimator", "directions", "n"]
        cost = pd.DataFrame(
            [dict(zip(keys, key, strict=True)) | seen for key, seen in self.costs.items()],
            columns=[*keys, "seconds", "macs", "macs_eigen"],
        )
        probe = job.spec.probe
        about = {
            "logits": loop.outputs_per_sample,
            "default_estimator": probe.estimator,
            "default_directions": probe.directions * (probe.estimator == "projected"),
            "default_normalisation": probe.normalisation,
            "default_n": probe.n,
        }
        return frame.merge(cost, on=keys, how="left", validate="many_to_one").assign(**about)


def _spectra(gram: Tensor, parameters: int) -> dict[str, Spectrum]:
    """The spectrum under every normalisation, NaN where the kernel is not finite: a run that overflowed still
    has a table. ``per_parameter`` scales all eigenvalues alike, so it needs no solve of its own."""
    try:
        raw, cosine = spectrum(gram), spectrum(normalise(gram, "cosine", parameters))
    except FloatingPointError:
        raw = cosine = Spectrum(float("nan"), float("nan"), float("nan"))
    scaled = Spectrum(raw.lambda_max / parameters, raw.trace / parameters, raw.effective_rank)
    return {"raw": raw, "cosine": cosine, "per_parameter": scaled}
