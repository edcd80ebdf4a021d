"""README and docs: they say what the tables say, their links lead somewhere, and what they show runs."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import click
import pandas as pd
import pytest

import mat
from mat.errors import InputError
from mat.evidence.reference import pages
from mat.experiments.cli.main import cli
from mat.kernels.ntk import modular_ntk
from tests.cases import vgg_case

ROOT = Path(__file__).parents[2]
SHOWN = "results/reference/subset/only/stage1"  # what the README speaks of
PAGES = [*pages.pages(ROOT), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INCLUDED = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
MAKE = set(re.findall(r"^([\w./$()-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
named = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_bytes()) <= 7_000


@named
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@named
def test_a_page_says_what_the_committed_tables_say(page):
    """If not: python -m mat reference pages"""
    assert pages.filled(page.read_text(), ROOT) == page.read_text()


def test_what_the_site_fills_in_beside_is_there():
    filled = {page.name: pages.filled(page.read_text(), ROOT, lists=True) for page in pages.pages(ROOT)}
    assert not [name for name, text in filled.items() if re.search(r"-->\s*<!-- /mat", text)]
    assert "## vanilla\n" in filled["methods.md"]
    assert "{#C4}\n" in filled["claims.md"] and "{#A1}\n" in filled["open-choices.md"]


@pytest.fixture
def copy(tmp_path):
    """README, docs and what they are filled from."""
    for name in ("docs", "workflows", "results/reference"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.zip", "*.html"))
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_a_changed_table_changes_readme_and_docs(copy):
    assert pages.fill(copy) == []
    path = copy / SHOWN / "tables/verdicts.csv"
    frame = pd.read_csv(path)
    frame.loc[(frame["claim"] == "C5r") & frame["decides"], "effect"] += 1
    frame.to_csv(path, index=False)
    assert pages.fill(copy) == ["README.md", "docs/results.md"]
    assert pages.fill(copy) == []


def test_a_place_of_nothing_known_is_refused():
    with pytest.raises(InputError, match="unknown place mat:findings; expected one of finding, headline, verdicts"):
        pages.filled("<!-- mat:findings demo -->\n<!-- /mat -->", ROOT)
    with pytest.raises(InputError, match="nowhere/tables: expected reference results, found none"):
        pages.filled("<!-- mat:finding nowhere -->\n<!-- /mat -->", ROOT)


@named
def test_no_measured_number_is_typed(page):
    """Percentages, intervals and decimals stand in filled places only; settings stand in code."""
    text = BLOCK.sub("", pages.PLACE.sub("", page.read_text()))
    text = re.sub(r"`[^`\n]+`|Python [\d.]+|arXiv\s[\d.]+|^## .*", "", text, flags=re.MULTILINE)
    assert re.findall(r"\S*\d[.,]\d\S*|\d+ ?%|\[[-−]?\d[^\]]*\]", text) == []


def blocks(page, language):
    return [(title, code) for kind, title, code in BLOCK.findall(page.read_text()) if kind == language]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_python_runs_as_it_is_printed(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    for title, code in blocks(page, "python"):
        if title:  # an example of docs/examples, which is run where it belongs
            assert (ROOT / INCLUDED.fullmatch(code.strip())[1].partition(":")[0]).is_file()
            continue
        exec(compile(code, str(page), "exec"), scope)
        check = CHECKS.get(page.name)
        if check:
            check(scope, capsys.readouterr().out)


def trainer(scope, printed):
    controller = scope["callback"].controller
    assert controller.step == 30 and len(controller.history) == 3
    assert "layer0.head0" in printed
    assert not any("forward" in vars(module) for module in scope["model"].modules())


def loop(scope, printed):
    controller = scope["controller"]
    assert len(controller.history) >= 2
    assert {row["module"] for row in controller.records} == set(controller.partition.names)


def table(scope, printed):
    assert all(name in printed for name in ("lambda_max", "layer0.head0", "layer1.ffn"))


CHECKS = {"README.md": trainer, "training.md": loop, "kernels.md": table}


def test_the_examples_estimator_is_the_block_of_the_full_kernel(monkeypatch):
    """Row i of the example is row (i, 1) of the full kernel, exactly the same gradient."""
    from mat.kernels import estimators

    monkeypatch.setattr(estimators, "ESTIMATORS", dict(estimators.ESTIMATORS))
    exec((ROOT / "docs/examples/my_estimator.py").read_text(), {})
    case = vgg_case()
    outputs = case.model.double()(**{name: value.double() for name, value in case.inputs.items()}).shape[1]
    inputs = {name: value.double() for name, value in case.inputs.items()}
    first, full = (modular_ntk(case.model, case.partition, inputs, name) for name in ("first_logit", "full"))
    for name in case.partition.names:
        assert (first[name] - full[name][::outputs, ::outputs]).abs().max() <= 1e-12 * full[name].abs().max()


def test_the_example_of_fine_tuning_draws_its_figure(tmp_path, monkeypatch):
    """With a tenth of its steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fine_tuning.py", "figure.png"])
    script = (ROOT / "docs/examples/fine_tuning.py").read_text()
    short = script.replace("train(low, 100,", "train(low, 10,").replace("train(high, 200,", "train(high, 20,")
    scope: dict = {}
    exec(compile(short, "fine_tuning.py", "exec"), scope)
    assert sorted(set(scope["records"]["step"])) == [0, 10]
    assert len(scope["records"]) == 2 * 10  # of two layers, four heads and a feed-forward block
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@named
def test_commands_are_there_with_their_options(page):
    text = page.read_text()
    lines = [(line, False) for _, code in blocks(page, "sh") for line in code.splitlines()]
    inline = re.findall(r"`((?:python -m|mat|make|snakemake|pip|uv|pytest) [^`]+)`", BLOCK.sub("", text))
    for line, part in [*lines, *((code, True) for code in inline)]:
        for command in line.split("&&"):
            known(shlex.split(command, comments=True), part)


def known(words, part):
    """Fail unless this is a command that a clone has; a ``part`` of one may leave out what it asks for."""
    words = [word for word in words if not re.fullmatch(r"[A-Z]+=\S*", word)]
    match words:
        case []:
            pass
        case ["mat", *rest] | ["python", "-m", "mat", *rest]:
            parsed(rest, part)
        case ["make", *targets]:
            assert {target.replace(".venv", "$(VENV)") for target in targets} <= MAKE, words
        case ["snakemake", *rest]:
            for before, after in pairwise(rest):
                assert before != "--profile" or (ROOT / after / "config.yaml").is_file(), words
            for scale in re.findall(r"scale=(\w+)", " ".join(rest)):
                assert (ROOT / f"workflows/config/{scale}.yaml").is_file(), words
        case ["pip", "install", *rest]:
            asked = re.findall(r"\.\[([\w,]+)\]", " ".join(rest))
            assert asked or rest == ["."], words
            assert {name for group in asked for name in group.split(",")} <= set(PROJECT["optional-dependencies"]), (
                words
            )
        case ["uv", "lock"]:
            assert (ROOT / "uv.lock").is_file()
        case ["uv", "sync", *rest]:
            assert {after for before, after in pairwise(rest) if before == "--extra"} <= set(
                PROJECT["optional-dependencies"]
            ), words
        case ["python", "-m", module]:
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), words
        case ["python", script, *_]:
            assert (ROOT / script).is_file(), words
        case ["pytest", place] | [".", place]:
            assert (ROOT / place).exists() or place.startswith(".venv"), words
        case ["git", "clone", *_] | ["cd", _] | ["export", *_]:
            pass
        case _:
            pytest.fail(f"no command that is known here: {shlex.join(words)}")


def parsed(words, part):
    """Read the words as the command line would, without running anything. Raises click's error."""
    command, name, context = cli, "mat", None
    try:
        while True:
            context = command.make_context(name, list(words), parent=context)
            if not isinstance(command, click.Group):
                return
            name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    except click.exceptions.Exit:  # help was asked for
        pass
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        assert part, words


def test_the_citation_is_valid_and_of_this_version():
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
    if not (program := shutil.which("cffconvert")):
        pytest.skip("cffconvert is not there: it asks for an old jsonschema, so no extra has it")
    subprocess.run([program, "--validate", "-i", ROOT / "CITATION.cff"], check=True)


def test_every_public_name_is_in_the_api():
    listed = re.findall(r"^::: (\S+)\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert {name for _, name in listed} >= set(mat.__all__)
    assert all(getattr(mat, name).__module__ == home for home, name in listed if name in mat.__all__)
