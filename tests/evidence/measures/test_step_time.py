"""A run's seconds by arithmetic, by hand and against a sum over single steps."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.evidence.measures.step_time import StepTimes
from tests.evidence.synthetic_tables import step_times

MACS = 100.0
TIMES = StepTimes.of(step_times(["t"], MACS, overhead=0.1))


def curve(steps, macs, probes=0.0):
    """Evaluations at ``steps`` with executed MACs so far."""
    frame = pd.DataFrame({"step": steps, "macs_executed": macs})
    return frame.assign(macs_executed_probe=probes, macs_eigen=0.0)


def test_seconds_by_hand():
    """Ten dense steps, ten at 0.65 of their MACs, which is half way between 0.3 and 1; a probe of four dense steps."""
    own = curve([0, 10, 20], [0.0, 10 * MACS, 16.5 * MACS], probes=4 * MACS)
    assert TIMES.seconds(own, "dense", charged=False) == pytest.approx(20.0, rel=1e-12)
    assert TIMES.seconds(own, "detach", charged=False) == pytest.approx(10 * 1.1 + 10 * 0.75, rel=1e-12)
    assert TIMES.seconds(own, "detach", charged=True) == pytest.approx(18.5 + 4.1, rel=1e-12)
    assert np.isnan(TIMES.seconds(own, "other", charged=False))
    assert TIMES.spread == pytest.approx(0.03)


@given(st.lists(st.floats(0.3, 1.0), min_size=2, max_size=12), st.data())
def test_seconds_add_up_wherever_a_run_is_evaluated(ratios, data):
    """The line is straight here, so that means over any stretch of steps give what single steps do."""
    macs = MACS * np.concatenate([[0.0], np.cumsum(ratios)])
    kept = data.draw(st.sets(st.integers(1, len(ratios) - 1))) | {0, len(ratios)}
    places = sorted(kept)
    whole = TIMES.seconds(curve(places, macs[places]), "detach", charged=False)
    assert whole == pytest.approx(sum(ratio + 0.1 for ratio in ratios), rel=1e-9)


def test_without_a_timed_probe_charged_probes_have_no_seconds():
    rows = step_times(["t"], MACS)
    times = StepTimes.of(rows[rows["mode"] != "probe"])
    own = curve([0, 10], [0.0, 10 * MACS], probes=MACS)
    assert np.isnan(times.seconds(own, "exact", charged=True))
    assert times.seconds(own, "exact", charged=False) == pytest.approx(10.0)
