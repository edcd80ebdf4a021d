"""What is imported when, each in a fresh interpreter: a run waits for nothing that it does not use."""

import subprocess
import sys

import pytest

SCALES = """
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.studies.registry import jobs
for name in ("demo", "subset", "paper"):
    scale = read_scale(name)
    expand(scale), jobs(scale)
"""
RUNS = """
import mat.experiments.training.run, mat.methods.mat
import mat.experiments.tasks.digits, mat.experiments.tasks.cifar10, mat.experiments.models.vgg
import mat.experiments.tasks.hmm, mat.experiments.tasks.glue, mat.experiments.models.bert
"""
HEAVY = {"torchvision", "transformers", "datasets", "sklearn", "matplotlib"}


@pytest.mark.parametrize(
    ("code", "without"),
    [(SCALES + RUNS, HEAVY), ("import mat.experiments.cli.handover", {*HEAVY, "torch", "numpy", "pandas", "click"})],
    ids=["scales and runs", "handover"],
)
def test_nothing_heavy_is_imported_that_is_not_used(code, without):
    said = f"{code}\nimport sys\nprint(*({without!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
