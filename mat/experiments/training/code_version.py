"""What identifies the code, the packages and the machine that a run was made by."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "torch", "torchvision", "transformers", "datasets", "tokenizers",
    "fvcore", "numpy", "scipy", "scikit-learn", "pillow",
)  # fmt: skip


# evidence and the command line read runs but cannot change one; the ceiling is arithmetic on model settings; the
# grid and its plan say which runs there are, and a run's name says what it is; jobs measure copies of a run
_NOT_IN_A_RUN = (
    "evidence/", "__main__.py", "experiments/studies/", "experiments/config/scale.py", "experiments/planning/",
    "experiments/config/selection.py", "experiments/cli/", "integrations/",
)  # fmt: skip


@cache
def code_hash(*also: str) -> str:
    """SHA-256 over every file of the library that can change a run's numbers.

    ``also``: names left out of it that can change the caller's: ``agreement``, ``branches``, ``jobs.py``.
    """
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    left_out = tuple(name for name in _NOT_IN_A_RUN if name not in also)
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(left_out):
            digest.update(f"{name}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """What the run runs on: processor, number of cores, device."""
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return {"cpu": _processor(), "cores": os.cpu_count(), "device": name}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
