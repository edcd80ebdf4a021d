"""The line that says how far Snakemake is: its arithmetic, and what it leaves of what Snakemake says."""

import io
import logging
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.experiments.cli.progress import ERASE, STREAM, Progress, duration, end, name_of, show


def test_what_is_left_is_the_closed_form_times_what_was_observed():
    progress = Progress({"a": 10.0, "b": 30.0, "c": 20.0}, Counter(["a", "b", "c", "table", "table"]))
    progress.start(1, "a", now=0.0)
    assert math.isnan(progress.seconds_left(1.0))
    progress.end(1, now=5.0)  # half a second for each unit of work
    assert progress.seconds_left(5.0) == 15 + 10  # tables have not been seen
    progress.start(2, "b", now=5.0)
    progress.start(3, "table", now=5.0)
    progress.end(3, now=8.0)
    assert progress.seconds_left(11.0) == ((15 - 6) + 10 + 3) / 2  # two at once
    assert progress.seconds_left(100.0) == (0 + 10 + 3) / 2
    assert progress.line(11.0) == "2 of 5 jobs done, about 11 s left  b"


def test_a_job_that_failed_is_still_to_be_done():
    progress = Progress({}, Counter(["table"]))
    for job in (1, 1):
        progress.start(job, "table", now=0.0)
        progress.fail(job)
    assert progress.line(0.0).startswith("0 of 1 jobs done")


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.1, 10), st.booleans()), max_size=12),
    st.dictionaries(st.sampled_from("abcd"), st.floats(1, 100)),
)
def test_what_is_left_is_no_less_than_nothing_and_all_jobs_are_counted(steps, work):
    progress, now = Progress(work, Counter(name for name, _, _ in steps)), 0.0
    for job, (name, seconds, ends) in enumerate(steps):
        progress.start(job, name, now)
        now += seconds
        if ends:
            progress.end(job, now)
        left = progress.seconds_left(now)
        assert math.isnan(left) or left >= 0
        assert f"of {len(steps)} jobs" in progress.line(now)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119.5, "120 s"), (121, "3 min"), (7199, "120 min"), (9000, "2.5 h")]
)
def test_durations_are_said_in_the_unit_that_fits(seconds, said):
    assert duration(seconds) == said


def test_runs_are_named_by_themselves_and_other_jobs_by_their_rule():
    assert name_of("train", {"run": "digits-vgg-mat-s0-1"}) == "digits-vgg-mat-s0-1"
    assert name_of("study", {"study": "agreement", "job": "bert-s0-1"}) == "bert-s0-1"
    assert name_of("table", {"table": "scores"}) == "table scores"
    assert name_of("collect", {}) == "collect"


@pytest.fixture
def logger():
    made = logging.Logger("workflow")
    made.addHandler(logging.StreamHandler(io.StringIO()))
    made.handlers[0].name = STREAM
    return made


def test_warnings_and_errors_are_shown_and_the_rest_once_the_line_has_ended(logger):
    said, terminal = logger.handlers[0].stream, io.StringIO()
    show(logger, ["train"], {}, terminal)
    logger.info("one", extra={"event": "job_info", "jobid": 1, "rule_name": "train", "wildcards": {}})
    assert terminal.getvalue().endswith(f"{ERASE}0 of 1 jobs done  train")
    logger.error("two", extra={"event": "job_error", "jobid": 1})
    end(logger)
    assert terminal.getvalue().endswith(ERASE)
    logger.info("three")
    assert said.getvalue() == "two\nthree\n"
    assert len(logger.handlers) == 1
