"""The command line through real processes: help, one run, and bad input."""

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mat import __main__ as mat_module
from mat.experiments.cli.commands.plugins import INDENT, WIDTH, listed
from mat.experiments.cli.commands.train import described
from mat.experiments.cli.main import main
from mat.experiments.config.spec import Probe, Recipe
from mat.methods.mat import MAT
from mat.settings.strict import descriptions
from tests.experiments.cli.small_run import SPEC

ROOT = Path(__file__).parents[3]

CIFAR = json.dumps({**SPEC, "task": {"name": "cifar10"}})
SHORT = {**SPEC, "recipe": {**SPEC["recipe"], "epochs": 1}, "seed": 3}


def command(*args):
    return [sys.executable, "-m", "mat", *map(str, args)]


def mat(*args, **environment):
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=120, env=env)


PEOPLE = ["train", "list", "show", "plan", "trace", "summary", "compare", "runs", "reference", "kernels"]
PEOPLE += ["check-plugin", "burst", "step", "tune"]
STEPS = (
    *("fetch", "prepare", "measure", "ceiling", "collect", "table", "power", "draw", "crate"),
    *("provenance", "report", "reproducibility", "schema"),
)


def test_help_names_every_command():
    for args, names in ((["--help"], PEOPLE), (["step", "--help"], STEPS)):
        text = mat(*args).stdout
        listed = re.findall(r"^  (\S+)  +\S", text.partition("Commands:")[2], re.MULTILINE)
        assert sorted(listed) == sorted(names)
    assert "Examples:" in mat("--help").stdout


def test_list_shows_what_there_is_with_its_settings(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    names = ["digits", "hmm", "cifar10", "wikitext", "vgg", "bert", "switch", "vanilla", "multirate"]
    assert all(name in text for name in (*names, "method.alpha = 0.1"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run from a specification's file, and the same run from flags."""
    root = tmp_path_factory.mktemp("trained")
    (root / "spec.json").write_text(json.dumps(SHORT))
    given = ["--seed", 3]
    for block in ("model", "recipe", "probe"):
        for key, value in SPEC[block].items():
            if key != "name":
                given += ["--set", f"{block}.{key}={json.dumps(value)}"]
    given += ["--set", "recipe.epochs=1"]
    flags = ["--task", "digits", "--model", "vgg", "--method", "mat"]
    assert main(["train", "--spec", str(root / "spec.json"), "--out", str(root / "one")]) == 0
    assert main([*map(str, ("train", *flags, *given, "--out", root / "two"))]) == 0
    return root


def test_flags_make_the_same_run_as_a_specification(trained):
    from mat.experiments.config.spec import Spec

    names = {json.loads((trained / name / "run.json").read_text())["name"] for name in ("one", "two")}
    assert names == {Spec.of(SHORT).name}


def test_two_runs_of_one_specification_compare_as_the_same(trained, tmp_path, capsys):
    other = json.dumps({**SHORT, "seed": 4})
    assert main(["train", "--spec", other, "--out", str(tmp_path / "other")]) == 0
    capsys.readouterr()
    assert main(["compare", str(trained / "one"), str(trained / "two")]) == 0
    assert "1 are the same to the bit and 0 differ" in capsys.readouterr().out
    assert main(["compare", str(trained / "one"), str(trained / "two"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["same"]
    assert main(["compare", str(trained / "one"), str(tmp_path / "other")]) == 0
    said = capsys.readouterr().out
    assert "first at step 0" in said
    assert re.search(r"spec: seed +3 \| 4", said)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--spec", "{", "--out", "x"], "--spec is not JSON"),
        (["train", "--spec", "nowhere.json", "--out", "x"], "cannot read 'nowhere.json'"),
        (["train", "--spec", "/dev/zero", "--out", "x"], "it is a pipe, a device or a socket, expected a file"),
        (["train", "--spec", '{"seed": 1, "seed": 2}', "--out", "x"], "the key 'seed' stands twice"),
        (["train", "--spec", "{}", "--set", 'probe.n={"a": 1, "a": 2}', "--out", "x"], "the key 'a' stands twice"),
        (["train", "--spec", "{}", "--set", "probe.n=" + "[" * 10**5, "--out", "x"], "is not JSON: maximum recursion"),
        (["train", "--spec", "{}", "--set", "probe.n=" + "9" * 5000, "--out", "x"], "is not JSON: Exceeds the limit"),
        (["train", "--save-every", "nan", "--out", "x"], "expected a finite number, got nan"),
        (["train", "--save-every", "-1", "--out", "x"], "-1.0 is not in the range x>=0"),
        (["burst", "--minutes", "nan"], "expected a finite number, got nan"),
        (["train", "--out", "x"], "'task' is missing; known: task, model, method"),
        (["train", "--task", "mnist", "--out", "x"], "is missing"),
        (["train", "--spec", json.dumps({**SPEC, "sead": 1}), "--out", "x"], "unknown key 'sead'"),
        (["train", "--spec", json.dumps(SPEC), "--set", "alpha=1", "--out", "x"], "--set expects BLOCK.KEY=VALUE"),
        (
            ["train", "--spec", json.dumps(SPEC), "--set", "method.alpha=2", "--out", "x"],
            "alpha: expected a number ≤ 1",
        ),
        (["train", "--spec", json.dumps(SPEC), "--seed", "-1", "--out", "x"], "seed: expected a number ≥ 0, got -1"),
        (["train", "--spec", CIFAR, "--data", "nowhere", "--out", "x"], "data folder nowhere does not exist"),
        (["step", "prepare", "--spec", CIFAR, "--data", ".", "--out", "x"], "MAT_DATA"),
        (["step", "prepare", "--spec", json.dumps({**SPEC, "probe": {"n": 5000}}), "--out", "x"], "probe size"),
        (["step", "prepare", "--spec", "[]", "--out", "x"], "cannot read '[]'"),
        (["train", "--spec", '{"task": "digits"}', "--set", "task.shift=0", "--out", "x"], "task must be a mapping"),
        (["show", "nowhere"], "nowhere"),
        (["compare", "nowhere", "."], "neither a run directory"),
        (["lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["train", "--oot", "x"], "No such option '--oot'"),
        (["train", "--seed", "one", "--out", "x"], "'one' is not a valid integer"),
        (["list", "task"], "'task' is not one of 'tasks', 'models', 'methods', 'recipe', 'probe'"),
        (["kernels"], "give one of MODEL (a hub id or a folder) and --model FILE.py:FUNCTION"),
        (["kernels", "--model", "x.py:f"], "with a file that exists, got 'x.py:f'"),
        (["kernels", ".", "--estimator", "loss"], "estimator 'loss' needs labels: give --model FILE.py:FUNCTION"),
        (["kernels", "/no/where"], "no model can be made of /no/where: there is no such folder, and as a hub id: "),
        (["kernels", ".", "--normalisation", "no"], "unknown normalisation 'no'"),
        (["kernels", "."], "no model can be made of .: "),
        (["step", "collect", "nowhere", "--tables", "t"], "nowhere"),
        (["step", "table", "agreement", "nowhere", "--tables", "t", "--claims", "c"], "cannot read 'c'"),
        (["step", "table", "trainability", "nowhere", "--tables", "t"], "nowhere.sha256 cannot be read"),
        (["step", "table", "branches", "--tables", "t"], "unknown table 'branches'; expected one of "),
        (["step", "measure", "studies", "--job", "{}", "--out", "x"], "studies"),
    ],
)
def test_bad_input_is_one_line(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAT_DATA", raising=False)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("mat: error: ")
    assert not (tmp_path / "x").exists()


def test_a_letter_that_the_terminal_lacks_is_written_by_its_number(monkeypatch):
    said = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", said)
    assert main(["list", "probe"]) == 0
    assert "Kendall's \\u03c4_b" in said.buffer.getvalue().decode("latin-1")


def test_output_that_is_closed_is_no_fault(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["list", "probe"]) == 0


def test_the_process_exits_with_2_on_bad_input(tmp_path):
    done = mat("show", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_list_of_one_kind_says_what_each_setting_means_and_once_what_all_have(capsys):
    assert main(["list", "methods"]) == 0
    text = capsys.readouterr().out
    lines = spaced(text.splitlines())
    assert lines[0] == "methods"
    assert not {"tasks", "models"} & set(lines)
    assert text.count("method.mode = 'detach'") == 1
    assert lines.index("(every) Settings that every method has; a line of its own goes before.") < lines.index(
        next(line for line in lines if line.startswith("vanilla "))
    )
    meaning = text.partition("method.beta = 0.001")[2].partition("    method.")[0]
    assert " ".join(meaning.split()) == descriptions(MAT)["beta"]


def test_list_says_what_recipe_and_probe_hold(capsys):
    for block, record in (("recipe", Recipe), ("probe", Probe)):
        assert main(["list", block]) == 0
        lines = capsys.readouterr().out.splitlines()
        named = [line.split()[0] for line in lines if line.startswith(f"    {block}.")]
        assert named == [f"{block}.{field.name}" for field in fields(record)]


def test_names_and_meanings_that_are_listed_begin_in_one_column(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for kind in ("tasks", "models", "methods"):
        own = lines[lines.index(kind) + 1 :]
        own = own[: own.index("")]
        assert len({re.match(r"  \S+ +", line).end() for line in own if re.match(r"  \S", line)}) == 1
    for line in lines:
        if line.startswith("    ") and len(line) > WIDTH - 40 and " = (" not in line:
            assert line[INDENT] == " " and line[INDENT + 1] != " "
        assert len(line) <= WIDTH or " = (" in line or not line.startswith("    ")


def test_a_package_s_plug_in_is_listed_and_one_that_cannot_be_used_hides_no_other(monkeypatch):
    points = [EntryPoint(name, f"{module}:METHOD", "mat.methods") for name, module in OTHERS.items()]
    monkeypatch.setattr("mat.experiments.config.plugins.entry_points", lambda group: points)
    lines = spaced(listed("method"))
    assert lines[-2].startswith("absent cannot be used: ")
    assert lines[-1] == "other Vanilla: every module trains at every step; plain PyTorch, nothing skipped."


def spaced(lines):
    """Lines with one space in place of many: how wide a column of names is depends on the longest name."""
    return [" ".join(line.split()) for line in lines]


OTHERS = {"absent": "nowhere_to_be_found", "other": "mat.methods.vanilla"}


def test_a_python_file_is_a_plug_in_of_one_s_own_and_any_other_word_a_name():
    given = described(None, {"task": "digits", "model": None, "method": "a/my.py"}, {"seed": 2, "threads": None})
    assert given == {"task": {"name": "digits"}, "method": {"file": "a/my.py"}, "seed": 2}


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_closes_the_pipe_ends_it_quietly(unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command("list", "methods"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_list_piped_to_head_gives_its_first_lines_and_nothing_else():
    line = f"{' '.join(command('list', 'methods'))} | head -3"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


def test_help_and_methods_come_without_torch():
    calls = [args.split() for args in ("--help", "step --help", "train --help", "list methods")]
    code = f"import sys; from mat.__main__ import main; [main(args) for args in {calls}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("\nFalse\n"), done.stderr


@pytest.mark.parametrize("missing", ["click", "pandas"])
def test_with_the_library_alone_one_line_says_what_to_install(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from mat.__main__ import main; sys.exit(main(['show', '.']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mat: error: this command needs {missing}, which is not installed; ")
    assert done.stderr.endswith('pip install "mat-reference[experiments]"\n')
    assert done.stderr.count("\n") == 1


def test_the_console_script_is_the_module_s_own_main():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {name: EntryPoint(name, value, "console_scripts").load() for name, value in scripts.items()} == {
        "mat": mat_module.main
    }


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mat.experiments.planning.report.report", interrupted)
    assert main(["plan", "--config", "demo"]) == 130
    assert "interrupted; give the same command again" in capsys.readouterr().err


def test_check_plugin_says_what_is_missing_or_that_it_passes(tmp_path, capsys):
    example = ROOT / "docs/examples/my_method.py"
    assert main(["check-plugin", str(example)]) == 0
    assert capsys.readouterr().out == f"{example}: passes\n"
    (tmp_path / "mine.py").write_text('"""Mine."""\n')
    assert main(["check-plugin", str(tmp_path / "mine.py")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"mat: error: {tmp_path / 'mine.py'}: 1 of the contract not kept:"
    assert lines[1].startswith("  it is no plug-in: ")
    assert main(["check-plugin", str(tmp_path / "absent.py")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


DEMO = ["--tables", str(ROOT / "results/reference/demo/tables")]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["plan", "--config", "demo", "--rate", "1"], "digits"),
        (["summary", *DEMO], "Modular Adaptive Training, scale demo"),
        (["trace", *DEMO, "results", "digits", "mat", "test_metric"], "digits-vgg-mat-s0"),
        (["compare", DEMO[1], DEMO[1]], "verdicts: 0 changed"),
    ],
)
def test_commands_that_read_give_their_text(args, said, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(args) == 0
    assert said in capsys.readouterr().out
