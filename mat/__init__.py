"""Modular Adaptive Training (MAT): watch a network's modules through their tangent kernels, train the ones that learn.

>>> from mat import MAT, Controller, partition_model
"""

from __future__ import annotations

import importlib

_HOME = {
    "Controller": "mat.controller",
    "InputError": "mat.errors",
    "MAT": "mat.methods.mat",
    "MATCallback": "mat.integrations.huggingface",
    "Module": "mat.partition.partition",
    "Partition": "mat.partition.partition",
    "Slice": "mat.partition.partition",
    "SparseBackward": "mat.backward.sparse",
    "modular_ntk": "mat.kernels.ntk",
    "partition_model": "mat.partition.discovery",
    "spectrum": "mat.kernels.spectrum",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    # loaded on first use, so that reading results (mat.evidence) does not import torch
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mat' has no attribute {name!r}")
