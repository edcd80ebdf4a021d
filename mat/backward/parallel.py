"""Refuse what trains a model in several processes or on several devices: it knows whole parameters only."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mat.errors import InputError

# by name: most of these packages need not be installed
WRAPPERS = {
    *("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"),
    *("DeepSpeedEngine", "PipelineEngine", "ShardedDataParallel", "TensorParallel"),
}
SHARDED = "DTensor"


def refuse_parallel(model: nn.Module) -> None:
    """Raise InputError where ``model`` is inside out of a parallel wrapper's hands, or there are several processes."""
    for module in model.modules():
        refuse_wrapper(module)
    for parameter in model.parameters():
        if SHARDED in _names(parameter):
            _refuse("fully_shard (DTensor parameters)")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        processes = torch.distributed.get_world_size()
        if processes > 1:
            _refuse(f"several processes ({processes} in torch.distributed)")


def refuse_wrapper(module: nn.Module) -> None:
    """Raise InputError where ``module`` is one that trains what is in it in parallel."""
    found = [name for name in _names(module) if name in WRAPPERS]
    if found:
        _refuse(found[0])


def refuse_active_wrapper() -> None:
    """Raise InputError within the forward pass of a DistributedDataParallel."""
    if DistributedDataParallel._get_active_ddp_module() is not None:
        _refuse("DistributedDataParallel")


def _names(thing: object) -> list[str]:
    return [kind.__name__ for kind in type(thing).__mro__]


def _refuse(what: str) -> None:
    raise InputError(
        f"the sparse backward pass does not work with {what}: the gradients of slices would not be reduced, and each "
        "process would select for itself; expected the plain model, in one process and on one device"
    )
