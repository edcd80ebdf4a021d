"""What a Kubernetes is sent by the profile: the manifest of a run's job, from the executor itself, in front of an API
that keeps it and says that the job failed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.planning.requests import Requests

REPOSITORY = Path(__file__).parents[2]
MINI = REPOSITORY / "tests/end_to_end/mini.yaml"
API = """
import json, sys
from types import SimpleNamespace
from unittest import mock

import kubernetes
from snakemake import cli

made = []


class Batch:
    def create_namespaced_job(self, namespace, body):
        made.append(kubernetes.client.ApiClient().sanitize_for_serialization(body))

    def read_namespaced_job_status(self, *_):
        return SimpleNamespace(status=SimpleNamespace(failed=1, succeeded=0))


core = mock.MagicMock()
core.list_namespaced_pod.return_value = SimpleNamespace(items=[])
kubernetes.config.load_kube_config = lambda: None
kubernetes.client.CoreV1Api, kubernetes.client.BatchV1Api = lambda: core, Batch
try:
    cli.main(sys.argv[2:])
finally:
    with open(sys.argv[1], "w") as file:
        json.dump(made, file)
"""


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Of a run that is tried three times; its data are there."""
    pytest.importorskip("snakemake_executor_plugin_kubernetes", reason='pip install … ".[kubernetes]"')
    pytest.importorskip("snakemake_storage_plugin_fs", reason='pip install … ".[kubernetes]"')
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed, which the storage plugin of a volume calls")
    root = tmp_path_factory.mktemp("volume")
    for name in ("mat", "workflows", "paper_figures"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.png", "*.pdf"))
    shutil.copy(REPOSITORY / "Snakefile", root)
    shutil.copy(MINI, root / "workflows/config")
    (root / "api.py").write_text(API)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)  # what is tracked goes to the pods
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    (root / "results/mini/data").mkdir(parents=True)
    (root / "results/mini/data/digits.json").write_text("{}")
    here = [str(root), str(root / "scratch")]
    places = ["--directory", here[0], "--default-storage-prefix", here[0], "--local-storage-prefix", here[1]]
    command = [sys.executable, "api.py", "made.json", "--profile", "workflows/profiles/kubernetes", *places]
    command += ["--remote-job-local-storage-prefix", here[1], "--seconds-between-status-checks", "0"]
    command += [
        "--rerun-triggers",
        "mtime",
        "--config",
        "scale=mini",
        "--",
        f"results/mini/runs/{run().spec.name}/final.json",
    ]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=400)
    assert (root / "made.json").is_file(), done.stderr[-3000:]
    found = json.loads((root / "made.json").read_text())
    assert len(found) == 3, done.stderr[-3000:]
    return [one["spec"]["template"]["spec"] for one in found]


def run():
    """Vanilla on the digits."""
    return next(one for one in expand(read_scale(MINI)) if (one.task, one.method) == ("digits", "vanilla"))


def test_a_run_asks_for_a_gpu_and_for_memory_that_grows_as_limits_and_requests(manifests):
    for attempt, pod in enumerate(manifests, 1):
        asked = pod["containers"][0]["resources"]
        memory = f"{Requests('cuda', 1.0).megabytes(run(), attempt)}M"
        for kind in ("limits", "requests"):
            assert asked[kind]["nvidia.com/gpu"] == "1"
            assert asked[kind]["memory"] == memory


def test_a_run_works_in_the_image_on_the_volume(manifests):
    pod = manifests[0]
    (container,) = pod["containers"]
    assert container["image"].endswith("/mat-reference:0.1.0")
    assert {"name": "mat", "mountPath": "/mat"} in container["volumeMounts"]
    assert {"name": "mat", "persistentVolumeClaim": {"claimName": "mat"}} in pod["volumes"]
    assert f"'train:run={run().spec.name}'" in container["args"][1]
    assert pod["restartPolicy"] == "Never"  # Snakemake tries again, and asks for more
