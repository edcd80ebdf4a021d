"""Norms whose inputs and gradients lie in memory in different orders: torch's own gradients of them are wrong on a CPU
for a batch norm of one sample and any instance norm, and kernels must not be.
"""

import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import nn

from mat._torch_norms import RightNorms
from mat.forward import forward
from mat.partition.discovery import partition_model
from tests.zoo import by_parameter, kernel_of, modular_ntk, randomise

ORDERS = list(itertools.permutations(range(4)))
EXACT = {"rtol": 1e-9, "atol": 1e-12}


def laid(tensor, order):
    """The same entries, the dimensions in another order of memory."""
    back = [order.index(dim) for dim in range(4)]
    return tensor.permute(order).contiguous().permute(back)


def by_formula(x, dims, mean, var, weight, bias):
    if mean is None:
        mean, var = x.mean(dims, keepdim=True), x.var(dims, unbiased=False, keepdim=True)
    else:
        mean, var = mean[:, None, None], var[:, None, None]
    return (x - mean) / (var + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize("kind", ["batch norm", "of its own statistics", "instance norm"])
@pytest.mark.parametrize("n", [1, 2])
def test_gradients_of_norms_are_their_formulas_in_any_order_of_memory(kind, n):
    draws = torch.Generator().manual_seed(0)
    x, cotangent = (torch.randn(n, 3, 2, 4, generator=draws).double() for _ in range(2))
    mean, var, weight, bias = (torch.rand(3, generator=draws).double() + 0.5 for _ in range(4))
    for order, other in itertools.product(ORDERS, ORDERS[::4]):
        given = [laid(x, order).requires_grad_(), weight.clone().requires_grad_(), bias.clone().requires_grad_()]
        with RightNorms():
            if kind == "instance norm":
                output = F.instance_norm(given[0], None, None, *given[1:])
            else:
                own = kind == "of its own statistics"
                output = F.batch_norm(given[0], mean.clone(), var.clone(), *given[1:], training=own)
        plain = [leaf.detach().contiguous().requires_grad_() for leaf in given]
        known = (mean, var) if kind == "batch norm" else (None, None)
        expected = by_formula(plain[0], (2, 3) if kind == "instance norm" else (0, 2, 3), *known, *plain[1:])
        torch.testing.assert_close(output, expected, **EXACT)
        got = torch.autograd.grad(output, given, laid(cotangent, other))
        torch.testing.assert_close(got, torch.autograd.grad(expected, plain, cotangent), **EXACT)


class Tokens(nn.Module):
    """Channels of a picture, normalised, are the features of its positions, to which one more is joined."""

    def __init__(self, norm):
        super().__init__()
        self.convolution, self.norm, self.linear = nn.Conv2d(3, 4, 3, padding=1), norm, nn.Linear(4, 4)

    def forward(self, x):
        tokens = self.norm(self.convolution(x)).flatten(2).transpose(1, 2)
        return self.linear(torch.cat([tokens.mean(1, keepdim=True), tokens], 1)).tanh().mean(1)


class ByFormula(nn.InstanceNorm2d):
    def forward(self, x):
        return by_formula(x, (2, 3), None, None, self.weight, self.bias)


def cvt():
    sizes = {"embed_dim": [4, 8, 12], "num_heads": [1, 2, 3], "depth": [1, 2, 3]}
    return hf.CvtForImageClassification(hf.CvtConfig(**sizes, mlp_ratio=[2.0] * 3, num_labels=3))


MODELS = {
    "cvt": lambda: (randomise(cvt()), None),
    "batch norm": lambda: (randomise(Tokens(nn.BatchNorm2d(4))), None),
    "instance norm": lambda: (
        randomise(Tokens(nn.InstanceNorm2d(4, affine=True))),
        randomise(Tokens(ByFormula(4, affine=True))),
    ),
}


def rows_in_pairs(model, x):
    """Per parameter the gradients of each sample's mean logit, every sample beside itself: no batch is of one."""
    named = dict(model.eval().named_parameters())
    found = []
    for i in range(len(x)):
        logits = forward(model, {name_of(model): x[[i, i]]})[0]
        found.append(torch.autograd.grad(logits.sum() / logits.numel() ** 0.5, named.values()))
    return {name: torch.stack(rows) for name, *rows in zip(named, *found, strict=True)}


def name_of(model):
    return "x" if isinstance(model, Tokens) else "pixel_values"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", [1, 3])
def test_kernels_and_their_comparison_sample_by_sample_are_exact(name, n):
    model, reference = MODELS[name]()
    size = 32 if name == "cvt" else 6
    x = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        if name != "instance norm":  # which has no rule, and is differentiated sample by sample
            warnings.filterwarnings("error", message="a comparison with plain|.*could not be traced")
        kernels = modular_ntk(model, by_parameter(model), {name_of(model): x}, check=n)
    rows = rows_in_pairs(reference or model, x)
    floor = 1e-12 * max(kernel_of(found).max() for found in rows.values())
    for parameter, found in rows.items():
        torch.testing.assert_close(kernels[parameter], kernel_of(found), rtol=1e-9, atol=float(floor))


def test_the_heads_of_cvt_are_found_and_confirmed_by_effect():
    model = randomise(cvt())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_names, by_effect = partition_model(model), partition_model(model, example={"pixel_values": x})
    assert by_names.modules == by_effect.modules
    assert sum(module.kind == "head" for module in by_names.modules) == 1 + 2 * 2 + 3 * 3
    assert sum(module.kind == "ffn" for module in by_names.modules) == 6
