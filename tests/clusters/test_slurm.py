"""The workflow through a SLURM, from submission to report, and what becomes of jobs that do not end: `make test-slurm`
starts a SLURM of one node for it. A job is cancelled, its node taken away, its time over: each goes on from its state,
to the same numbers as a run that nothing disturbs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from mat.experiments.studies.registry import STUDIES
from mat.records.files import CURVE, ENDING, PROBES, read_whole

REPOSITORY = Path(__file__).parents[2]
PROFILE = "workflows/profiles/slurm"
CONFIG = """
scale: long
seeds: [0]
tasks:
  digits:
    task: {name: digits}
    model: {name: vgg, plan: [8, M, 16, M], filter_groups: 2}
    recipe: {optimizer: sgd, lr: 0.05, decay: all, batch: 32, epochs: 60, evaluate_every: 40}
    probe: {n: 8, every: 80}
methods:
  mat: {name: mat}
"""
PATIENCE = 600  # seconds, for machines that do something else beside

pytestmark = pytest.mark.slurm


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@pytest.fixture(scope="session", autouse=True)
def node():
    """The name of the one node."""
    if shutil.which("sinfo") is None:
        pytest.skip("SLURM is not installed: apt-get install slurm-wlm munge, then make test-slurm")
    if subprocess.run(["sinfo"], capture_output=True).returncode != 0:
        pytest.skip("no SLURM answers here: make test-slurm starts one")
    pytest.importorskip("snakemake_executor_plugin_slurm", reason='pip install -c constraints.txt -e ".[slurm]"')
    return slurm("sinfo", "--noheader", "--format=%n")


@pytest.fixture
def project(tmp_path):
    for name in ("mat", "workflows", "paper_figures"):
        ignored = shutil.ignore_patterns("__pycache__", "*.png", "*.pdf")
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignored)
    shutil.copy(REPOSITORY / "Snakefile", tmp_path)
    shutil.copy(REPOSITORY / "tests/end_to_end/mini.yaml", tmp_path / "workflows/config")
    (tmp_path / "workflows/config/long.yaml").write_text(CONFIG)
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", "MAT_SAVE_EVERY": "0.5"}


def submit(project: Path, *words: str) -> subprocess.Popen:
    """What a user types, but for how soon it looks after its jobs."""
    often = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"]
    command = [sys.executable, "-m", "snakemake", "--profile", PROFILE, *often, *words]
    said = (project / "said.txt").open("w")
    return subprocess.Popen(command, cwd=project, env=environment(project), stdout=said, stderr=said)


def said(project: Path) -> str:
    return (project / "said.txt").read_text()


def until(condition, what: str, project: Path):
    """The first result of ``condition`` that is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"no {what} within {PATIENCE} s:\n{said(project)[-3000:]}\n{slurm('squeue', '--states=all')}")


def numbers(run: Path) -> list:
    """What a run recorded, clocks and machine apart."""
    final = json.loads((run / "final.json").read_text())
    tables = [read_whole(run / name) for name in (CURVE, PROBES)]
    kept = [table[[name for name in table if not name.startswith("seconds")]].to_dict("list") for table in tables]
    return [{key: value for key, value in final.items() if not key.startswith("seconds")}, *map(repr, kept)]


def test_the_miniature_scale_runs_from_submission_to_report(project, node):
    assert submit(project, "--config", "scale=mini").wait(6 * PATIENCE) == 0, said(project)[-5000:]
    results = project / "results/mini"
    assert (results / "report.html").stat().st_size > 10_000
    assert set(pd.read_csv(results / "tables/runs.csv")["status"]) == {"finished", "diverged"}
    submissions = re.findall(r"has been submitted with SLURM jobid \d+ \(log: (.*)\)", said(project))
    runs = list((results / "runs").glob("*/final.json"))
    jobs = [path for study in STUDIES for path in (results / study).glob(f"*{ENDING}")]
    assert len(submissions) == len(runs) + len(jobs) + 2  # data share one, pages another
    for log in submissions:  # they stay, and name the node
        assert re.search(rf"^ *(Host|host): {node}", Path(log).read_text(), re.MULTILINE), log
    for log in results.glob("logs/train/*.log"):
        assert log.read_text().splitlines()[0].endswith(f" on {node}")


def test_a_job_goes_on_from_its_state_when_it_was_cancelled_its_node_went_or_its_time_was_over(project, node):
    workflow = submit(project, "--config", "scale=long", "--", "results/long/tables/runs.csv")
    log = project / "results/long/logs/train"

    def job() -> str | None:
        """The running job that trains."""
        rows = slurm("squeue", "--noheader", "--states=RUNNING", "--format=%i %k").splitlines()
        return next((row.split()[0] for row in rows if "rule_train" in row), None)

    def saved() -> set[str]:
        return {path.name for path in (project / "results/long/runs/.state").glob("digits-*/0*")}

    def further(before: set[str], last: str | None):
        """The training job, once it is another one than the last and has saved a state that was not there before."""
        now = job()
        return now if now != last and saved() - before else None

    try:
        first = until(lambda: further(set(), None), "state of a first job", project)
        slurm("scancel", first)
        until(lambda: f"SLURM-job '{first}' failed, SLURM status is: 'CANCELLED'" in said(project), "cancel", project)
        second = until(lambda: further(saved(), first), "state of a second job", project)
        # drained, the node takes no more jobs; taken down, it loses those it has, and SLURM queues them again
        slurm("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
        slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        until(lambda: job() is None, "end of what ran on the node", project)
        before = saved()
        slurm("scontrol", "update", f"nodename={node}", "state=resume")
        third = until(lambda: further(before, None), "state of the job that was queued again", project)
        assert third == second
        # hung, and over its time
        hung = re.findall(r"^\s*(\d+) .*-m mat train .*--spec", slurm("ps", "-eo", "pid,args"), re.MULTILINE)
        for process in hung:
            os.kill(int(process), signal.SIGSTOP)
        slurm("scontrol", "update", f"jobid={third}", f"EndTime={time.strftime('%FT%T')}")
        until(lambda: f"SLURM-job '{third}' failed, SLURM status is: 'TIMEOUT'" in said(project), "timeout", project)
        assert workflow.wait(PATIENCE) == 0, said(project)[-5000:]
    finally:
        workflow.kill()
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True)

    (run,) = (project / "results/long/runs").glob("digits-*")
    (last,) = log.glob("*.log")
    steps = [int(step) for step in re.findall(r"^step (\d+)/", last.read_text(), re.MULTILINE)]
    assert steps[0] > 0  # it did not begin anew
    spec = json.dumps(json.loads((run / "run.json").read_text())["spec"])
    command = [sys.executable, "-m", "mat", "train", "--spec", spec, "--out", str(project / "alone/run")]
    subprocess.run(command, cwd=project, env=environment(project), check=True, timeout=PATIENCE, capture_output=True)
    assert numbers(run) == numbers(project / "alone/run")
    other = json.loads(spec) | {"seed": 1}  # a control: numbers of different runs are told apart
    command = [*command[:5], json.dumps(other), "--out", str(project / "alone/other"), "--set", "recipe.epochs=2"]
    subprocess.run(command, cwd=project, env=environment(project), check=True, timeout=PATIENCE, capture_output=True)
    assert numbers(run) != numbers(project / "alone/other")
