"""Batch and instance norms whose gradients are right on a CPU.

Of a batch norm over one sample, and of an instance norm, which is one over samples and channels, torch (2.15) reads the
gradient at the output in the order of the input's memory, whatever its own is: a batch norm ahead of ``flatten(2)`` and
``transpose(1, 2)`` has wrong gradients. Both are laid alike here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_BATCH, _INSTANCE = (F.batch_norm, torch.batch_norm), (F.instance_norm, torch.instance_norm)


class RightNorms(TorchFunctionMode):
    """Within it norms have right gradients, in whatever order their inputs and gradients are in memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _BATCH and func not in _INSTANCE:
            return func(*args, **kwargs)
        given = args[0] if args else kwargs["input"]
        if given.device.type != "cpu" or (func in _BATCH and len(given) > 1):
            return func(*args, **kwargs)
        output = func(given.contiguous(), *args[1:], **{k: v for k, v in kwargs.items() if k != "input"})
        if output.requires_grad:
            output.register_hook(Tensor.contiguous)
        return output
