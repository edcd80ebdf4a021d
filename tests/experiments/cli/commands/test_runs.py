"""``mat runs`` and ``mat reference`` on the command line."""

import json
import subprocess

import pytest

from mat.errors import InputError
from mat.experiments.cli.main import main
from mat.experiments.config.scale import ScaleConfig
from tests.evidence.synthetic import METHODS, edit, write_runs


@pytest.fixture
def runs(tmp_path):
    return write_runs(tmp_path / "demo/runs", ["digits"], {"vanilla": METHODS["vanilla"]}, [0, 1], steps=60)


def test_runs_go_out_and_in_and_one_that_differs_is_compared_with_its_hardware_and_stays(runs, tmp_path, capsys):
    pack, results = str(tmp_path / "runs.zip"), str(tmp_path / "there")
    assert main(["runs", "export", *map(str, runs), "-o", pack]) == 0
    assert f"{pack}: 2 of runs; " in capsys.readouterr().out
    assert main(["runs", "import", pack, "--results", results]) == 0
    assert capsys.readouterr().out.splitlines() == ["new: 2 of runs", "  on device cpu, cpu a processor, cores 2"]
    here = tmp_path / "there/demo/runs" / runs[0].name
    edit(here, hardware={"cpu": "another", "cores": 4, "device": "cpu"})
    assert main(["runs", "import", pack, "--results", results]) == 1
    said = capsys.readouterr().out
    assert "the same: 1 of runs" in said
    assert f"{here}: different, left as it is" in said
    assert "cpu another, cores 4" in said
    assert said.splitlines()[-1] == "a and b are the same to the bit"
    assert json.loads((here / "run.json").read_text())["hardware"]["cpu"] == "another"


def test_a_reference_is_not_made_of_a_repository_with_changes_or_of_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert main(["reference", "make", "demo"]) == 2
    assert "in a git repository" in capsys.readouterr().err
    subprocess.run(["git", "init", "-q", "."], check=True)
    (tmp_path / "new file").touch()
    assert main(["reference", "make", "demo"]) == 2
    assert "1 files are changed or new" in capsys.readouterr().err


def test_no_scale_has_the_name_of_the_folder_of_references():
    with pytest.raises(InputError, match="scale: reference is where the committed results are"):
        ScaleConfig.of(
            {
                "scale": "reference",
                "seeds": [0],
                "tasks": {"digits": {"task": {"name": "digits"}}},
                "methods": {"a": {"name": "mat"}},
            }
        )
