"""Runs in processes of their own: what a run that fails says, and an interrupt that reaches each once."""

import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from mat.errors import InputError
from mat.experiments.cli.commands.tune import Trainer


def run(name):
    spec = SimpleNamespace(name=name, json="{}", threads=1)
    return SimpleNamespace(spec=spec, labels={}, task="digits", method="mat-1", follows=None, starts_from=None)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Puts a script in the place of Python."""

    def put(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return put


def test_a_run_that_fails_is_named_with_its_last_line(tmp_path, stub):
    stub("echo first >&2; echo 'mat: error: no room' >&2; exit 2")
    with pytest.raises(InputError, match="digits by mat-1: mat: error: no room"):
        Trainer(tmp_path / "runs", 2, ()).train([run("a")])


def test_an_interrupt_reaches_every_run_once_and_begins_no_other(tmp_path, stub):
    stub(f"echo begun >> {tmp_path}/begun; trap 'echo saved >> {tmp_path}/saved; exit 130' INT; sleep 60 & wait")
    begun = tmp_path / "begun"

    def interrupt():
        while not (begun.is_file() and begun.read_text().count("begun") == 2):
            time.sleep(0.01)
        time.sleep(0.05)  # until the second has its trap
        os.kill(os.getpid(), signal.SIGINT)

    # where the tests run in the background of a shell, they are started with it ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Trainer(tmp_path / "runs", 2, ()).train([run("a"), run("b"), run("c")])
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert (tmp_path / "saved").read_text().count("saved") == 2 and begun.read_text().count("begun") == 2
