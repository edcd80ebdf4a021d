"""What jobs ask a cluster for: minutes, memory and GPUs of what computes, by the plan's closed forms, and more of it at
every attempt. On one machine, where nobody is asked, no shapes are counted."""

from mat.experiments.cli import retries
from mat.experiments.planning import requests


def read_requests():
    """At --config rate=GFLOP/s of one run, or at what any machine reaches."""
    try:
        rate = requests.rate_of(config.get("rate"), DEVICE, CONTENT.threads)
    except InputError as error:
        raise WorkflowError(str(error))
    return requests.Requests(DEVICE, rate)


REQUESTS = read_requests()
GPUS = 1 if DEVICE == "cuda" else None


def minutes_of(one, attempt):
    return requests.START if workflow.local_exec else REQUESTS.minutes(one, attempt)


def megabytes_of(one, attempt):
    return requests.PROCESS if workflow.local_exec else REQUESTS.megabytes(one, attempt)


def run_minutes(wildcards, attempt):
    return minutes_of(RUNS[wildcards.run], attempt)


def run_megabytes(wildcards, attempt):
    return megabytes_of(RUNS[wildcards.run], attempt)


def job_minutes(wildcards, attempt):
    return minutes_of(job_named(wildcards), attempt)


def job_megabytes(wildcards, attempt):
    return megabytes_of(job_named(wildcards), attempt)


def submitted(number):
    """The job, or the group of jobs, that was submitted for a job's number; None of what is fetched, whose refusals are
    also those of a network."""
    job = next(job for job in workflow.dag.jobs if workflow.dag.jobid(job) == number)
    return None if job.rule.name == "fetch" else workflow.dag.get_job_group(job) or job
