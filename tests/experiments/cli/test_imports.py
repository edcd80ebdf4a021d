"""What is imported when, each in a fresh interpreter: a run waits for nothing that it does not use."""

import subprocess
import sys

import pytest

SCALE = """
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.studies.registry import jobs
scale = read_scale({!r})
expand(scale), jobs(scale)
"""
RUN = "import mat.experiments.training.run, mat.methods.mat, {}"
VGG = RUN.format("mat.experiments.tasks.digits, mat.experiments.tasks.cifar10, mat.experiments.models.vgg")
BERT = RUN.format("mat.experiments.tasks.hmm, mat.experiments.tasks.glue, mat.experiments.models.bert")
HEAVY = {"torchvision", "transformers", "datasets", "sklearn", "matplotlib"}


@pytest.mark.parametrize(
    ("code", "without"),
    [
        *((SCALE.format(name), HEAVY) for name in ("demo", "subset", "paper")),
        (VGG, HEAVY),
        (BERT, HEAVY),
        ("import mat.evidence.catalogue.tables, mat.evidence.report.files", {*HEAVY, "torch"}),
        ("import mat.experiments.cli.handover", {*HEAVY, "torch", "numpy", "pandas", "click"}),
    ],
    ids=["demo", "subset", "paper", "vgg", "bert", "evidence", "handover"],
)
def test_nothing_heavy_is_imported_that_is_not_used(code, without):
    said = f"{code}\nimport sys\nprint(*({without!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
