"""Where and on what something runs; it changes no specification."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mat.experiments.tasks.base import Batch

_PACKAGES = (
    *("torch", "torchvision", "transformers", "datasets", "tokenizers"),
    *("fvcore", "numpy", "scipy", "scikit-learn", "pillow"),
)


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and CPU seconds of this process on all its processors, threads that make batches included:
    other processes disturb these less."""

    clock: float = 0.0
    cpu: float = 0.0

    @classmethod
    def until_now(cls) -> Spent:
        """From an arbitrary beginning: differences mean something."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.clock + other.clock, self.cpu + other.cpu)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.clock - other.clock, self.cpu - other.cpu)

    def __mul__(self, factor: float) -> Spent:
        return Spent(self.clock * factor, self.cpu * factor)


@dataclass(frozen=True)
class Machine:
    """``data``: a mirror of data sets in hub layout, None to ask the hub; ``cache``: downloaded and prepared data;
    ``device``: cpu or cuda."""

    data: Path | None = None
    cache: Path = Path(".mat-cache")
    device: str = "cpu"

    def take(self, batch: Batch) -> Batch:
        """The batch on the device; from pinned memory it goes over while the host does other things."""
        inputs = {name: value.to(self.device, non_blocking=True) for name, value in batch.inputs.items()}
        return Batch(inputs, batch.labels.to(self.device, non_blocking=True))

    def seed(self, seed: int) -> None:
        """Seed what draws from no generator of its own. ``torch.manual_seed`` would seed GPUs that are not in use, too,
        and records a stack trace each time."""
        torch.default_generator.manual_seed(seed)
        if self.device == "cuda":
            torch.cuda.manual_seed(seed)

    def wait(self) -> None:
        """Until the device has done what it was given; a CPU always has."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def hardware(self) -> dict[str, Any]:
        """Processor, number of cores, device."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else self.device
        return {"cpu": _processor(), "cores": os.cpu_count(), "device": name}


HERE = Machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
