"""What jobs ask for: minutes by hand from the closed forms, memory beside what real passes keep."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments import tasks
from mat.experiments.config.runs import Run
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.config.spec import Spec
from mat.experiments.planning.requests import COPIES, MARGIN, PROCESS, RATES, START, STEP, Requests, held, rate_of
from mat.experiments.planning.rows import cost_of, whole
from mat.forward import forward

IMAGES = {"task": {"name": "stub"}, "recipe": {"batch": 4, "epochs": 2}, "probe": {"n": 2}}
TEXT = {**IMAGES, "task": {"name": "stub", "objective": "masked_lm"}}
CAUSAL = {**IMAGES, "task": {"name": "stub", "objective": "causal_lm"}}
MODELS = {
    "vgg": {**IMAGES, "model": {"name": "vgg", "plan": [4, "M", 8], "filter_groups": 2}},
    "resnet": {**IMAGES, "model": {"name": "resnet", "stem": "small", "filter_groups": 2}},
    "vit": {**IMAGES, "model": {"name": "vit", "patch": 4, "layers": 2, "width": 8, "heads": 2}},
    "bert": {**TEXT, "model": {"name": "bert", "layers": 2, "width": 8, "heads": 2}},
    "switch": {**CAUSAL, "model": {"name": "switch", "layers": 2, "width": 8, "heads": 2}},
}


@pytest.fixture(autouse=True, scope="module")
def stub():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASKS, "stub", "tests.stub_task")
        yield


def spec_of(name, method="mat", **more):
    return Spec.of({**MODELS[name], "method": {"name": method}, **more})


def a_run(spec):
    return Run("small", "task", "method", spec)


def kept_by(spec, samples):
    """Bytes of the weights, and of what a real forward pass keeps for the backward one."""
    signature = spec.task.module.outline(spec.task.settings).signature
    model = spec.model.module.build(spec.model.settings, signature)
    inputs = {}
    for name, value in signature.example.items():
        size = (samples, *value.shape[1:])
        inputs[name] = torch.randn(size) if value.is_floating_point() else torch.randint(signature.outputs, size)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(model, inputs)
    return 4 * sum(p.numel() for p in model.parameters()), sum(one.nbytes() for one in kept.values())


@pytest.mark.parametrize("name", ["vgg", "resnet"])
def test_what_shapes_say_is_kept_is_what_a_real_pass_keeps(name):
    assert held(spec_of(name), 3) == kept_by(spec_of(name), 3)


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_attention_is_counted_with_the_weights_that_fused_kernels_do_not_keep(name):
    (weights, counted), (known, real) = held(spec_of(name), 3), kept_by(spec_of(name), 3)
    assert weights == known
    assert real <= counted <= 1.5 * real


def test_experts_and_causal_masks_are_within_the_margin():
    (weights, counted), (known, real) = held(spec_of("switch"), 3), kept_by(spec_of("switch"), 3)
    assert weights == known
    assert real / MARGIN <= counted <= 1.5 * real


@given(rate=st.floats(1e-3, 1e5), attempt=st.integers(1, 4))
def test_minutes_are_the_closed_forms_at_the_rate_doubled_and_grow_with_the_attempt(rate, attempt):
    run = a_run(spec_of("vgg"))
    steps, *macs = cost_of(run)
    seconds = 2 * sum(macs) / rate / 1e9 + STEP * steps
    asked = Requests("cpu", rate).minutes(run, attempt)
    assert asked == pytest.approx(attempt * (START + MARGIN * seconds / 60), abs=1 + 1e-9)
    assert asked >= attempt * START


def test_megabytes_are_copies_of_the_weights_and_what_the_largest_pass_keeps():
    spec = spec_of("bert", probe={"n": 16})
    weights, kept = held(spec, 16)
    for attempt in (1, 3):
        expected = math.ceil(attempt * (PROCESS + MARGIN * (COPIES * weights + kept) / 1e6))
        assert Requests("cpu", 1.0).megabytes(a_run(spec), attempt) == expected
    on_gpu = math.ceil(PROCESS + MARGIN * (COPIES * weights / 1e6 + PROCESS))
    assert Requests("cuda", 1.0).megabytes(a_run(spec)) == on_gpu


def test_seeds_are_counted_once_and_a_study_by_its_own_cost(monkeypatch):
    config = {
        "scale": "small",
        "seeds": [0, 1],
        "tasks": {"images": MODELS["vgg"]},
        "methods": {"vanilla": {"name": "vanilla"}},
        "branches": {"families": {"vgg": {"of": "images"}}, "shares": [0.5], "steps": 2, "set_steps": 3, "samples": 4},
    }
    runs, jobs = whole(ScaleConfig.of(config))
    counted = []
    monkeypatch.setattr("mat.experiments.planning.requests.cost_of", lambda one: counted.append(one) or cost_of(one))
    requests = Requests("cpu", 1e-6)
    minutes = [requests.minutes(one) for one in (*runs, *jobs)]
    assert len(counted) == 2
    assert minutes[0] == minutes[1] != minutes[2] == minutes[3]


def test_a_rate_is_the_device_s_or_a_number_above_nothing():
    assert rate_of(None, "cpu", 4) == 4 * RATES["cpu"]
    assert rate_of(None, "cuda", 4) == RATES["cuda"]
    assert rate_of("12.5", "cpu", 4) == rate_of(12.5, "cuda", 1) == 12.5
    for wrong in (0, -1, "fast", float("nan"), "inf", True, [5]):
        with pytest.raises(InputError, match="rate: expected GFLOP/s of one run, a number above 0, got "):
            rate_of(wrong, "cpu", 1)
