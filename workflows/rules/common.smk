"""What the config expands to, and the functions that rules ask."""

import json
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mat.errors import InputError
from mat.run import FILES, code_hash
from mat.spec import expand as expand_config

# Where and on what it runs changes no specification; everything else in the config does.
MACHINE = ("data", "cache", "device")
DEVICE = config.get("device", "cpu")
WHERE = f"--cache {config.get('cache', '.mat-cache')}"
if config.get("data"):
    WHERE += f" --data {config['data']}"

RESULTS = f"results/{SCALE}"
TABLES = f"{RESULTS}/tables"
FIGURES = f"paper_figures/{SCALE}"
FIGURE_NAMES = ("dynamics", "loss_vs_compute", "active_map")
EVIDENCE = sorted(Path(workflow.basedir, "mat/evidence").glob("*.py"))


def expand_runs():
    """Every run of the scale by name; a config that cannot be used ends here, before any job."""
    try:
        runs = expand_config({key: value for key, value in config.items() if key not in MACHINE})
    except InputError as error:
        raise WorkflowError(f"config of scale {SCALE}: {error}")
    return {run.spec.name: run for run in runs}


RUNS = expand_runs()


def task_settings(wildcards):
    """The settings of a task label, as JSON; every run of a label has the same."""
    return json.dumps(next(dict(run.spec.task) for run in RUNS.values() if run.task == wildcards.task))


def run_inputs(wildcards):
    """The run's data and, where its method follows another run, that run's record of active modules."""
    run = RUNS[wildcards.run]
    needed = [f"{RESULTS}/data/{run.task}.json"]
    if run.needs:
        needed.append(f"{RESULTS}/runs/{run.needs}/probes.parquet")
    return needed


def run_spec(wildcards):
    return RUNS[wildcards.run].spec.json


def run_labels(wildcards):
    return json.dumps(RUNS[wildcards.run].labels)


def run_threads(wildcards):
    return RUNS[wildcards.run].spec.threads


def run_folders(wildcards, input):
    return sorted({str(Path(file).parent) for file in input.runs})
