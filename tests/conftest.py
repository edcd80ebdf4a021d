import gc
import os
import signal

import pytest
from hypothesis import settings

gc.disable()  # nothing that modules define is garbage
settings.register_profile("mat", deadline=None, max_examples=15, derandomize=True)
settings.load_profile("mat")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits leaves its core to the other tests


def pytest_collection_finish():
    """What all modules have defined stays: no collection of garbage, such as Trainer's own, goes through it again."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def foreground():
    """Signals as a command finds them that was started in the foreground."""
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
