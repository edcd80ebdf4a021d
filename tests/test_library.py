"""The library stands alone: it imports without the pipeline, works without it, and its names are there."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mat
from mat.methods import METHODS

ROOT = Path(mat.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HARNESS = ("experiments", "evidence", "records", "settings")
PIPELINE = (
    *("snakemake", "datasets", "transformers", "torchvision", "matplotlib", "sklearn", "scipy", "pydantic"),
    *("yaml", "click", "accelerate", "mat.integrations.huggingface", *(f"mat.{room}" for room in HARNESS)),
)

EVERY_ROOM = """
import importlib, pkgutil, sys
import mat
for found in pkgutil.iter_modules(mat.__path__, "mat."):
    if found.name not in (*PIPELINE, "mat.__main__"):
        room = importlib.import_module(found.name)
        for below in pkgutil.iter_modules(getattr(room, "__path__", ()), f"{found.name}."):
            if below.name != "mat.integrations.huggingface":  # it needs [trainer], and says so
                importlib.import_module(below.name)
assert "mat.kernels.ntk" in sys.modules and "mat.methods.lisa" in sys.modules
print(*sorted({*PIPELINE} & {*sys.modules}))
"""

WITHOUT = """
sys.modules.update(dict.fromkeys(PIPELINE))  # None: as if it were not installed
import torch
from torch import nn
from mat import MAT, Controller, modular_ntk, partition_model
from mat.flops.nominal import nominal

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
partition, inputs = partition_model(model), {"input": torch.randn(5, 1, 8, 8)}
assert modular_ntk(model, partition, inputs).table().lambda_max.min() > 0
assert nominal(model, partition, {"input": inputs["input"][:1]}).forward > 0
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with Controller(model, partition, MAT(alpha=0.2), inputs, every=1) as controller:
    controller.adopt(optimizer)
    controller.begin_step()
    model(**inputs).sum().backward()
    optimizer.step()
    assert 1 <= len(controller.active) < len(partition.modules)
"""


def library() -> list[Path]:
    """Its files, those apart that need an extra."""
    top = Path(mat.__file__).parent
    apart = {*HARNESS, "integrations", "__main__.py"}
    return [path for path in top.rglob("*.py") if path.relative_to(top).parts[0] not in apart]


def imported(files: list[Path]) -> set[str]:
    """The packages that they import, anywhere in them."""
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def in_a_fresh_interpreter(program: str) -> str:
    program = f"PIPELINE = {PIPELINE!r}\n{program}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_room_of_the_library_imports_the_pipeline_and_it_works_where_nothing_of_that_is_installed():
    assert in_a_fresh_interpreter(EVERY_ROOM + WITHOUT) == ""


def test_the_library_imports_what_it_declares():
    declared = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    assert imported(library()) - set(sys.stdlib_module_names) - {"mat"} == declared


def test_what_trainer_needs_is_declared():
    declared = {re.match(r"[\w-]+", line)[0] for line in PROJECT["optional-dependencies"]["trainer"]}
    found = imported([Path(mat.__file__).parent / "integrations" / "huggingface.py"])
    assert found - set(sys.stdlib_module_names) - {"mat", "torch"} <= declared


def test_reading_results_does_not_load_torch():
    assert in_a_fresh_interpreter("import sys, mat, mat.errors; print('torch' in sys.modules)") == "False"


def test_a_static_tool_sees_the_names_that_there_are():
    stub = ast.parse((Path(mat.__file__).parent / "__init__.pyi").read_text())
    seen = {}
    for node in stub.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "a stub hides what it does not import as itself"
            seen[alias.name] = getattr(importlib.import_module(node.module), alias.name)
    assert sorted(seen) == mat.__all__
    assert all(getattr(mat, name) is value for name, value in seen.items())
    assert set(mat.__all__) <= set(dir(mat))


def test_every_method_is_a_public_name():
    methods = [importlib.import_module(module).METHOD for module in METHODS.values()]
    assert all(getattr(mat, method.__name__) is method for method in methods)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Mat'"):
        mat.Mat  # noqa: B018
