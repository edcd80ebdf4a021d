"""The premise of a kernel: the outputs of a sample are its own, f(batch)[i] = f(x_i), in any batch and by no chance.

Compared by value, for a few samples: all of them together in another order, and the last alone. What the model draws is
drawn anew each time. A model in low precision, or with an autocast of its own, may send a token to another expert by
rounding alone, so what differs is looked at again in float64 before it is refused.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from mat.errors import InputError
from mat.kernels.request import Request

FEW = 4  # samples that are compared in another batch


def compared(n: int) -> list[int]:
    """The samples of n that are compared together: from the last to the first, fewer than n where n > 1."""
    count = max(min(FEW, n - 1), 1)
    return [n - 1 - i * (n - 1) // max(count - 1, 1) for i in range(count)]


def check_premise(request: Request, logits: Tensor) -> None:
    """Raise InputError where ``logits`` (n, …), of all samples in their batch, are not those of samples elsewhere.

    Allowed is √ε of the largest norm that a sample's logits have, ε of the lowest precision in use, of float32 at
    least: many layers compute in it whatever the model is in.
    """
    dtypes = {torch.float32, logits.dtype, *(parameter.dtype for parameter in request.model.parameters())}
    allowed = max(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point or dtype.is_complex) ** 0.5
    if _apart(request, logits) <= allowed:
        return
    request, logits = _in_double(request, logits)
    if (apart := _apart(request, logits)) <= allowed:
        return
    again = _difference(logits, request.logits())
    if again > allowed:
        raise InputError(
            f"the model's outputs depend on chance in evaluation mode: those of one batch differ by {again:.1%} from "
            "one pass to the next, expected f(x_i) for every sample; let it draw nothing there, as by "
            "F.dropout(…, training=self.training)"
        )
    raise InputError(
        f"the outputs of a sample depend on the other samples of its batch: in another one they differ by {apart:.1%}, "
        "expected f(batch)[i] = f(x_i); keep every mean, norm, sort, attention and expert's capacity within a sample "
        "(such as batch_first=True where samples come first)"
    )


def _apart(request: Request, logits: Tensor) -> float:
    """The largest difference of outputs between the whole batch and others."""
    n, shape = len(logits), logits.shape[1:]
    batches = [compared(n)] if n == 1 else [compared(n), [n - 1]]
    return max(_difference(logits[samples], request.logits_of(samples, shape)) for samples in batches)


def _difference(some: Tensor, others: Tensor) -> float:
    """The largest norm of a sample's difference, relative to the largest of the samples. (m, …) both."""
    some, others = (logits.detach().double().reshape(len(some), -1) for logits in (some, others))
    same = (some == others) | (some.isnan() & others.isnan())
    off = (some - others).masked_fill(same, 0).norm(dim=1).max()
    scale = some.masked_fill(~some.isfinite(), 0).norm(dim=1).max()
    return float(off / scale) if off else 0.0


def _in_double(request: Request, logits: Tensor) -> tuple[Request, Tensor]:
    """The request of a copy of the model in float64, with its logits; as it was, where there can be no such."""
    try:
        model = copy.deepcopy(request.model).double()
        inputs = {
            name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
            for name, value in request.inputs.items()
        }
        doubled = replace(request, model=model, inputs=inputs)
        return doubled, doubled.logits()
    except Exception:  # a device or a layer that knows no float64, or a model that cannot be copied
        return request, logits
