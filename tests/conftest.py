import gc
import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("mat", deadline=None, max_examples=15, derandomize=True)
settings.load_profile("mat")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_finish():
    """What all modules have defined stays: no collection of garbage, such as Trainer's own, goes through it again."""
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
