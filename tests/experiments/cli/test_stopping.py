"""A command that is stopped by a signal says one line, keeps what it has done, and ends with the signal's status."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mat.experiments.cli import main as command_line
from mat.experiments.cli import stopping

STOPS = [signal.SIGTERM, signal.SIGHUP]
pytestmark = pytest.mark.usefixtures("foreground")


@pytest.mark.parametrize("number", [*STOPS, signal.SIGINT])
def test_a_stopped_command_says_one_line_and_ends_with_the_status_of_the_signal(number, monkeypatch, capsys):
    monkeypatch.setattr(command_line.cli, "invoke", lambda context: os.kill(os.getpid(), number))
    assert command_line.main(["list", "methods"]) == 128 + number
    assert capsys.readouterr().err == "mat: interrupted; give the same command again\n"
    assert [signal.getsignal(one) for one in STOPS] == [signal.SIG_DFL] * 2


@pytest.mark.parametrize("number", STOPS)
def test_the_handler_of_interrupts_is_asked_so_that_states_are_saved(number):
    heard = []
    signal.signal(signal.SIGINT, lambda received, frame: heard.append(received))
    with stopping.as_interrupts() as come:
        os.kill(os.getpid(), number)
        assert (heard, come) == ([signal.SIGINT], [number])


def test_a_signal_stops_what_ignores_interrupts_and_not_what_ignores_the_signal():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with stopping.as_interrupts() as come:
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert come == [signal.SIGTERM]


def test_a_fork_ends_by_the_signal():
    with stopping.as_interrupts():
        process = os.fork()
        if process == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGTERM


def test_another_thread_leaves_signals_as_they_are():
    found = []

    def look():
        with stopping.as_interrupts():
            found.extend(map(signal.getsignal, STOPS))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL] * 2


def test_the_status_is_the_same_where_the_line_cannot_be_written():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "mat", "nonsense"], stderr=full, check=False)
    assert done.returncode == 2
