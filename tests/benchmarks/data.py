"""Is data ever the bottleneck? For every task of a scale: how long a step waits for its batch.

    python -m tests.benchmarks.data subset [--only TERM ...] [--steps 20]

Each task is trained for some steps by vanilla as its config says, and timed; nothing is evaluated. ``wait``: the share
of a step's time in which it waits for its batch, which is made in the background while the step before computes.
``batch``: the time that making one takes by itself, in the foreground, as a share of the step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from mat.errors import InputError
from mat.experiments.config.plugins import Plugin
from mat.experiments.config.runs import Run, expand
from mat.experiments.config.scale import read_scale
from mat.experiments.config.selection import select
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine

ROOT = Path(__file__).parents[2]
COLUMNS = f"{'task':<22}{'step':>10}{'wait':>10}{'batch':>10}   batch of"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scale", help="a config of workflows/config")
    parser.add_argument("--only", nargs="*", default=[], help="tasks or tags")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    path = ROOT / f"workflows/config/{args.scale}.yaml"
    config = read_scale(path, {"seeds": read_scale(path).seeds[:1]})
    data = Path(os.environ["MAT_DATA"]) if os.environ.get("MAT_DATA") else None
    runs = [run for run in select(expand(config), args.only) if run.spec.method.name == "vanilla"]
    print(f"{COLUMNS}\n{'':<22}{'ms':>10}{'% of step':>10}{'% of step':>10}")
    for run in runs:
        try:
            print(_line(run, data, args.steps), flush=True)
        except InputError as error:
            print(f"{run.task:<22}not measured: {error}")


def _line(run: Run, data: Path | None, steps: int) -> str:
    vanilla = Plugin.of("method", {"name": "vanilla"}, "method")
    spec = replace(run.spec, start=None, method=vanilla)
    torch.set_num_threads(spec.threads)
    loop = Loop(spec, ROOT / "nowhere" / spec.name, Machine(data, ROOT / ".mat-cache"))
    loop._evaluate = lambda report: None
    waits, whole = [], []
    for _ in range(min(steps, loop.steps)):
        before, start = loop.progress.totals["seconds_data"], time.perf_counter()
        loop.advance(lambda line, share: None)
        whole.append(time.perf_counter() - start)
        waits.append(loop.progress.totals["seconds_data"] - before)
    batches = [_seconds(loop, step) for step in range(min(10, loop.steps_per_epoch))]
    loop.prefetch.close()
    step = statistics.median(whole[2:] or whole)  # the first two are counted, which is slow
    wait, batch = statistics.mean(waits[2:] or waits), statistics.median(batches)
    shape = {name: tuple(value.shape) for name, value in loop.task.batch(0, 0, 0, loop.recipe.batch).inputs.items()}
    return f"{run.task:<22}{1e3 * step:>10.1f}{100 * wait / step:>10.2f}{100 * batch / step:>10.2f}   {shape}"


def _seconds(loop: Loop, step: int) -> float:
    start = time.perf_counter()
    loop.task.batch(loop.spec.seed, 0, step, loop.recipe.batch)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
