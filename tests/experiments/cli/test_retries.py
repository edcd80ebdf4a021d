"""What Snakemake tries again: by itself, on a workflow of two rules that fail for different reasons."""

import logging
import subprocess
import sys

import pytest

from mat.experiments.cli.retries import NoSecondRefusal, refused

SNAKEFILE = """
from snakemake.logging import logger
from mat.experiments.cli.retries import NoSecondRefusal


def job_of(number):
    return next(job for job in workflow.dag.jobs if workflow.dag.jobid(job) == number)


onstart:
    logger.addHandler(NoSecondRefusal(job_of))


rule all:
    input: "refused.txt", "killed.txt"


rule one:
    output: "{how}.txt"
    log: "{how}.log"
    params:
        says=lambda wildcards: {"refused": "mat: error: no such task", "killed": "step 3"}[wildcards.how]
    shell: "echo x >> {wildcards.how}.attempts; echo {params.says} > {log}; exit 2"
"""


def test_what_is_refused_is_not_tried_again_and_what_fails_otherwise_is(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--retries", "2", "--keep-going"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    attempts = {how: len((tmp_path / f"{how}.attempts").read_text().split()) for how in ("refused", "killed")}
    assert attempts == {"refused": 1, "killed": 3}, done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mat: error: no such task\n", True),
        ("mat: x -> y on z\n" + "step 1\n" * 2000 + "mat: error: it is full; make room\n", True),
        ("mat: error: said by an earlier command\nKilled\n", False),
        ("", False),
        (None, False),
    ],
)
def test_a_refusal_is_the_last_line_of_a_log(tmp_path, text, expected):
    log = tmp_path / "log"
    if text is not None:
        log.write_text(text)
    assert refused([str(tmp_path / "none"), str(log)]) is expected


class Job:
    def __init__(self, attempt=1, restart_times=2):
        self.attempt, self.restart_times = attempt, restart_times


def test_a_group_is_given_up_with_the_job_that_is_refused_and_a_fetch_never(tmp_path):
    log = tmp_path / "log"
    log.write_text("mat: error: no such task\n")
    group = Job()
    handler = NoSecondRefusal({1: group, 2: None}.get)
    for number in (1, 2):
        record = logging.LogRecord("snakemake", logging.ERROR, "", 0, "", (), None)
        record.event, record.jobid, record.log = "job_error", number, [str(log)]
        handler.emit(record)
    assert group.attempt == 3  # restarts are used up
