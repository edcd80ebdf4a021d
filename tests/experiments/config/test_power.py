"""Seeds by power: the plan is read strictly, made from a pilot, and runs stop where it says."""

import math

import pytest
import yaml

from mat.errors import InputError
from mat.evidence.claims.seeds_by_power import on_link
from mat.evidence.stats.intervals import Interval
from mat.evidence.stats.power import POWER, power, seeds_for
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.planning.report import powered

NEED = {"effect": 10, "unit": "%", "spread": 0.2, "n": 5, "needed": 30}


@pytest.fixture
def scale(tmp_path):
    """Two functions of a power plan's scales: the config that reads them, of three seeds."""

    def made(scales, **overrides):
        (tmp_path / "power.yaml").write_text(yaml.safe_dump({"matters": {}, "scales": scales}))
        task = {"task": {"name": "digits"}, "model": {"name": "vgg"}}
        content = {
            "scale": "mine", "seeds": [4, 5, 6], "power": "power.yaml",
            "tasks": {"a": task, "b": {**task, "recipe": {"lr": 0.1}}}, "methods": {"vanilla": {"name": "vanilla"}},
        }  # fmt: skip
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return read_scale(path, overrides)

    return made


def plan(seeds, task="a", **more):
    return {"command": "snakemake", "tasks": {task: {"seeds": seeds, **more}}}


def test_a_task_is_run_with_the_first_seeds_and_one_without_an_entry_with_all(scale):
    config = scale({"mine": plan(2, claims={"C4": NEED})})
    assert [(run.task, run.spec.seed) for run in expand(config)] == [("a", 4), ("a", 5), ("b", 4), ("b", 5), ("b", 6)]
    assert powered(config, ["a", "b"]) == ["", "a: 2 of 3 seeds, by power.yaml; too few for C4 (30)"]
    assert [run.spec.seed for run in expand(scale({"mine": plan(2)}, seeds="6")) if run.task == "a"] == [6]


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ({"other": plan(2)}, "power.yaml: expected scale mine, got other"),
        ({"mine": plan(2, task="c")}, "power.yaml: mine.c: expected a task of it, one of a, b"),
        ({"mine": plan(4)}, "power.yaml: a.seeds: expected at most the 3 that the scale lists, got 4"),
        ({"mine": plan(0)}, "scales.mine.tasks.a.seeds: expected a number ≥ 1, got 0"),
        ({"mine": plan(2, claims={"C4": {**NEED, "n": 1}})}, "scales.mine.tasks.a.claims.C4.n: expected a number ≥ 2"),
        ({"mine": plan(2, more=1)}, "scales.mine.tasks.a: unknown key 'more'"),
    ],
)
def test_a_wrong_plan_is_one_line(scale, scales, said):
    with pytest.raises(InputError) as error:
        scale(scales)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_plan_that_is_not_there_is_one_line(scale, tmp_path):
    scale({"mine": plan(2)})
    (tmp_path / "power.yaml").unlink()
    with pytest.raises(InputError, match=r"expected a YAML file, cannot read .*power\.yaml"):
        read_scale(tmp_path / "mine.yaml")


def test_seeds_are_the_fewest_that_show_the_effect():
    found = seeds_for(0.9, 3)
    assert power(0.9, found) >= POWER > power(0.9, found - 1)
    assert seeds_for(50.0, 3) == 3 and seeds_for(1e-3, 3) is None
    assert on_link(10, Interval(0, link="saving")) == pytest.approx(-math.log(0.9))
    assert on_link(0.5, Interval(0)) == 0.5 and on_link(2, Interval(1, link="ratio")) == pytest.approx(math.log(2))
