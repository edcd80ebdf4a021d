"""The wheel that is built of this checkout works where nothing of the checkout is."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).parents[1]
USE = """
import mat
from importlib.resources import files
from mat import Controller, MAT, modular_ntk
assert files("mat").joinpath("__init__.pyi").is_file() and files("mat").joinpath("py.typed").is_file()
print(mat.__file__)
"""


def run(*words, cwd):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_is_built_and_used_in_a_clean_environment(tmp_path):
    """Its dependencies are those of this environment, which a path file names; an editable install is not seen so."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "mat", source / "mat", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source, cwd=tmp_path)
    (wheel,) = tmp_path.glob("mat_reference-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"mat", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    run(sys.executable, "-m", "venv", tmp_path / "clean", cwd=tmp_path)
    python = tmp_path / "clean/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    (site,) = (tmp_path / "clean").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert run(python, "-c", USE, cwd=tmp_path).startswith(str(site))
    assert "Modular Adaptive Training" in run(python.with_name("mat"), "list", "methods", cwd=tmp_path)
