"""Kernels of unmodified torchvision and Hugging Face models, every parameter a module, against plain autograd."""

import warnings

import pytest
import torch

from mat.backward.sparse import SparseBackward
from mat.partition.discovery import partition_model
from tests.zoo import ZOO, animal, by_parameter, kernel_of, mean_logit, modular_ntk, naive_rows

TIGHT = {"rtol": 1e-8, "atol": 1e-10}


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_of_an_unmodified_model(name):
    """LLaMA's norms and Switch's router compute in float32 inside, whatever the model is in: rtol 1e-5 there."""
    one = animal(name)
    partition = by_parameter(one.model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        kernels = modular_ntk(one.model, partition, one.inputs)
    rows = naive_rows(one.model, one.inputs, mean_logit)
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if name in ("llama", "switch", "t5") else TIGHT
    wrong = {}
    for parameter, found in rows.items():
        try:
            torch.testing.assert_close(kernels[parameter], kernel_of(found), **tolerance)
        except AssertionError as error:
            wrong[parameter] = str(error).splitlines()[:6]
    assert not wrong
    slow = {parameter for parameter, way in kernels.ways.items() if way != "one pass"}
    assert slow == one.slow
    named = " ".join(str(w.message) for w in said)
    assert all(parameter in named for parameter in slow)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_wrapped_model_is_probed_as_the_plain_one(name):
    """Cut parameters may lie in another order of memory; none may fall to the slow way by it."""
    one = animal(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        partition = partition_model(one.model, filter_groups=2)
        plain = modular_ntk(one.model, partition, one.inputs)
        with_sparse = SparseBackward(one.model, partition, "detach")
        with_sparse.leaves.densify()
        with_sparse.set_active(partition.names[::2])
        with with_sparse.dense():
            wrapped = modular_ntk(one.model, partition, one.inputs)
    with_sparse.close()
    assert wrapped.ways == plain.ways
    for module, gram in plain.items():
        torch.testing.assert_close(wrapped[module], gram, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "use",
    [
        lambda w, x: torch.nn.functional.linear(x, w),
        lambda w, x: x @ w.T,
        lambda w, x: x @ w,
        lambda w, x: torch.addmm(x.new_zeros(4), x.flatten(0, 1), w).view_as(x),
    ],
)
def test_a_square_weight_in_either_order_of_memory(use, turned):
    """Square, so that its transpose has the same shape."""
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double())
    if turned:
        model.weight.data = model.weight.data.T.contiguous().T
    model.forward = lambda x: use(model.weight, x).sin().flatten(1)
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1)).double()
    kernels = modular_ntk(model, by_parameter(model), {"x": x})
    assert kernels.ways == {"weight": "one pass"}
    expected = kernel_of(naive_rows(model, {"x": x}, mean_logit)["weight"])
    torch.testing.assert_close(kernels["weight"], expected, rtol=1e-9, atol=1e-9)
