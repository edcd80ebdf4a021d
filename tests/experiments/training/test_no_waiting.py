"""A training step asks the device for no number, evaluations, probes and counted steps aside.

On a CPU nothing waits, so there the operators are counted that would make a host wait for a GPU; where there is one,
PyTorch's own warnings are.
"""

import math
import warnings

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mat.experiments.config.spec import Spec
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine
from mat.experiments.training.resume import silent
from mat.experiments.training.steps.loss_sum import LossSum
from mat.experiments.training.steps.prefetch import Prefetch
from tests.experiments.training.test_loop import DIGITS, METHODS, ROUTED, TEXT, loop, spec

PADDED = {**TEXT, "task": {"name": "acceptability", "train": 64, "validation": 16, "test": 16, "length": 8}}
# how often a step waits: a layer of experts asks how many tokens each gets, for that is a shape
BASES = {"vgg": (DIGITS, 0), "bert": (TEXT, 0), "padded": (PADDED, 0), "switch": (ROUTED, 1)}
SETTLED = 2  # steps until active set and optimizer state are counted, and timed once; what sleeps is compared in all
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
ASKS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2", "unique_consecutive")


class Asked(TorchDispatchMode):
    """Operators whose result the host, or a shape, depends on. ``steps``: counters that are the host's everywhere."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.found, self.quiet = {id(step) for step in steps}, [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in ASKS and id(args[0]) not in self.steps and not self.quiet:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class AskedInPython(TorchFunctionMode):
    """Adds what no dispatcher sees, and takes out what only a CPU does: ``one_hot`` checks its input's range."""

    def __init__(self, asked):
        super().__init__()
        self.asked = asked

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.tolist:
            self.asked.found.append("tolist")
        self.asked.quiet = func is torch.nn.functional.one_hot
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.asked.quiet = False


def settled(base, method, machine, tmp_path):
    often = {"evaluate_every": 100, "epochs": 100}
    given = {**base, "method": METHODS[method], "seed": 0, "recipe": {**base["recipe"], **often}}
    given["probe"] = {**base["probe"], "every": 100}
    made = Spec.of(given)
    one = Loop(made, tmp_path / made.name, machine)
    for _ in range(SETTLED):
        one.advance(silent)
    return one


@pytest.mark.parametrize(
    ("name", "method"), [*((name, "mat") for name in BASES), ("bert", "vanilla"), ("bert", "mat_exact")]
)
def test_a_training_step_asks_the_device_for_nothing(name, method, tmp_path):
    base, waits = BASES[name]
    one = settled(base, method, Machine(cache=tmp_path), tmp_path)
    asked = Asked(state["step"] for state in one.optimizer.state.values() if "step" in state)
    with asked, AskedInPython(asked):
        one.advance(silent)
        one.advance(silent)
    one.prefetch.close()
    assert asked.found == ["tolist"] * 2 * waits


@pytest.mark.parametrize("ask", [torch.Tensor.item, torch.Tensor.tolist, bool, torch.Tensor.nonzero])
def test_a_question_would_be_noticed(ask):
    asked = Asked(())
    with asked, AskedInPython(asked):
        ask(torch.ones(()) if ask is not torch.Tensor.tolist else torch.ones(2))
    assert len(asked.found) == 1


@NO_CUDA
@pytest.mark.parametrize("method", ["vanilla", "mat", "mat_exact"])
@pytest.mark.parametrize("name", BASES)
def test_a_training_step_on_a_gpu_waits_for_nothing(name, method, tmp_path):
    base, waits = BASES[name]
    one = settled(base, method, Machine(cache=tmp_path, device="cuda"), tmp_path)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one.advance(silent)
            one.advance(silent)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    one.prefetch.close()
    assert len([w for w in caught if "synchroniz" in str(w.message)]) == 2 * waits


@NO_CUDA
def test_batches_for_a_gpu_are_in_pinned_memory(tmp_path):
    task = loop(spec(TEXT), tmp_path).task
    feed = Prefetch(task, 0, 8, 2, pinned=True)
    batch = feed.take(0)
    feed.close()
    assert batch.labels.is_pinned() and all(value.is_pinned() for value in batch.inputs.values())


@pytest.mark.parametrize("every", [1, 7, 100])
def test_a_loss_that_overflows_is_noticed_at_an_evaluation_or_a_few_steps_later(every, tmp_path):
    """Whatever the host knows late: the run is a diverged one and ends at most so many steps later."""
    ends, probed = {}, {**DIGITS, "probe": {"n": 6, "every": 100}}  # a probe would notice it, too
    for late in (0, 3):
        one = loop(spec(probed, lr=1e18, evaluate_every=every, epochs=20), tmp_path)
        one.loss_sum = LossSum("cpu", late)
        for _ in one.work(silent):
            pass
        assert one.progress.curve[-1]["step"] == one.progress.step
        assert not math.isfinite(one.progress.curve[-1]["train_loss"])
        ends[late] = one.progress.step
        assert one.finish()["status"] == "diverged"
    first = ends[0]
    assert ends[3] == min(first + 3, -(-first // every) * every)
