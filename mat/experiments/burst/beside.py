"""The parts of a burst that are processes of their own: the tests of a device, and the benchmark on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TESTS = ("tests/kernels/test_ntk.py", "tests/backward/test_zoo.py")  # kernels and sparse pass; on a GPU, those of it
MODELS = {"cuda": ("bert_base", "vgg"), "cpu": ("tiny",)}  # of the benchmark
ROUNDS = {"cuda": 3, "cpu": 1}
THREADS = 1  # of a CPU: small products are faster so
# what was carried along comes last: what the machine has goes first
START = """
import runpy, sys
sys.path.append({!r})
sys.argv.pop(0)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def tests(root: Path, carried: Path, log: Path, seconds: float) -> str:
    """Run the tests that need a GPU; where there is none they say so and are skipped. How it ended, in a line."""
    return _run(root, carried, log, seconds, ["pytest", "-q", "-p", "no:cacheprovider", "-k", "cuda", *TESTS])


def benchmark(root: Path, carried: Path, log: Path, seconds: float, device: str, made: Path) -> str:
    """Time sparse steps in bfloat16 beside dense ones; the numbers are in the file ``made``."""
    made.unlink(missing_ok=True)
    how = f"--device {device} --threads {THREADS} --precision bfloat16 --rounds {ROUNDS[device]}".split()
    kept = ["--json", str(made.resolve())]
    return _run(root, carried, log, seconds, ["tests.benchmarks.sparse", *how, *kept, "--only", *MODELS[device]])


def of_benchmark(made: Path) -> list[dict[str, Any]]:
    """One entry per model that was timed; none where the benchmark was cut off before."""
    try:
        return json.loads(made.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []


def _run(root: Path, carried: Path, log: Path, seconds: float, what: Sequence[str]) -> str:
    with log.open("w", encoding="utf-8") as file:
        command = [sys.executable, "-u", "-c", START.format(str(carried)), *what]
        try:
            code = subprocess.run(command, cwd=root, stdout=file, stderr=file, timeout=seconds, check=False).returncode
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s, which is its share of the time"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"ended with {code}: {lines[-1][:200] if lines else 'nothing was said'}"
