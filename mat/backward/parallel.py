"""What trains a model in several processes or on several devices: DistributedDataParallel, and nothing else.

Its replicas hold whole models, and ``mat.backward.reducer`` averages the gradients of their slices. Anything else,
which cuts a model up or copies it, knows whole parameters only and is refused by name.
"""

from __future__ import annotations

from typing import NoReturn

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mat import processes
from mat.errors import InputError

# by name: most of these packages need not be installed
WRAPPERS = {
    *("DataParallel", "FullyShardedDataParallel", "FSDPModule", "XlaFullyShardedDataParallel"),
    *("DeepSpeedEngine", "PipelineEngine", "ShardedDataParallel", "TensorParallel"),
}
SHARDED = "DTensor"


def refuse_parallel(model: nn.Module) -> None:
    """Raise InputError where ``model`` is inside out of a parallel wrapper's hands, or in parts."""
    for kind in dict.fromkeys(map(type, model.modules())):  # few: this is asked at every step
        refuse_wrapper(kind)
        if issubclass(kind, DistributedDataParallel):
            raise InputError(
                "expected the plain model, got one inside of DistributedDataParallel: give ddp.module, and call ddp in "
                "training as ever"
            )
    for kind in set(map(type, model.parameters())):
        if SHARDED in _names(kind):
            _refuse("sharded parameters (DTensor: fully_shard, tensor parallel)")


def refuse_wrapper(kind: type) -> None:
    """Raise InputError where ``kind`` of module is one that trains what is in it in parallel, other than
    data-parallel."""
    found = [name for name in _names(kind) if name in WRAPPERS]
    if found:
        _refuse(found[0])


def active_wrapper() -> DistributedDataParallel | None:
    """The DistributedDataParallel whose forward pass is running."""
    return DistributedDataParallel._get_active_ddp_module()


def refuse_alone() -> None:
    """Raise InputError where there are several processes: no DistributedDataParallel is at hand that joins them."""
    if processes.count() > 1:
        raise InputError(
            f"there are {processes.count()} processes, and the model is not called through a DistributedDataParallel, "
            "so each would train for itself: wrap it, DistributedDataParallel(model), and call that in training"
        )


def refuse_options(ddp: DistributedDataParallel) -> None:
    """Raise InputError for options of ``ddp`` that only its own reducer could follow."""
    found = {
        "static_graph=True": ddp.static_graph,
        "a communication hook": ddp._comm_hooks,
        "mixed_precision": ddp.mixed_precision is not None,
        "delay_all_reduce_named_params": ddp._delay_all_reduce_params,
        "the python reducer of torch.compile": ddp._use_python_reducer,
        "its join() for uneven inputs": ddp._join_config.enable,
        "a process group that is not all processes": ddp.process_group.size() != processes.count(),
    }
    for what, is_set in found.items():
        if is_set:
            raise InputError(
                f"the sparse backward pass works in DistributedDataParallel, but not with {what}: what is active "
                "changes from step to step; leave it out"
            )


def _names(kind: type) -> list[str]:
    return [one.__name__ for one in kind.__mro__]


def _refuse(what: str) -> NoReturn:
    raise InputError(
        f"the sparse backward pass does not work with {what}: it needs whole parameters, each on one device; expected "
        "the plain model, or DistributedDataParallel with one device per process"
    )
