"""A run on disk: what identifies it, its record, and the state it resumes from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mat.errors import InputError

FILES = ("run.json", "curve.parquet", "probes.parquet", "final.json")
CHECKPOINT = ("checkpoint/config.json", "checkpoint/model.safetensors")
_PACKAGES = (
    "torch", "torchvision", "transformers", "datasets", "tokenizers",
    "fvcore", "numpy", "scipy", "scikit-learn", "pillow",
)  # fmt: skip
# evidence and the command line read runs but cannot change one; the ceiling is arithmetic on model settings; the
# grid and its plan say which runs there are, and a run's name says what it is; jobs measure copies of a run
_NOT_IN_A_RUN = (
    "evidence/", "__main__.py", "agreement", "branches", "ceiling", "grid.py", "jobs.py", "plan.py", "selection.py",
)  # fmt: skip


@cache
def code_hash(*also: str) -> str:
    """SHA-256 over every file of the library that can change a run's numbers.

    ``also``: names left out of it that can change the caller's: ``agreement``, ``branches``, ``jobs.py``.
    """
    root = Path(__file__).parent
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


def check_out(out: Path, name: str) -> dict[str, Any] | None:
    """Make sure that ``out`` can take the run ``name``; what its final.json holds if it is finished there.

    Raises InputError when ``out`` is no folder that can be written, or holds another run, or this one by
    another version of the code.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise InputError(
            f"cannot write to {out}: {error.strerror}; choose another folder with --out"
        ) from None
    if not (out / "run.json").exists():
        return None
    try:
        found = json.loads((out / "run.json").read_text())
    except json.JSONDecodeError:
        raise InputError(
            f"{out / 'run.json'} is damaged; move the folder away, or choose another one"
        ) from None
    if found.get("name") != name:
        raise InputError(f"{out} holds the run {found.get('name')!r}, not {name!r}; choose another folder")
    if found.get("code_hash") != code_hash():
        raise InputError(
            f"{out} was made by code {str(found.get('code_hash'))[:12]}, this is {code_hash()[:12]}; "
            "move the folder away, or choose another one"
        )
    final = out / "final.json"
    return json.loads(final.read_text()) if final.exists() else None


def write(
    out: Path, record: dict[str, Any], curve: pd.DataFrame, probes: pd.DataFrame, final: dict[str, Any]
) -> None:
    """Write a finished run's four files, ``final.json`` last: a folder that has it is complete."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    curve.to_parquet(out / "curve.parquet", index=False)
    probes.to_parquet(out / "probes.parquet", index=False)
    (out / "final.json").write_text(json.dumps(final, indent=2, sort_keys=True) + "\n")


def state_path(out: Path, *also: str) -> Path:
    """Where an unfinished run keeps its state: beside ``out``, not in it, because Snakemake empties a job's
    outputs before it starts and after it fails; by code version (``code_hash(*also)``), so that no run mixes two."""
    return out.parent / ".state" / f"{out.name}-{code_hash(*also)[:12]}.pt"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the state in one step: a process killed while writing leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(state, half)
    os.replace(half, path)


def load_state(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The saved state, or None. Raises InputError when it belongs to other data, code or versions."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=False)
    for key, value in identity.items():
        if state["identity"].get(key) != value:
            raise InputError(
                f"{path} was saved with {key} {state['identity'].get(key)!r}, this is {value!r}; "
                "resuming would mix the two: delete the file to start this run afresh"
            )
    return state
