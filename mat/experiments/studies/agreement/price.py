"""What a probe costs by every estimator, in executed multiply-adds and in CPU seconds.

An estimator of b cotangents makes b backward passes through one forward pass, each with its Gram products: it costs a +
b · c, whatever the cotangents are. a and c follow from two probes of ``projected``, with 1 and 2 directions for the
multiply-adds and with 1 and 8 for the seconds. Where rows are traced to samples (experts), one cotangent serves that,
too, and with zeros in it, as ``loss`` has them, finds fewer rows; several have a pass for it: one costs what one does,
and a and c follow from 2 directions and 3, and from 2 and 8. ``full`` alone, whose products are of all pairs of rows,
is counted and timed itself. ``step`` costs what a training step takes more when its kernels are read, the passes that
trace rows to samples included where shapes do not show them (experts); in seconds that is the median of three
differences, which noise can make negative. Cotangents of some positions alone are zero at the others, which saves
nothing: they cost what all do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from statistics import median
from typing import Any

from torch import Tensor

from mat.experiments.studies.agreement.settings import Measurement
from mat.experiments.studies.agreement.training_step import TrainingStep
from mat.flops.executed import executed_macs
from mat.kernels.estimators import STEP, backward_passes
from mat.kernels.spectrum import eigen_macs, spectrum

KEY = ["estimator", "directions", "positions", "n"]  # of a probe
Probe = Callable[[str, int], dict[str, Tensor]]
LONG = 8  # directions of the longest probe that is timed
REPEATS = 3  # of a step and its recorded twin


def prices(
    measurements: Sequence[Measurement],
    n: int,
    logits: int,
    modules: int,
    probe: Probe,
    step: Callable[[], TrainingStep],
    traced: bool,
    device: str,
) -> list[dict[str, Any]]:
    """One row per measurement at ``n`` samples of ``logits`` outputs and so many ``modules``: ``KEY``, macs of the
    kernels, macs_eigen of their eigenvalues, seconds of both. ``probe``: name and directions of an estimator -> its
    kernels on the samples; ``step``: makes what the estimator ``step`` is read from, where that is asked for;
    ``traced``: whether rows are traced to their samples."""

    def counted(run: Callable[[], dict[str, Tensor]]) -> int:
        return executed_macs(run, device)[0]

    def timed(run: Callable[[], dict[str, Tensor]]) -> float:
        start = time.process_time()
        for gram in run().values():
            with suppress(FloatingPointError):  # a kernel that is not finite has none
                spectrum(gram)
        return time.process_time() - start

    least = 1 + traced  # cotangents that one more adds c to
    macs = {r: counted(partial(probe, "projected", r)) for r in {1, least, least + 1}}
    seconds = {r: timed(partial(probe, "projected", r)) for r in {1, least, LONG}}
    one_more = macs[least + 1] - macs[least], (seconds[LONG] - seconds[least]) / (LONG - least)
    rows = []
    for estimator, directions, positions, *_ in measurements:
        key = dict(zip(KEY, (estimator, directions, positions, n), strict=True))
        passes = backward_passes(estimator, directions, logits)
        start = 1 if passes < least else least
        cost = {
            "seconds": seconds[start] + (passes - start) * one_more[1],
            "macs": macs[start] + (passes - start) * one_more[0],
            "macs_eigen": modules * eigen_macs(n),
        }
        if estimator == "full":
            cost = {
                "seconds": timed(partial(probe, "full", 0)),
                "macs": counted(partial(probe, "full", 0)),
                "macs_eigen": modules * eigen_macs(n * logits),
            }
        elif estimator == STEP:
            made = step()
            recorded = partial(made.kernels, n)
            cost["seconds"] = median(timed(recorded) - timed(made.plain) for _ in range(REPEATS))
            cost["macs"] = counted(recorded) - counted(made.plain)
        rows.append(key | cost)
    return rows
