"""Blocks that a model checkpoints, run plainly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from torch.utils import checkpoint

# pre-forward, the block itself, post-forward; which of them there is depends on the release
_GENERATORS = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Within it ``torch.utils.checkpoint``, reentrant or not and under any name it was imported by, calls its function
    and recomputes nothing."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(checkpoint.CheckpointFunction, "apply", staticmethod(_call)))
        for name in _GENERATORS:
            if hasattr(checkpoint, name):
                patches.enter_context(patch.object(checkpoint, name, _nothing_around))
        yield


def _call(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
    return function(*args)


def _nothing_around(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield
