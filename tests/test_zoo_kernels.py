"""Kernels of unmodified torchvision and Hugging Face models, every parameter a module, against plain autograd."""

import warnings

import pytest
import torch

from tests.zoo import ZOO, animal, by_parameter, modular_ntk, naive_rows

TIGHT = {"rtol": 1e-8, "atol": 1e-10}


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_of_an_unmodified_model(name):
    """LLaMA's norms and Switch's router compute in float32 inside, whatever the model is in: rtol 1e-5 there."""
    one = animal(name)
    partition = by_parameter(one.model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        kernels = modular_ntk(one.model, partition, one.inputs)
    rows = naive_rows(one.model, one.inputs, lambda out, i: [torch.full_like(out, out.numel() ** -0.5)])
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if name in ("llama", "switch", "t5") else TIGHT
    wrong = {}
    for parameter, found in rows.items():
        found = found.reshape(one.n, -1)
        try:
            torch.testing.assert_close(kernels[parameter], found @ found.T, **tolerance)
        except AssertionError as error:
            wrong[parameter] = str(error).splitlines()[:6]
    assert not wrong
    slow = {parameter for parameter, way in kernels.ways.items() if way != "one pass"}
    assert slow == one.slow
    named = " ".join(str(w.message) for w in said)
    assert all(parameter in named for parameter in slow)
