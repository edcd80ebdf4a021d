"""Parts that a model compiles, run as they were written."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

import torch


def without_compiling() -> AbstractContextManager[object]:
    """Within it what ``torch.compile`` made runs eagerly: a graph calls no function that a mode sees, and the compiler
    would trace the mode, too."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and to import the compiler takes 2 s
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
