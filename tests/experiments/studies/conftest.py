"""What the studies measure on their small scales, once for all tests."""

import pytest
import torch

from mat.experiments.studies.registry import STUDIES
from tests.experiments.studies.mini import job


def _measured(study, tmp_path_factory):
    torch.set_num_threads(1)
    return STUDIES[study].session.measure(job(study), tmp_path_factory.mktemp("measured") / "vgg.csv.gz")


@pytest.fixture(scope="session")
def agreement(tmp_path_factory):
    return _measured("agreement", tmp_path_factory)


@pytest.fixture(scope="session")
def branches(tmp_path_factory):
    return _measured("branches", tmp_path_factory)
