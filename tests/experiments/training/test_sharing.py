"""Several processes of one run: their number in its identity and their shares of a batch."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mat import processes
from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.experiments.tasks.base import Batch
from mat.experiments.training import sharing
from tests.experiments.training.test_loop import DIGITS, STEP, TEXT, trained


def spec(number=None, base=TEXT, **more):
    return Spec.of({**base, "method": {"name": "mat"}, "processes": number, **more})


def test_the_number_of_processes_names_a_run_only_above_one():
    assert spec().name == spec(1).name != spec(2).name != spec(4).name
    assert Spec.of(json.loads(spec(2).json)).name == spec(2).name


@pytest.mark.parametrize(
    ("number", "more", "message"),
    [
        (3, {}, r"batch is shared by 3 processes, so it must be a multiple of that, got 8"),
        (2, {"probe": STEP}, r"n of at most 4 \(recipe: batch, over the processes\), got 6"),
        (
            2,
            {"probe": {**STEP, "n": 4}, "method": {"name": "vanilla", "observe": True}},
            "cannot read what vanilla trains",
        ),
        (0, {}, "processes: expected a number ≥ 1, got 0"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_any_compute(number, more, message):
    with pytest.raises(InputError, match=message):
        spec(number, **more)


def test_a_run_is_refused_by_another_number_of_processes(tmp_path):
    with pytest.raises(InputError, match=r"the run is of 2 processes, here are 1: start it by torchrun --nproc-per"):
        trained(spec(2, DIGITS), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@given(labels=st.lists(st.sampled_from([-100, 0, 1]), min_size=12, max_size=12), number=st.sampled_from([1, 2, 3, 4]))
def test_weighted_means_of_the_shares_have_the_mean_over_all_counted_labels(labels, number):
    values = torch.arange(12, dtype=torch.float64)
    whole, parts, seen = Batch({"x": values}, torch.tensor(labels)), [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "count", lambda: number)
        for rank in range(number):
            patch.setattr(processes, "rank", lambda rank=rank: rank)
            own, weight = sharing.share(whole)
            seen.append(own.inputs["x"])
            counted = own.inputs["x"][own.labels != -100]
            assert number == 1 or (weight == 0) == (len(counted) == 0)
            parts.append(weight * counted.mean() if len(counted) else torch.zeros(()))
    assert torch.equal(torch.cat(seen), values)
    counted = values[whole.labels != -100]
    assert torch.stack(parts).mean().item() == pytest.approx(counted.mean().item() if len(counted) else 0.0)
