"""The processes that train one model together, by PyTorch's distributed package: one decides, all follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

Made = TypeVar("Made")


def count() -> int:
    """How many there are: 1 where no process group was begun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This one's number, from 0."""
    return dist.get_rank() if count() > 1 else 0


def of_first(make: Callable[[], Made]) -> Made:
    """What ``make()`` returns in the first process, or raises there, in all of them; all must call this."""
    if count() == 1:
        return make()
    held: list[Any] = [None, None]
    if rank() == 0:
        try:
            held[0] = make()
        except Exception as error:
            held[1] = error
    dist.broadcast_object_list(held, 0)
    if held[1] is not None:
        raise held[1]
    return held[0]
