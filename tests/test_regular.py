"""What is no regular file is refused at once, in one line, wherever a path is given; nothing waits for a pipe."""

import os
import signal
import socket
from contextlib import contextmanager

import click
import pytest

from mat.experiments.cli import options
from mat.experiments.cli.main import cli, main
from mat.records.files import read_json, read_whole, replacing
from mat.records.seal import SEAL, check_seal, sha256
from mat.regular import content, is_special, opened
from mat.settings.given import read_text
from tests.experiments.cli.small_run import SPEC


@pytest.fixture(params=["pipe", "device", "socket", "link"])
def special(request, tmp_path, monkeypatch):
    """The path of something that is no file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "special"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("special")
    else:
        os.mkfifo(tmp_path / "other")
        path.symlink_to("other")
    return path


@contextmanager
def soon():
    """An error where what is done waits."""

    def waited(*_):
        raise AssertionError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_readers_refuse_it(special):
    (special.parent / "folder").mkdir()
    os.symlink(special, special.parent / "folder" / SEAL)
    assert is_special(special) and not is_special(special.parent) and not is_special(special / "x")
    readers = (content, sha256, lambda path: opened(path).close(), lambda path: read_text(path, "a text"))
    sealed = (lambda path: check_seal(path.parent / "folder" / SEAL, (), "again"),)
    for read in (*readers, *sealed, read_json, read_whole):
        with soon(), pytest.raises((OSError, ValueError), match="a pipe, a device or a socket"):
            read(special)


def test_nothing_takes_its_place(special):
    with pytest.raises(OSError, match="a pipe, a device or a socket"), replacing(special) as half:
        half.write_text("lost")
    assert is_special(special)
    assert not [path for path in special.parent.iterdir() if path.name.startswith(".")]


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        content(tmp_path)
    with pytest.raises(FileNotFoundError):
        content(tmp_path / "none")


def places():
    """Every option and argument of every command that takes a path."""
    found = []

    def look(command, above):
        for name, one in getattr(command, "commands", {}).items():
            look(one, (*above, name))
        found.extend((above, one) for one in command.params if isinstance(one.type, click.Path))

    look(cli, ())
    return found


def test_every_path_of_the_command_line_is_of_the_type_that_refuses_it():
    assert len(places()) > 30
    assert not [(command, one.name) for command, one in places() if one.type is not options.PATH]


@pytest.mark.parametrize(
    "args",
    [
        ["runs", "import", "special"],
        ["runs", "export", "special", "-o", "out.zip"],
        ["runs", "export", "folder", "-o", "special"],
        ["train", "--spec", "special", "--out", "run"],
        ["train", "--task", "special.py", "--model", "vgg", "--method", "mat", "--out", "run"],
        ["train", "--spec", str(SPEC).replace("'", '"'), "--out", "special"],
        ["train", "--spec", str(SPEC).replace("'", '"'), "--out", "run", "--data", "special"],
        ["plan", "--config", "special"],
        ["tune", "--config", "special", "--budget", "2"],
        ["show", "special"],
        ["compare", "special", "special"],
        ["check-plugin", "special.py"],
        ["summary", "--tables", "special"],
        ["step", "table", "verdicts", "--tables", "tables", "--claims", "special"],
        ["step", "measure", "agreement", "--job", "special", "--out", "out.csv.gz"],
    ],
)
def test_commands_refuse_it_in_one_line(args, special, capsys):
    os.symlink(special, "special.py")
    with soon():
        assert main(args) == 2
    said = capsys.readouterr().err
    assert said.startswith("mat: error: ") and said.count("\n") == 1
    assert is_special(special)
