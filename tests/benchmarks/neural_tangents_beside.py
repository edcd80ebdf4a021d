"""The same kernels by neural-tangents (JAX, CPU): equality and time, on a convolutional net both can express.

neural-tangents 0.6.5 needs a JAX that still has ``jax.core.Jaxpr`` (0.4.30 runs): ``pip install --target FOLDER
neural-tangents "jax==0.4.30" "jaxlib==0.4.30"`` and FOLDER on PYTHONPATH, because its pins differ from ours. Its
structured derivatives need a JAX too old for NumPy 2, so its other two implementations are run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
import torch
from torch import nn

from tests.benchmarks.timing import ratio, side_by_side, table
from tests.zoo import by_parameter, modular_ntk


class Net(nn.Module):
    """Two 3×3 convolutions, a global mean, one linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.last = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu().mean((2, 3)))


def forward(p: dict, x):
    """``Net`` in JAX."""

    def convolution(x, name):
        y = jax.lax.conv_general_dilated(x, p[f"{name}.weight"], (1, 1), "SAME")
        return y + p[f"{name}.bias"][None, :, None, None]

    x = jax.nn.relu(convolution(jax.nn.relu(convolution(x, "first")), "second"))
    return x.mean((2, 3)) @ p["last.weight"].T + p["last.bias"]


def kernels(parameters: dict, reduce: Callable, implementation: nt.NtkImplementation) -> Callable:
    """A jitted function of the images: parameter name -> its empirical kernel."""

    def of(name: str) -> Callable:
        def function(own, x):
            return reduce(forward({**parameters, name: own}, x))

        return nt.empirical_ntk_fn(function, trace_axes=(), vmap_axes=0, implementation=implementation)

    functions = {name: of(name) for name in parameters}
    return jax.jit(lambda x: {name: f(x, None, parameters[name]) for name, f in functions.items()})


def compare(rounds: int, n: int = 32, width: int = 32, classes: int = 10) -> None:
    torch.manual_seed(0)
    model, images = Net(width, classes), torch.randn(n, 3, 16, 16)
    partition = by_parameter(model)
    parameters = {name: jnp.asarray(p.detach().numpy()) for name, p in model.named_parameters()}
    x = jnp.asarray(images.numpy())
    scalar = {"sum_of_logits": lambda out: out.sum(1, keepdims=True) / classes**0.5, "full": lambda out: out}

    def ready(function: Callable) -> dict[str, np.ndarray]:
        return jax.tree_util.tree_map(np.asarray, jax.block_until_ready(function(x)))

    rows = []
    for estimator, reduce in scalar.items():
        for way in ("JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS"):
            theirs = kernels(parameters, reduce, getattr(nt.NtkImplementation, way))
            runs = {
                "neural-tangents": functools.partial(ready, theirs),
                "ours": functools.partial(modular_ntk, model, partition, {"x": images}, estimator, verify=False),
            }
            expected, got = runs["neural-tangents"](), runs["ours"]()
            off = 0.0
            for name, gram in got.items():
                # (n, n, k, k) -> (n·k, n·k)
                other = expected[name].transpose(0, 2, 1, 3).reshape(gram.shape)
                off = max(off, float(np.abs(other - gram.numpy()).max() / gram.abs().max()))
            seconds = side_by_side(runs, rounds)
            rows.append([estimator, way.lower(), ratio(seconds, "neural-tangents", "ours"), f"{off:.0e}"])
    table(
        f"neural-tangents {nt.__version__} (JAX {jax.__version__}, CPU, jitted) / this, every parameter a module: "
        f"Net(width {width}), {n} images 3×16×16, k = {classes}",
        ["estimator", "its implementation", "neural-tangents / ours", "largest difference"],
        rows,
    )
