"""Commands that are handed over to a server: they find, compute and end as in processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from mat.experiments.cli import handover, serve
from mat.experiments.cli.main import main
from mat.experiments.training import code_version
from mat.records.files import CURVE, PROBES, read_whole
from tests.experiments.cli.small_run import SPEC

MODULES = ("mat.experiments.tasks.digits", "mat.experiments.models.vgg", "mat.methods.mat")
FINDS = """
import json, os, random, signal, sys
import numpy, torch, threadpoolctl
numpy.ones((2, 2)) @ numpy.ones((2, 2))
print(json.dumps({
    "folder": os.getcwd(), "umask": os.umask(0), "argv": sys.argv, "path": sys.path,
    "variable": os.environ.get("TMPDIR"), "threads": os.environ["OMP_NUM_THREADS"], "torch": torch.get_num_threads(),
    "pools": sorted((pool["filepath"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()
                    if "numpy" in pool["filepath"] or "torch" in pool["filepath"]),
    "signals": [str(getattr(how, "__qualname__", how)) for how in map(
        signal.getsignal, (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP))],
    "buffered": sys.stdout.line_buffering, "input": sys.stdin.read(), "cuda": torch.cuda.is_initialized(),
}))
print(json.dumps({
    "parent": os.getppid(), "group": os.getpgid(0) == os.getpid(), "numpy": numpy.random.random(),
    "torch": torch.initial_seed(), "python": random.random(), "vgg": "torchvision.models.vgg" in sys.modules,
}))
"""
BARE = """
import os, sys
sys.path[0] = os.getcwd()  # as with -m
from mat.experiments.cli import serve
from mat.experiments.cli.main import main
serve.import_all = lambda modules: None
serve.forget_seeds = lambda: None
main(["step", "serve"])
"""
SPEC_JSON = json.dumps({**SPEC, "threads": 2})  # the server has one
WAITS = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(300)"


def environment(**others):
    given = {name: value for name, value in serve.shared(os.environ).items() if name != "PYTEST_CURRENT_TEST"}
    return {**given, "OMP_NUM_THREADS": "1", "PWD": "/", **others}


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        made = started(MODULES, patch)
    yield made
    made.stdin.close()
    assert made.wait(30) == 0
    assert not Path(made.path).parent.exists()


def started(modules, patch):
    """A server, its socket's path, and the environment that it was given, to which a run in this process may add."""
    patch.setenv(handover.VARIABLE, "")
    patch.delenv("PYTEST_CURRENT_TEST")  # changes from test to test
    made = handover.start(modules)
    made.path, made.given = os.environ[handover.VARIABLE], environment()
    return made


def call(server, *args, **others):
    """A command, by the server where one is given."""
    given = {**server.given, handover.VARIABLE: server.path} if server else environment()
    return subprocess.Popen(
        [sys.executable, "-m", "mat", *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**given, **others},
        # where the tests run in the background of a shell, they are started with it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def script(folder, text):
    """A command that runs a script."""
    path = folder / "script.py"
    path.write_text(text)
    return ["step", "draw", path, "--tables", folder, "--out", folder]


def ends_with(server, folder, end):
    """A command that waits ends with its server, and says why."""
    made = call(server, *script(folder, WAITS))
    process = int(made.stdout.readline())
    end()
    _, error = made.communicate(timeout=300)
    assert made.returncode == 1
    assert error == "mat: error: the server that ran the command has gone; run it again\n"
    assert gone(process)
    server.wait(30)


def gone(process):
    """Whether a process ends within a while."""
    for _ in range(600):
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.05)
    return False


def test_a_command_finds_what_it_would_find_in_a_process_of_its_own(server, tmp_path):
    asked = script(tmp_path, FINDS)
    found = []
    for by in (server, server, None):
        made = call(by, *asked, OMP_NUM_THREADS="2", TMPDIR=str(tmp_path))  # the server has one
        out, error = made.communicate("text", timeout=300)
        assert error == ""
        found.append([json.loads(line) for line in out.splitlines()])
    assert found[0][0] == found[1][0] == found[2][0]
    assert found[0][0]["torch"] == 2
    assert found[0][0]["input"] == "text"
    assert [own["parent"] for _, own in found[:2]] == [server.pid] * 2
    assert found[2][1]["parent"] == os.getpid()
    assert all(own["group"] and own["vgg"] for _, own in found[:2])
    for generator in ("numpy", "torch", "python"):
        assert len({own[generator] for _, own in found}) == 3, generator


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The folder of a run that this process computed, without an end between."""
    out = tmp_path_factory.mktemp("own") / "run"
    assert main(["train", "--spec", SPEC_JSON, "--out", str(out)]) == 0
    return out


def assert_same_run(folder, other):
    for table in (CURVE, PROBES):
        one, two = (read_whole(place / table) for place in (folder, other))
        clocks = [column for column in one if column.startswith("seconds")]
        pd.testing.assert_frame_equal(one.drop(columns=clocks), two.drop(columns=clocks), check_exact=True)
    one, two = (json.loads((place / "run.json").read_text()) for place in (folder, other))
    assert one == two


def test_a_run_is_to_the_bit_what_another_process_computes(server, own, tmp_path):
    made = call(server, "train", "--spec", SPEC_JSON, "--out", tmp_path / "run", OMP_NUM_THREADS="2")
    _, error = made.communicate(timeout=300)
    assert made.returncode == 0, error
    assert_same_run(tmp_path / "run", own)


def test_a_killed_run_resumes_to_the_same_numbers(server, own, tmp_path, capsys):
    given = ["train", "--spec", SPEC_JSON, "--out", str(tmp_path / "run")]
    made = call(server, *given, "--save-every", 0, OMP_NUM_THREADS="2")
    while not list(tmp_path.glob(".state/*/0*")):
        assert made.poll() is None, "it ended before a state was saved"
        time.sleep(0.01)
    made.kill()
    made.communicate()
    assert not (tmp_path / "run/final.json").exists()
    assert main(given) == 0
    capsys.readouterr()
    assert_same_run(tmp_path / "run", own)
    assert main(["show", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "digits-vgg-mat-s0" in shown and "finished" in shown


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("print('out'); raise ValueError('why')", 1, "ValueError: why"),
        ("raise KeyboardInterrupt", 130, "give the same command again"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_a_command_ends_as_in_a_process_of_its_own(server, tmp_path, text, status, said):
    for by in (server, None):
        made = call(by, *script(tmp_path, text))
        out, error = made.communicate(timeout=300)
        assert made.returncode == status
        assert said in error
        assert out == ("out\n" if "out" in text else "")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_to_the_caller_ends_the_command(server, tmp_path, number, status):
    made = call(server, *script(tmp_path, WAITS))
    process = int(made.stdout.readline())
    assert process != made.pid
    made.send_signal(number)
    made.communicate(timeout=300)
    assert made.returncode == status
    assert gone(process)


def test_the_server_has_no_thread_of_its_own(server, tmp_path):
    call(server, *script(tmp_path, "")).communicate(timeout=300)
    tasks = Path(f"/proc/{server.pid}/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    assert len(names) - names.count("jemalloc_bg_thd") == 1


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_what_runs_ends_with_a_server_that_is_ended(tmp_path, monkeypatch, how):
    """A server that imports nothing ahead."""
    bare = SimpleNamespace(
        PIPE=subprocess.PIPE, Popen=lambda command, **how: subprocess.Popen([sys.executable, "-c", BARE], **how)
    )
    monkeypatch.setattr(handover, "subprocess", bare)
    server = started((), monkeypatch)
    ends_with(server, tmp_path, lambda: server.send_signal(signal.Signals[how]))
    left = Path(server.path).parent
    assert left.exists() == (how == "SIGKILL")
    if how == "SIGKILL":
        Path(server.path).unlink()
        left.rmdir()


# says at its very end how the server that it had ended
ASKS = """
import atexit
from mat.experiments.cli import handover
atexit.register(lambda: print(server.returncode))
server = handover.start(())
"""


def test_a_process_waits_for_its_server_so_that_its_seconds_are_counted():
    given = environment(**{handover.VARIABLE: ""})
    done = subprocess.run([sys.executable, "-c", ASKS], stdout=subprocess.PIPE, text=True, env=given, check=True)
    assert done.stdout == "0\n"


def test_a_place_where_no_socket_can_be_is_said_in_one_line(tmp_path, monkeypatch, capfd):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv(handover.VARIABLE, "")
    monkeypatch.setenv("TMPDIR", str(folder))
    assert handover.start(()).wait(300) == 2
    assert os.environ[handover.VARIABLE] == ""
    error = capfd.readouterr().err
    assert error.startswith(f"mat: error: cannot serve at {folder}")
    assert error.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_without_a_server_the_command_runs_in_its_own_process(tmp_path):
    done = call(None, "show", tmp_path / "nowhere", **{handover.VARIABLE: str(tmp_path / "none")})
    _, error = done.communicate(timeout=300)
    assert done.returncode == 2
    assert re.match("mat: error: run directory .*nowhere is incomplete", error)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": environment(HF_HUB_OFFLINE="another")},
        {"environment": environment(OMP_NUM_THREADS="")},
        {"interpreter": ["another", *handover.interpreter()[1:]]},
    ],
    ids=["environment", "threads", "interpreter"],
)
def test_a_command_that_would_find_something_else_is_not_taken(change, monkeypatch):
    asked = {"environment": environment(SHLVL="9", TMPDIR="/another"), "interpreter": handover.interpreter()}
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    server = serve.Server((), main)
    assert server.takes(asked)
    assert not server.takes({**asked, **change})


@pytest.mark.parametrize("edit", ["change", "add", "remove"])
def test_no_command_is_taken_once_the_code_has_changed(tmp_path, monkeypatch, edit):
    monkeypatch.setattr(serve, "LIBRARY", tmp_path)
    (tmp_path / "a.py").write_text("A = 1\n")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    server, asked = serve.Server((), main), {"environment": environment(), "interpreter": handover.interpreter()}
    assert server.takes(asked)
    name = "b.py" if edit == "add" else "a.py"
    (tmp_path / name).unlink() if edit == "remove" else (tmp_path / name).write_text("A = 12\n")
    assert not server.takes(asked)


KEEPS = """
import resource
from mat.experiments.cli import serve

def new_from_the_system():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * 2**22 for _ in range(8)]
    del blocks
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 2**22

serve.keep_memory()
new_from_the_system()
print(new_from_the_system())
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()), reason="GNU's C library alone")
def test_what_a_command_frees_is_what_it_allocates_next():
    """Not one of eight blocks is new from the system, where the C library by itself asks again for most of them."""
    process = subprocess.run([sys.executable, "-c", KEEPS], capture_output=True, text=True, check=True)
    assert float(process.stdout) < 1


def test_what_is_imported_is_what_the_code_names_anywhere():
    named = code_version.imports(code_version.TRAINING, *MODULES)
    assert {"mat.experiments.training.loop", "mat.methods.mat", "torchvision.models.vgg.VGG"} <= set(named)
    assert {"sklearn.datasets.load_digits", "safetensors.SafetensorError"} <= set(named)
    assert not {"mat.experiments.models.bert", "mat.methods.vanilla", "transformers.BertForMaskedLM"} & set(named)


def test_what_runs_ends_with_a_server_whose_input_ends(server, tmp_path):
    """The last: it ends the server of the tests above, which leaves nothing behind."""
    path = Path(server.path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    ends_with(server, tmp_path, server.stdin.close)
