"""What the config expands to, and the functions that rules ask."""

import json
from os import environ
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mat.agreement_plan import jobs as agreement_jobs
from mat.ceiling_plan import plan as ceiling_plan
from mat.errors import InputError
from mat.grid import expand as expand_config
from mat.run import CHECKPOINT, FILES, code_hash

# Where and on what it runs changes no specification; everything else in the config does.
MACHINE = ("data", "cache", "device")
DEVICE = config.get("device", "cpu")
# through the environment, not through parameters: a moved mirror or cache is no reason to train again
for key, variable in (("data", "MAT_DATA"), ("cache", "MAT_CACHE")):
    if config.get(key):
        environ[variable] = str(config[key])
if environ.get("MAT_DATA") and not Path(environ["MAT_DATA"]).is_dir():
    raise WorkflowError(
        f"the data folder {environ['MAT_DATA']} does not exist; set MAT_DATA (or --config data=DIR) to a "
        "mirror in hub layout, or leave it out to read from the hub"
    )

RESULTS = f"results/{SCALE}"
TABLES = f"{RESULTS}/tables"
FIGURES = f"paper_figures/{SCALE}"
EVIDENCE = sorted(Path(workflow.basedir, "mat/evidence").glob("*.py"))


def expand_runs():
    """Every run of the scale and every measurement of estimators, by name, and what the ceiling is asked for; a
    config that cannot be used ends here, before any job."""
    content = {key: value for key, value in config.items() if key not in MACHINE}
    try:
        runs, jobs, ceiling = expand_config(content), agreement_jobs(content), ceiling_plan(content)
    except InputError as error:
        raise WorkflowError(f"config of scale {SCALE}: {error}")
    return {run.spec.name: run for run in runs}, {job.name: job for job in jobs}, ceiling


RUNS, JOBS, PLAN = expand_runs()
AGREEMENT = [f"{TABLES}/agreement.{kind}" for kind in ("csv", "md")] if JOBS else []
CEILING = [f"{TABLES}/{name}" for name in ("ceiling_parts.csv", "ceiling.csv", "ceiling.md")] if PLAN else []
STARTS = {run.starts_from for run in RUNS.values()} - {None}
TASKS = sorted({run.task for run in RUNS.values()})
FIGURE_NAMES = (
    "dynamics",
    "loss_vs_compute",
    "active_map",
    *(["estimators"] if JOBS else []),
    *(["ceiling"] if PLAN else []),
)


def task_spec(wildcards):
    """A specification of the task label: task, model, recipe and probe are the same in all of its runs."""
    return next(run.spec.json for run in RUNS.values() if run.task == wildcards.task)


def run_inputs(wildcards):
    """The run's data; that run's record of active modules which its method follows, and that run's checkpoint which
    it starts from."""
    run = RUNS[wildcards.run]
    needed = [f"{RESULTS}/data/{run.task}.json"]
    if run.follows:
        needed.append(f"{RESULTS}/runs/{run.follows}/probes.parquet")
    if run.starts_from:
        needed += [f"{RESULTS}/runs/{run.starts_from}/{name}" for name in CHECKPOINT]
    return needed


def run_spec(wildcards):
    return RUNS[wildcards.run].spec.json


def run_labels(wildcards):
    return json.dumps(RUNS[wildcards.run].labels)


def run_threads(wildcards):
    return RUNS[wildcards.run].spec.threads


def job_data(wildcards):
    return f"{RESULTS}/data/{JOBS[wildcards.job].task}.json"


def job_json(wildcards):
    return JOBS[wildcards.job].json


def job_threads(wildcards):
    return JOBS[wildcards.job].spec.threads


def ceiling_json(wildcards):
    return json.dumps({key: config[key] for key in ("scale", "tasks", "ceiling")})


def figure_tables(wildcards):
    """The pooled runs, which every figure reads; the other tables for their own figures alone."""
    own = {"estimators": AGREEMENT[:1], "ceiling": CEILING[:2]}
    return [*rules.collect.output, *own.get(wildcards.figure, [])]


def run_folders(wildcards, input):
    return sorted({str(Path(file).parent) for file in input.runs})
