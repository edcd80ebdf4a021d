"""Tables of sensitivity, trainability and generalisation in the real format with invented numbers, for figures."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from mat.evidence.runs import method_groups

FAMILIES = {"bert": ("hmm", ("head", "ffn")), "switch": ("hmm", ("head", "expert")), "vgg": ("digits", ("filters",))}
QUANTITIES = ("lambda_max", "gradient_norm", "trace", "effective_rank", "parameters", "layer")
PARTIAL = (
    ("lambda_max", "gradient_norm"), ("lambda_max", "parameters"), ("lambda_max", "gradient_norm parameters"),
    ("gradient_norm", "lambda_max"),
)  # fmt: skip
MEASURES = (
    ("C4", "saving", "% of vanilla's compute"), ("C5", "validation loss", "% of vanilla's best validation loss"),
)  # fmt: skip
PAIRS = (("top", "bottom"), ("top", "random"), ("bottom", "none"), ("top", "none"))


def write_sensitivity(tables: Path, tasks: Iterable[str]) -> None:
    """``sensitivity.csv``: every alternative label on every task; some change the verdict, one has no value."""
    rows = []
    for place, task in enumerate(tasks):
        every = product(method_groups.GROUPS["sensitivity"], MEASURES)
        for number, (label, (claim, measure, unit)) in enumerate(every):
            effect = 30 + 40 * np.sin(2.1 * number + place) if number != 5 else np.nan
            rows.append(
                {
                    "id": f"A{number + 1}", "open": "what was left open", "alternative": label, "task": task,
                    "claim": claim, "measure": measure, "unit": unit, "ledger": "executed",
                    "effect_default": 30.0, "effect_alternative": effect, "low": effect - 6, "high": effect + 7, "n": 3,
                    "verdict_default": "supported", "changes": effect < 0,
                    "verdict_alternative": "not supported" if effect < 0 else "supported",
                }
            )  # fmt: skip
    pd.DataFrame(rows).to_csv(tables / "sensitivity.csv", index=False)


def write_rivals(tables: Path, tasks: Iterable[str]) -> None:
    """``rivals.csv``, its probabilities of improvement: of every method but vanilla, by task and over them."""
    rng, senses = np.random.default_rng(1), ("equal_compute", "equal_loss", "convergence")
    rows = []
    for method in method_groups.of_groups(method_groups.METHOD_ORDER, ("MAT", "baselines", "rivals")):
        same = {"scale": "demo", "method": method, "group": method_groups.group(method)}
        values = {task: dict(zip(senses, rng.uniform(size=3), strict=True)) for task in tasks}
        rows += [
            {**same, "task": task, **{f"better_{sense}": value for sense, value in found.items()}}
            for task, found in values.items()
        ]
        means = {sense: float(np.mean([found[sense] for found in values.values()])) for sense in senses}
        over = {"": 0.0, "_low": -0.1, "_high": 0.1}
        rows.append(
            {**same, "task": "over tasks", **{
                f"better_{sense}{end}": mean + shift for sense, mean in means.items() for end, shift in over.items()
            }}
        )  # fmt: skip
    pd.DataFrame(rows).to_csv(tables / "rivals.csv", index=False)


def write_branches(tables: Path, seeds: int = 3) -> None:
    """``trainability.csv``, ``trainability_modules.csv``, ``generalisation.csv``; the vgg family has wrong labels."""
    rng = np.random.default_rng(0)
    modules, rhos, sets = [], [], []
    for family, (task, kinds) in FAMILIES.items():
        same = {"scale": "demo", "family": family, "task": task, "model": family, "loss_unit": "nats"}
        for checkpoint in ("0.1", "0.5"):
            for seed in range(seeds):
                for number in range(16):
                    value = 10 ** rng.uniform(-1, 3)
                    modules.append(
                        {
                            **same, "seed": seed, "checkpoint": checkpoint, "share": float(checkpoint),
                            "module": f"m{number}", "kind": kinds[number % len(kinds)], "layer": number // 4,
                            "parameters": 100, "lambda_max": value, "branch_steps": 20,
                            "loss_decrease": 0.02 * np.log10(value) + 0.02 * rng.standard_normal(),
                        }
                    )  # fmt: skip
        for checkpoint in ("0.1", "0.5", "all"):
            for number, (quantity, given) in enumerate((*((name, "") for name in QUANTITIES), *PARTIAL)):
                mean = 0.8 * np.cos(number)
                rhos.append(
                    {
                        **same, "checkpoint": checkpoint, "quantity": quantity, "given": given, "mean": mean,
                        "low": max(-1, mean - 0.2), "high": min(1, mean + 0.2), "n": seeds, "deviation": 0.1,
                        "branch_steps": 20,
                    }
                )  # fmt: skip
            wrong = family == "vgg"
            for number, (name, minus) in enumerate(
                (*((name, "") for name in ("top", "bottom", "random", "all", "none")), *PAIRS)
            ):
                for measure, scale in (("train_loss_decrease", 0.3), ("val_loss_change", -0.2), ("gap_change", 0.1),
                                       ("memorised", 20.0 if wrong else np.nan)):  # fmt: skip
                    mean = scale * (1.2 + np.sin(number))
                    sets.append(
                        {
                            **same, "checkpoint": checkpoint, "set": name, "minus": minus, "measure": measure,
                            "mean": mean, "low": mean - abs(scale) / 3, "high": mean + abs(scale) / 3, "n": seeds,
                            "deviation": abs(scale) / 8,
                            "unit": "points" if measure == "memorised" else "nats", "set_share": 0.34,
                            "branch_steps": 60, "corrupted": 50 if wrong else 0,
                        }
                    )  # fmt: skip
    for name, rows in (("trainability_modules", modules), ("trainability", rhos), ("generalisation", sets)):
        pd.DataFrame(rows).to_csv(tables / f"{name}.csv", index=False)


def step_times(tasks: Iterable[str], macs: float, overhead: float = 0.0) -> pd.DataFrame:
    """A dense step of ``macs`` lasts 1 s; a sparse one as much of it as of its MACs, and ``overhead`` more."""
    rows = [
        {
            "scale": "demo", "task": task, "family": task, "mode": mode, "active_share": share, "active": 1,
            "rounds": 3,
            "macs_ratio": ratio, "seconds_ratio": ratio + overhead, "seconds_ratio_low": ratio + overhead - 0.01,
            "seconds_ratio_high": ratio + overhead + 0.02, "other_clock_ratio": ratio, "dense_macs": macs,
            "dense_seconds": 1.0, "clock": "CPU seconds", "modules": 4, "model": "bert", "device": "cpu",
            "cpu": "a processor", "threads": 1, "code_hash": "c0de",
        }
        for task in tasks
        for mode, share, ratio in (
            ("detach", 0.0, 0.3), ("detach", 1.0, 1.0), ("exact", 0.0, 0.6), ("exact", 1.0, 1.0), ("probe", 1.0, 4.0)
        )
    ]  # fmt: skip
    return pd.DataFrame(rows)
