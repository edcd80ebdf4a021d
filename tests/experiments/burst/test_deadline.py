"""Work that is interrupted when its time is up."""

from __future__ import annotations

import signal
import time

import pandas as pd
import pytest

from mat.experiments.burst import plan
from mat.experiments.burst.deadline import until
from mat.experiments.training.machine import Machine
from mat.experiments.training.run import train
from mat.records.files import CURVE, FINAL, PROBES, read_whole
from tests.experiments.burst.test_plan import RUNS


def test_what_runs_longer_ends_with_its_block_and_the_alarm_with_it():
    usual = signal.getsignal(signal.SIGALRM)
    begun = time.monotonic()
    with until(begun + 0.05):
        time.sleep(60)
    assert 0.05 <= time.monotonic() - begun < 60
    assert signal.getsignal(signal.SIGALRM) is usual and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_interrupt_of_someones_own_goes_on():
    with pytest.raises(KeyboardInterrupt), until(time.monotonic() + 600):
        raise KeyboardInterrupt


def test_a_run_that_is_cut_off_goes_on_to_the_same_numbers(tmp_path):
    run = plan.chosen(RUNS, "noise")[1]
    assert run.method == "mat"

    def time_is_up(line: str, share: float) -> None:
        if line.startswith("step 8/"):
            signal.raise_signal(signal.SIGALRM)

    folder = tmp_path / "cut" / run.spec.name
    with until(time.monotonic() + 600):
        train(run.spec, folder, Machine(cache=tmp_path), report=time_is_up)
    assert not (folder / FINAL).exists() and list((tmp_path / "cut/.state").glob(f"{run.spec.name}-*/*"))
    again: list[str] = []
    train(run.spec, folder, Machine(cache=tmp_path), report=lambda line, share: again.append(line))
    assert not any("step 8/" in line for line in again), "it began again instead of going on"
    train(run.spec, tmp_path / "whole", Machine(cache=tmp_path))
    for name in (CURVE, PROBES):
        one, other = (read_whole(place / name) for place in (folder, tmp_path / "whole"))
        clocks = [column for column in one if column.startswith("seconds")]
        pd.testing.assert_frame_equal(one.drop(columns=clocks), other.drop(columns=clocks), check_exact=True)
