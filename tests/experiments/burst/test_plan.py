"""What a burst's minutes are enough for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mat.errors import InputError
from mat.experiments.burst import plan
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.training.cost import run_cost

TINY = Path(__file__).with_name("tiny.yaml")
RUNS = expand(read_scale(TINY))


def test_every_method_is_run_with_one_seed_before_any_with_the_next():
    found = plan.chosen(RUNS, "noise")
    assert [(run.spec.seed, run.method) for run in found] == [(s, label) for s in (0, 1) for label in plan.HEADLINE]
    done: set[str] = set()
    for run in found:
        assert run.follows is None or run.follows in done
        done.add(run.spec.name)


def test_the_papers_scale_has_the_headline():
    config = read_scale("paper", configs=Path(__file__).parents[3] / "workflows/config")
    found = plan.chosen(expand(config), "bert_wikitext2")
    assert [run.method for run in found[: len(plan.HEADLINE)]] == list(plan.HEADLINE)


def test_a_task_without_such_runs_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"no run of 'nothing' .* tasks: noise, text"):
        plan.chosen(RUNS, "nothing")


def test_seconds_are_those_of_the_closed_forms_at_the_rate_and_ends_add_up():
    runs = plan.chosen(RUNS, "noise")
    sizes = {"train": 64, "validation": 8, "test": 8}
    slow, fast = plan.planned(runs, 1.0, sizes), plan.planned(runs, 2.0, sizes)
    for a, b in zip(slow, fast, strict=True):
        _, *macs = run_cost(a.run.spec)
        assert a.seconds == pytest.approx(2 * sum(macs) / 1e9 + plan.SETUP, rel=1e-12)
        assert b.seconds - plan.SETUP == pytest.approx((a.seconds - plan.SETUP) / 2, rel=1e-9)
    assert [part.ends for part in slow] == pytest.approx([sum(p.seconds for p in slow[: i + 1]) for i in range(10)])
    half = plan.planned(runs, 1.0, sizes | {"train": 32})
    for a, b in zip(slow, half, strict=True):
        assert b.seconds - plan.SETUP == pytest.approx((a.seconds - plan.SETUP) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("device", "rate"), [("NVIDIA H100 80GB HBM3", 200e3), ("cpu", 10.0), ("something new", plan.UNKNOWN)]
)
def test_a_device_has_an_assumed_rate_until_a_step_is_timed(device, rate):
    assert plan.assumed(device) == rate
    assert plan.measured(10**12, 0.5) == 4000


@pytest.mark.parametrize(("seconds", "kept"), [(540, 30), (60, 6), (1, 0.1)])
def test_some_time_is_kept_for_the_state_and_the_export(seconds, kept):
    assert plan.margin(seconds) == pytest.approx(kept)
