"""What makes a run stale: by effect, on a copy of the library that is edited."""

import shutil
from pathlib import Path

import pytest

from mat.experiments.config.scale import ScaleConfig
from mat.experiments.config.spec import Spec
from mat.experiments.studies.registry import STUDIES
from mat.experiments.training import code_version
from mat.experiments.training.code_version import modules, run_modules

RUN = {"task": {"name": "digits"}, "model": {"name": "vgg"}, "method": {"name": "mat"}}
ASKED = {"families": {"vgg": {"of": "digits"}}, "shares": [0.1]}
CONFIG = {
    "scale": "s",
    "seeds": [0],
    "tasks": {"digits": {"task": {"name": "digits"}, "model": {"name": "vgg"}}},
    "methods": {"vanilla": {"name": "vanilla"}},
    "agreement": {**ASKED, "sizes": [64]},
    "branches": ASKED,
}


fresh = code_version._module.cache_clear


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    library = tmp_path_factory.mktemp("copied") / "mat"
    shutil.copytree(code_version.LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
    return library


@pytest.fixture
def edited(copied, monkeypatch):
    """Writes a text in place of another in a file of the copied library, or at its end; undone after the test."""
    monkeypatch.setattr(code_version, "LIBRARY", copied)
    before = {}

    def edit(name, new, old=None):
        path = copied / name
        before[path] = path.read_text() if path.exists() else None
        text = before[path] or ""
        assert old is None or text.count(old) >= 1, f"{name} has no {old!r}"
        path.write_text(text + new if old is None else text.replace(old, new, 1))
        fresh()

    fresh()
    yield edit
    for path, text in before.items():
        path.unlink() if text is None else path.write_text(text)
    fresh()


@pytest.mark.parametrize(
    ("name", "new", "old"),
    [
        ("controller.py", "\n\n# a comment\n", None),
        ("controller.py", '"""Another docstring.', '"""'),
        ("methods/base.py", "What a choice reads", "What the choice reads"),
        ("seeds.py", "\n\n\nimport hashlib", "\nimport hashlib"),  # another format
        ("methods/mine.py", "METHOD = None\n", None),
        ("methods/__init__.py", '\nMETHODS["mine"] = "mat.methods.mine"\n', None),
        ("methods/misa.py", "\nOTHER = 1\n", None),
        ("experiments/tasks/glue.py", "\nOTHER = 1\n", None),
        ("experiments/models/bert.py", "\nOTHER = 1\n", None),
        ("evidence/runs/pool.py", "\nOTHER = 1\n", None),
        ("experiments/cli/main.py", "\nOTHER = 1\n", None),
        ("experiments/planning/report.py", "\nOTHER = 1\n", None),
        ("experiments/studies/session.py", "\nOTHER = 1\n", None),
        ("integrations/huggingface.py", "\nOTHER = 1\n", None),
        ("__init__.py", "\nOTHER = 1\n", None),
    ],
)
def test_what_cannot_change_a_run_leaves_its_code_as_it_is(edited, name, new, old):
    spec = Spec.of(RUN)
    before = run_modules(spec)
    edited(name, new, old)
    assert run_modules(spec) == before


@pytest.mark.parametrize(
    "name",
    [
        "controller.py",
        "seeds.py",
        "kernels/recording/gradient_rules.py",
        "backward/sparse.py",
        "flops/executed.py",
        "methods/base.py",
        "methods/mat.py",
        "experiments/tasks/base.py",  # the loss
        "experiments/tasks/digits.py",
        "experiments/tasks/images/classification.py",
        "experiments/models/vgg.py",
        "experiments/training/loop.py",
    ],
)
def test_an_edit_to_what_a_run_stands_on_changes_that_module_alone(edited, name):
    spec = Spec.of(RUN)
    before = run_modules(spec)
    edited(name, "\nOTHER = 1\n")
    after = run_modules(spec)
    changed = "mat." + name.removesuffix(".py").replace("/", ".")
    assert {module for module in before | after if before.get(module) != after.get(module)} == {changed}
    assert code_version.code_hash(before) != code_version.code_hash(after)


def test_imports_within_functions_are_followed_and_those_for_type_checking_are_not(edited):
    before = run_modules(Spec.of(RUN))
    edited("methods/mat.py", "\ndef late():\n    from mat.methods import misa\n")
    late = run_modules(Spec.of(RUN))
    assert set(late) - set(before) >= {"mat.methods.misa"}
    typed = "\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mat.evidence.runs import pool\n"
    edited("methods/mat.py", typed)
    assert set(run_modules(Spec.of(RUN))) == set(late)


def test_an_edit_to_a_study_leaves_runs_and_other_studies_as_they_are(edited):
    config = ScaleConfig.of(CONFIG)
    (agreement,), (branches,) = (STUDIES[name].jobs(config) for name in ("agreement", "branches"))
    run, *before = (
        run_modules(agreement.spec),
        STUDIES["agreement"].session.modules(agreement),
        STUDIES["branches"].session.modules(branches),
    )
    edited("experiments/studies/branches/fork.py", "\nOTHER = 1\n")
    assert run_modules(agreement.spec) == run
    assert STUDIES["agreement"].session.modules(agreement) == before[0]
    assert STUDIES["branches"].session.modules(branches) != before[1]
    assert set(before[1]) > {"mat.experiments.training.loop", "mat.experiments.tasks.digits"}


def test_a_file_of_someones_own_counts_with_what_it_imports_wherever_it_lies(tmp_path):
    text = "from mat import Controller\nfrom mat.methods.misa import Misa\n\nMETHOD = Misa\n"
    for folder, added in (("a", ""), ("b", "# said otherwise\n"), ("c", "SHARE = 1\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text + added)
    first, moved, other = (modules(tmp_path / folder / "mine.py") for folder in "abc")
    assert first == moved and set(first) >= {"mine.py", "mat.controller", "mat.methods.misa", "mat.methods.base"}
    assert other["mine.py"] != first["mine.py"]


def test_no_registry_is_followed():
    found = run_modules(Spec.of(RUN))
    assert not set(found) & set(code_version.REGISTRIES)
    assert not [name for name in found if name.startswith(("mat.evidence", "mat.experiments.cli"))]
    assert "mat.experiments.tasks.glue" not in found and "mat.methods.misa" not in found
    assert all(len(digest) == code_version.DIGITS for digest in found.values())
    assert Path(code_version.LIBRARY, "controller.py").is_file()
