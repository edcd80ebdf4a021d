import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("mat", deadline=None, max_examples=15, derandomize=True)
settings.load_profile("mat")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
