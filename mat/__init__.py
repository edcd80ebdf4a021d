"""Modular Adaptive Training (MAT): watch a network's modules through their tangent kernels, train the ones that learn.

>>> from mat import MAT, Controller, partition_model

The public names are the imports of ``__init__.pyi``, which type checkers and editors read. Here each is loaded on
first use, so that what reads results (``mat.evidence``) does not import torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOME = {alias.name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
