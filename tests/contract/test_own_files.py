"""Plug-ins in a file of the user's own: used by path, part of the run's identity, checked in plain words."""

import json
import os
import shutil
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mat.errors import InputError
from mat.experiments.cli.main import main
from mat.experiments.config import plugins
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.config.spec import Spec
from mat.experiments.contract.check import check_file

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
EXAMPLE = EXAMPLES / "my_method.py"
TINY = {"model": {"name": "vgg", "plan": [4, "M", 4, "M"], "filter_groups": 2}, "recipe": {"batch": 200}}
CONFIG = """
scale: own
seeds: [0]
tasks:
  digits:
    task: {name: digits}
    model: {name: vgg, plan: [4, M, 4, M], filter_groups: 2}
    recipe: {batch: 200, epochs: 3}
    probe: {n: 4, every: 2}
methods:
  moved: {file: my_method.py, count: 2}
"""


@pytest.fixture
def own(tmp_path):
    """The example beside a config that uses it."""
    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "own.yaml").write_text(CONFIG)
    return tmp_path


def spec_of(path, **settings):
    return Spec.of({"task": {"name": "digits"}, **TINY, "method": {"file": str(path), **settings}})


def test_a_method_of_ones_own_is_trained_by_path(own, monkeypatch):
    monkeypatch.chdir(own)
    (run,) = expand(read_scale("own.yaml"))
    assert run.spec.name.startswith("digits-vgg-my_method-s0-")
    assert main(["train", "--spec", run.spec.json, "--out", "out"]) == 0
    record = json.loads((own / "out" / "run.json").read_text())
    assert record["name"] == run.spec.name
    assert record["spec"]["method"]["count"] == 2
    assert len(record["spec"]["method"]["sha256"]) == 64
    assert main(["train", "--task", "digits", "--model", "vgg", "--method", "my_method.py", "--set", "recipe.epochs=0",
                 "--out", "other"]) == 2  # fmt: skip


def test_its_content_is_part_of_the_run_and_its_folder_is_not(own, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    first = spec_of(own / "my_method.py")
    moved = own / "elsewhere"
    moved.mkdir()
    assert spec_of(shutil.copy(own / "my_method.py", moved)).name == first.name
    assert Spec.of(json.loads(first.json)) == first
    edited = own / "my_method.py"
    before = edited.stat()
    edited.write_text(edited.read_text().replace("count: int = 3", "count: int = 4"))
    os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same second and size
    assert spec_of(edited).name != first.name
    assert spec_of(edited).method.settings.count == 4
    with pytest.raises(InputError, match=r"my_method\.py has changed since the specification was made"):
        Spec.of(json.loads(first.json))
    assert first.modules()[:2] == ["mat.experiments.tasks.digits", "mat.experiments.models.vgg"]
    assert first.modules()[2] == own / "my_method.py"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"method\.file: expected a Python file, found none at .*missing\.py"),
        ("import nowhere_to_be_found", r"cannot import .*: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("x = 1", r"expected METHOD, a frozen dataclass of its settings, got none"),
        ("import sys; sys.exit(0)", r"cannot import .*: SystemExit: 0"),
        ("raise GeneratorExit", r"cannot import .*: GeneratorExit"),
        ("def __getattr__(name): raise ValueError(name)", r"expected METHOD, .*, got none"),
        ("METHOD = 3", r"expected METHOD, a frozen dataclass of its settings, got 3"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "missing.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        spec_of(path)
    assert "\n" not in str(caught.value)


def test_its_settings_are_read_like_ours(own):
    with pytest.raises(InputError, match=r"method: unknown key 'cuont'; known: mode, observe, count"):
        spec_of(own / "my_method.py", cuont=1)
    with pytest.raises(InputError, match=r"method\.count: expected a whole number, got 'two'"):
        spec_of(own / "my_method.py", count="two")


def test_an_entry_point_is_found_by_its_name(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    point = EntryPoint("moved", "my_method", "mat.methods")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "mat.methods" else [])
    made = Spec.of({"task": {"name": "digits"}, **TINY, "method": {"name": "moved"}})
    assert made.method.settings.count == 3
    assert len(json.loads(made.json)["method"]["sha256"]) == 64
    assert "moved" in plugins.known("method") and "mat" in plugins.known("method")
    assert Spec.of(json.loads(made.json)) == made


def test_the_examples_pass_and_so_do_ours():
    for kind in ("method", "task", "model"):
        assert check_file(EXAMPLES / f"my_{kind}.py") == []
    assert check_file(Path(plugins.find("method", "vanilla").__file__)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("highest(context.modules, moved, self.count)", "frozenset()", "select leaves no module active"),
        ("highest(context.modules, moved, self.count)", "frozenset({'m99'})", "names modules that there are none of"),
        (
            "highest(context.modules, moved, self.count)",
            "frozenset(__import__('random').sample(context.modules, 1))",
            "select is not pure",
        ),
        (
            "highest(context.modules, moved, self.count)",
            "frozenset([context.modules[__import__('torch').randint(len(context.modules), (1,))]])",
            "select is not pure",
        ),
        (
            "highest(context.modules, moved, self.count)",
            "frozenset([min(context.modules)])",
            "depends on the modules' names",
        ),
        ("context.history[-2:]", "context.history[-9]", "select raises"),
        ('    """Modules to train, at least one."""\n', "", "the setting count is not documented"),
        ("Claim: none; an example", "An example", "does not say Claim:"),
        ("class Moved(Method)", "class Moved", "is no mat.Method"),
        ("count: int = 3", "count: int = 0", "cannot be made of its defaults"),
        ("METHOD = Moved", "", "it is no plug-in"),
    ],
)
def test_what_a_method_does_not_keep_is_said_in_plain_words(tmp_path, old, new, said):
    path = tmp_path / "mine.py"
    content = EXAMPLE.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    assert said in "; ".join(check_file(path))


@pytest.mark.parametrize(
    ("kind", "name", "old", "new", "said"),
    [
        ("task", "digits", "def sources(", "def sauces(", "the file has no sources"),
        (
            "task",
            "digits",
            "partial(random_shift, shift=settings.shift)",
            "(lambda x, *_: x + __import__('torch').randint(9, (1,)).byte())",
            "batch depends on more",
        ),
        ("model", "vgg", "9 * channels * entry", "8 * channels * entry", "its closed form says"),
        ("model", "vgg", "filter_groups=settings.filter_groups", "filter_groups=1", "partition's modules"),
    ],
)
def test_what_a_task_or_model_does_not_keep_is_said_in_plain_words(tmp_path, kind, name, old, new, said):
    path = tmp_path / "mine.py"
    content = Path(plugins.find(kind, name).__file__).read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    found = check_file(path)
    assert found and said in "; ".join(found)
