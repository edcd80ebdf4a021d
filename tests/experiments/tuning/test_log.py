"""A log that cannot be added to is refused before anything is trained."""

from pathlib import Path

import pytest

from mat.experiments.cli.main import main

MINI = Path(__file__).parents[2] / "end_to_end/mini.yaml"
SPACE = Path(__file__).parents[3] / "workflows/tuning.yaml"


@pytest.mark.parametrize("content", [b"", b"\x9e\xff\x00", b"a,b\n1,2\n", b'"', None])
def test_a_damaged_log_is_named_at_once(content, tmp_path, capsys):
    log = tmp_path / "tuned.csv"
    if content is None:
        log.mkdir()
    else:
        log.write_bytes(content)
    given = ["--config", MINI, "--space", SPACE, "--out", tmp_path / "tuned.yaml", "--runs", tmp_path / "runs"]
    assert main([*map(str, ("tune", *given, "--budget", 2, "--only", "digits,random,vanilla"))]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mat: error: ") and "tuned.csv" in said and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()
