"""What a training step can save at most: its work by part, and what is left of it at a given active share.

Closed-form ledger: multiply-adds (MACs) of matrix products and convolutions, forward and backward, of one step.
No probe, no optimizer, no evaluation, and no effect on the number of steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from mat.backward.sparse import MODES
from mat.experiments.models.closed_form import REMAINDER
from mat.experiments.studies.ceiling.config import Plan, Subject
from mat.seeds import stream_seed

SHARES = tuple(step / 20 for step in range(21))


def kind_of(name: str) -> str:
    """The kind of a module by its name in ``work``: layer1.expert3 is an expert."""
    return re.sub(r"\d+$", "", name.rpartition(".")[2])


def parts(subjects: Iterable[Subject], scale: str) -> pd.DataFrame:
    """One row per model and kind of module: MACs of a dense step by forward pass, weight gradients and input
    gradients, in all and in percent of the step; what the model is beside it."""
    return pd.DataFrame(row for subject in subjects for row in _parts_of(subject, scale))


def _parts_of(subject: Subject, scale: str) -> Iterator[dict[str, Any]]:
    work, reported = subject.work(), subject.reported
    dense = sum(map(sum, work.values()))
    about = {
        "scale": scale,
        "label": subject.label,
        "source": subject.source,
        "model": subject.model.name,
        "input": ", ".join(f"{name} {' × '.join(map(str, s))}" for name, s in subject.shapes.items()),
        "outputs": subject.outputs,
        "batch": subject.batch,
        "modules": len(work) - 1,
        "dense_macs": dense,
        "forward_total_macs": sum(one.forward for one in work.values()),
        "reported_vanilla_pflop": math.nan if reported is None else reported.vanilla,
        "reported_mat_pflop": math.nan if reported is None else reported.mat,
        "note": subject.note,
    }
    for kind in dict.fromkeys(map(kind_of, work)):
        names = [name for name in work if kind_of(name) == kind]
        row = about | {"kind": kind, "kind_modules": 0 if kind == REMAINDER else len(names)}
        for part in ("forward", "input", "weight"):
            macs = sum(getattr(work[name], part) for name in names)
            row |= {f"{part}_macs": macs, f"{part}_percent": 100 * macs / dense}
        yield row


def savings(subjects: Iterable[Subject], plan: Plan) -> pd.DataFrame:
    """One row per model, backward mode and active share: what a step saves, in percent of the dense step.

    ``mean``, ``min`` and ``max`` over the plan's random active sets, drawn uniformly among those of that size;
    the sets of one draw grow with the share, so that the mean falls with it exactly. ``least`` and ``most`` over
    all sets of that size.
    """
    return pd.DataFrame(row for subject in subjects for row in _savings_of(subject, plan))


def _savings_of(subject: Subject, plan: Plan) -> Iterator[dict[str, Any]]:
    work = subject.work()
    names = [name for name in work if name != REMAINDER]
    dense = sum(map(sum, work.values()))
    random = np.random.default_rng(stream_seed(plan.settings.seed, "ceiling", subject.label))
    orders = [random.permutation(names).tolist() for _ in range(plan.settings.draws)]
    for mode in MODES:
        for share in sorted({*SHARES, plan.settings.reported.active_share}):
            count = math.floor(share * len(names) + 0.5)
            macs = [work.step(order[:count], mode) for order in orders]
            least, most = work.extremes(count, mode)
            yield {
                "scale": plan.scale,
                "label": subject.label,
                "mode": mode,
                "share": share,
                "active": count,
                "modules": len(names),
                "draws": len(macs),
                "saving_mean": 100 * (1 - sum(macs) / (len(macs) * dense)),
                "saving_min": 100 * (1 - max(macs) / dense),
                "saving_max": 100 * (1 - min(macs) / dense),
                "saving_least": 100 * (1 - most / dense),
                "saving_most": 100 * (1 - least / dense),
                "reported_active_share": plan.settings.reported.active_share,
                "reported_low": plan.settings.reported.savings[0],
                "reported_high": plan.settings.reported.savings[1],
            }
