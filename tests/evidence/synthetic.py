"""Run directories in the real format with invented but plausible content, for tests of tables and figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.runs import method_groups, pool
from mat.evidence.runs.pooled import Tables
from mat.methods.base import Observation
from mat.methods.history import sums
from mat.records.columns import CURVE_COLUMNS, METRIC_PREFIX, PROBE_COLUMNS, SPECTRA_COLUMNS
from mat.records.files import CURVE, FINAL, PROBES, RUN, SPECTRA, write_record
from mat.records.run import Record, kept
from mat.records.seal import SEAL, write_seal


@dataclass(frozen=True)
class Behaviour:
    """How a method behaves: per-step cost relative to vanilla, extra final loss, active share, probe cost."""

    cost: float = 1.0
    extra_loss: float = 0.0
    share: float = 1.0
    probe: float = 0.0  # probe cost per interval, in steps of vanilla
    charges: bool = False
    observes: bool = False
    mode: str = "dense"
    reached: float = 1.0  # share of the active modules that a gradient reaches


METHODS = {
    "vanilla": Behaviour(observes=True),
    "mat": Behaviour(0.58, -0.004, 0.36, 0.8, True, True, "detach"),
    "mat_exact": Behaviour(0.72, -0.002, 0.38, 0.8, True, True, "exact"),
    "random": Behaviour(0.60, 0.03, 0.36, mode="detach"),
    "multirate": Behaviour(0.70, 0.015, 0.6, mode="detach"),
}

# every label that the evidence knows; those that METHODS does not have behave each in its own, made-up way
MANY = METHODS | {
    label: Behaviour(
        cost=0.5 + 0.03 * (5 * number % 17),
        extra_loss=0.004 * (7 * number % 13) - 0.01,
        share=1.0 if label.startswith("vanilla") else int(label[-2:]) / 100 if "_s" in label[-4:] else 0.36,
        probe=0.8 if label.startswith("mat") else 0.0,
        charges=label.startswith("mat"),
        mode="dense" if label.startswith("vanilla") else "detach",
    )
    for number, label in enumerate(method_groups.METHOD_ORDER)
    if label not in METHODS
}


@dataclass(frozen=True)
class Shape:
    """A task as seen: modules (kind, layers, per layer), start and end of the loss, cost per step."""

    kinds: tuple[tuple[str, int, int], ...]
    start: float
    floor: float
    metric: str
    bounds: Mapping[str, float]
    macs: float
    rate: float = 6.0
    more: tuple[str, ...] = ()  # further metrics, in [0, 1], higher is better
    task: str | None = None  # the plug-in, and its subset
    subset: str | None = None
    loss_unit: str = "nats"


TASKS = {
    "digits": Shape((("filters", 6, 4),), 2.3, 0.06, "accuracy", {}, 4e8, 9.0),
    "hmm": Shape(
        (("head", 2, 4), ("ffn", 2, 1)), 3.47, 2.31, "log_perplexity",
        {"floor_validation": 2.2, "floor_test": 2.21, "unigram_validation": 3.3, "unigram_test": 3.31}, 3e9,
    ),
}  # fmt: skip
MANY_TASKS = TASKS | {
    "mixture_of_experts": replace(TASKS["hmm"], kinds=(("head", 4, 12), ("ffn", 2, 1), ("expert", 2, 4)))
}


def _runs(
    tasks: Iterable[str] = ("digits", "hmm"),
    methods: Mapping[str, Behaviour] | None = None,
    seeds: Iterable[int] = (0, 1, 2),
    diverged: Iterable[tuple[str, str, int]] = (),
    steps: int = 600,
    shapes: Mapping[str, Shape] | None = None,
    **record: Any,
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """One run per task × method × seed, its folder's name and what ``write_run`` is told of it; ``record`` overrides
    keys of every run.json."""
    for task, (method, behaviour), seed in product(tasks, (methods or METHODS).items(), seeds):
        lost, shape = (task, method, seed) in set(diverged), (shapes or TASKS)[task]
        yield f"{task}-{method}-{seed}", (task, shape, method, behaviour, seed, steps, lost, record)


def write_runs(root: Path, *which: Any, **what: Any) -> list[Path]:
    """Write a directory for each of ``_runs``."""
    paths = []
    for name, how in _runs(*which, **what):
        paths.append(root / name)
        write_run(paths[-1], *how)
    return paths


_MADE: dict[str, pool.Run] = {}


def made_runs(*which: Any, **what: Any) -> list[pool.Run]:
    """What is read of the runs that ``write_runs`` writes, without files; one that some test had is not made again."""
    made = []
    for name, how in _runs(*which, **what):
        if (key := repr(how)) not in _MADE:
            _MADE[key] = pool.read_of(_record(name, *how))
        made.append(_MADE[key])
    return made


def collected(*which: Any, selection: str = "", **what: Any) -> Tables:
    """The tables of ``made_runs``."""
    return pool.pooled(made_runs(*which, **what), selection)


def write_run(path: Path, *how: Any) -> None:
    record = _record(path.name, *how)
    path.mkdir(parents=True, exist_ok=True)
    write_record(record.curve, path / CURVE)
    write_record(record.probes, path / PROBES)
    write_record(record.spectra, path / SPECTRA)
    (path / RUN).write_text(json.dumps(record.run))
    (path / FINAL).write_text(json.dumps(record.final))
    seal(path)


def _record(
    name: str,
    task: str,
    shape: Shape,
    method: str,
    behaviour: Behaviour,
    seed: int,
    steps: int,
    diverged: bool,
    record: Mapping[str, Any],
) -> Record:
    draw = np.random.default_rng([seed, *task.encode(), *method.encode()])
    modules = [
        {"module": f"{kind}.{layer}.{index}", "kind": kind, "layer": layer, "parameters": 500 * (layer + 1)}
        for kind, layers, count in shape.kinds
        for layer in range(layers)
        for index in range(count)
    ]
    interval, every = steps // 10, steps // 30
    run = {
        "name": name, "labels": {"scale": "demo", "task": task, "method": method}, "seed": seed,
        "spec": {
            "task": {"name": shape.task or task, "subset": shape.subset},
            "method": {"name": method, "estimator": "sum_of_logits"}, "seed": seed,
        },
        "code_hash": "c0de" * 10, "code": {"mat.controller": "c0de", f"mat.methods.{method}": "c0de"},
        "data_hash": f"da7a-{task}", "start_hash": None,
        "versions": {"torch": "2.11.0", "numpy": "2.4.6"},
        "hardware": {"cpu": "a processor", "cores": 2, "device": "cpu"}, "threads": 1,
        "charges_probe": behaviour.charges,
        "metrics": [
            {"name": name, "higher_is_better": name != "log_perplexity"} for name in (shape.metric, *shape.more)
        ],
        "loss_unit": shape.loss_unit,
        "bounds": dict(shape.bounds), "sizes": {"train": 1000, "validation": 100, "test": 100},
        "modules": modules, "remainder_parameters": 1000, "mode": behaviour.mode, "interval": interval,
        "probe_n": 64,
        "probe_directions": 8,
    } | dict(record)  # fmt: skip
    curve = _curve(draw, shape, behaviour, seed, steps, every)
    probes = _probes(draw, modules, behaviour, steps, interval)
    if diverged:
        curve = curve.iloc[:5].copy()
        curve.loc[4, ["train_loss", "val_loss"]] = np.nan
    last = float(curve["val_loss"].iloc[-1])
    test_metric = last + 0.01 if shape.metric == "log_perplexity" else 1.0 - last / 3
    tested = dict.fromkeys((shape.metric, *shape.more), test_metric)
    final = {
        "status": "diverged" if diverged else "finished", "steps": int(curve["step"].iloc[-1]),
        "test_loss": None if diverged else last + 0.01, "test_metric": None if diverged else test_metric,
        "test_metrics": {} if diverged else tested,
        "best_val_loss": None if diverged else float(curve["val_loss"].min()),
        "best_step": None if diverged else int(curve["step"][curve["val_loss"].idxmin()]),
    }  # fmt: skip
    more = sorted(column for column in set(curve) - set(CURVE_COLUMNS) if column.startswith(METRIC_PREFIX))
    curve = curve.reindex(columns=[*CURVE_COLUMNS, *more])
    return Record(run, final, curve, probes.reindex(columns=PROBE_COLUMNS), _spectra(probes))


def seal(path: Path) -> None:
    """Seal a run directory as it is."""
    write_seal(path / SEAL, kept(path))


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a run directory's run.json in place, as if it had been written so: its specification has its seed,
    too."""
    run = json.loads((path / RUN).read_text()) | changes
    (path / RUN).write_text(json.dumps(run | {"spec": run["spec"] | {"seed": run["seed"]}}))
    seal(path)


def changed(**methods: Mapping[str, Any]) -> dict[str, Behaviour]:
    """``METHODS`` with some behaviours changed, for example ``changed(mat={"cost": 2.0})``."""
    return METHODS | {name: replace(METHODS[name], **fields) for name, fields in methods.items()}


def _curve(
    draw: np.random.Generator, shape: Shape, behaviour: Behaviour, seed: int, steps: int, every: int
) -> pd.DataFrame:
    step = np.arange(0, steps + 1, every)
    end = shape.floor + behaviour.extra_loss * (shape.start - shape.floor) + 0.002 * shape.start * np.sin(seed)
    loss = end + (shape.start - end) * np.exp(-shape.rate * step / steps) * (1 + 0.02 * draw.standard_normal(len(step)))
    loss += 0.002 * shape.start * np.abs(draw.standard_normal(len(step)))
    train = shape.macs * behaviour.cost * step * (1 + 0.01 * draw.standard_normal())
    share = behaviour.share + 0.02 * np.cos(step) + 0.005 * (seed - 1)
    probing = behaviour.charges or behaviour.observes
    probe = shape.macs * (behaviour.probe or 0.8) * (step // (steps // 10) + 1) * probing
    scores = loss if shape.metric == "log_perplexity" else 1 - loss / 3
    return pd.DataFrame(
        {
            "step": step, "epoch": 10 * step / steps, "train_loss": np.where(step == 0, np.nan, loss - 0.01),
            "val_loss": loss, "val_metric": scores,
            **{f"val_{name}": scores for name in (shape.metric, *shape.more)},
            "macs_nominal": 0.9 * train, "macs_executed": train,
            "macs_nominal_probe": 0.9 * probe, "macs_executed_probe": probe, "macs_eigen": 0.01 * probe,
            "macs_eval": shape.macs * (step // every + 1), "macs_optimizer": 0.02 * train,
            "seconds_data": 0.001 * step,
            "seconds_cpu_train": 0.028 * step * (0.3 + 0.7 * behaviour.cost),
            "seconds_cpu_probe": 0.001 * probe / shape.macs,
            "seconds_train": 0.03 * step * (0.3 + 0.7 * behaviour.cost),
            "seconds_probe": 0.001 * probe / shape.macs, "seconds_eval": 0.01 * (step // every + 1),
            "active_share": np.where(step == 0, np.nan, share),
            "reached_share": np.where(step == 0, np.nan, behaviour.reached * share),
        }
    )  # fmt: skip


def _probes(
    draw: np.random.Generator, modules: list[dict[str, Any]], behaviour: Behaviour, steps: int, interval: int
) -> pd.DataFrame:
    observed = behaviour.charges or behaviour.observes
    base = 10 ** draw.uniform(-1, 1.5, len(modules))
    order = draw.permutation(len(modules)) if not behaviour.charges else np.argsort(-base)
    rows = []
    for number in range(10):
        keep = max(1, round(behaviour.share * len(modules) * (1.4 - 0.08 * number)))
        if not behaviour.charges and behaviour.share < 1:
            order = draw.permutation(len(modules))
        active = set(order[:keep].tolist())
        scale = base * (1 + 3 * number**0.5 * draw.uniform(0.7, 1.3, len(modules)))
        tau = float(np.sort(scale)[::-1][min(keep, len(scale)) - 1]) if behaviour.charges else np.nan
        for index, module in enumerate(modules):
            frozen = behaviour.charges and number >= 6 and index == int(order[-1])
            value = scale[index] if observed else np.nan
            rows.append(
                {
                    "interval": number, "step": number * interval, "epoch": float(number), **module,
                    "lambda_max": value, "trace": 2 * value,
                    "effective_rank": 1 + 18 / (1 + value) if observed else np.nan,
                    "gradient_norm": value**0.5 / (1 + number) if behaviour.observes else np.nan,
                    "tau": tau, "active": index in active and not frozen, "frozen": frozen,
                    "reached": behaviour.reached * (index in active and not frozen),
                }
            )  # fmt: skip
    return pd.DataFrame(rows).astype({"active": bool, "frozen": bool})


def _spectra(probes: pd.DataFrame) -> pd.DataFrame:
    """Of the sums of kernels with these λ_max, as if each next eigenvalue were three quarters of the one before."""
    rows, falling, seen = [], 0.75 ** np.arange(24), probes[probes["lambda_max"].notna()]
    if seen.empty:
        return pd.DataFrame(columns=SPECTRA_COLUMNS)
    whole, of_kind, of_layer = (
        seen.groupby(["interval", "step", *names])["lambda_max"].sum() for names in ([], ["kind"], ["layer"])
    )
    by_kind, by_layer = {}, {}
    for sums_of, found in ((of_kind, by_kind), (of_layer, by_layer)):
        for (interval, step, key), total in sums_of.items():
            found.setdefault((interval, step), {})[key] = total
    for (interval, step), total in whole.items():
        kinds = {kind: 0.5 * value * falling for kind, value in by_kind[interval, step].items()}
        layers = {int(layer): 0.6 * value for layer, value in by_layer[interval, step].items()}
        observation = Observation({}, 0.5 * total * falling, {}, kinds if len(kinds) > 1 else {}, layers)
        rows += [{"interval": interval, "step": step, **row} for row in sums(observation)]
    return pd.DataFrame(rows, columns=SPECTRA_COLUMNS)
