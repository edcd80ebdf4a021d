"""The profiles as Snakemake reads them: every key is one of its own, every rule that is named is there."""

import re
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_args

from mat.experiments.config.scale import MACHINE

REPOSITORY = Path(__file__).parents[2]
PROFILES = REPOSITORY / "workflows/profiles"
COMPUTING = {"train", "pretrain", "study"}
RULES = {
    name
    for file in (REPOSITORY / "workflows/rules").glob("*.smk")
    for name in re.findall(r"^(?:rule|use rule \w+ as) (\w+)", file.read_text(), re.MULTILINE)
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("name", ["default", "gpu", "slurm", "kubernetes"])
def test_a_profile_is_read_and_its_site_has_keys_that_the_workflow_knows(name):
    if name in ("slurm", "kubernetes"):
        pytest.importorskip(f"snakemake_executor_plugin_{name}", reason=f'pip install … ".[{name}]"')
    _, given = parse_args(["--profile", str(PROFILES / name)])
    assert given.executor in (None, "local", name)
    assert (given.jobs or given.cores) is not None
    for site in given.configfile or ():
        assert set(yaml.safe_load(Path(site).read_text())) <= {*MACHINE, "rate"}


def test_no_profile_is_read_that_is_not_named():
    _, given = parse_args(["--cores", "all"])
    assert (given.profile, given.configfile or None, given.retries) == (None, None, 0)
    assert given.cores == "all" or isinstance(given.cores, int)


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_everything_but_what_computes_shares_submissions(name):
    groups = yaml.safe_load((PROFILES / name / "config.yaml").read_text())["groups"]
    assert set(groups) == RULES - COMPUTING
