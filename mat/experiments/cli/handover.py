"""A command handed to a process that has everything imported: what ``mat`` does where such a server is named.

Starting Python with torch takes seconds, a run of the demo hardly longer. A server (``mat.experiments.cli.serve``)
imports once and forks for every command; this end passes arguments, folder, environment and open files, hands on
signals, and ends as the command ended. Where no server is named, or it does not take the command, the command runs in
the process that was started for it. Imports the standard library alone, because it comes before everything else.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

VARIABLE = "MAT_SERVER"  # names the server's socket
TAKEN = b"+"  # the answer to a call; without it the connection is closed
LENGTH, STATUS = struct.Struct("!I"), struct.Struct("!i")
THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
)
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # from the caller to its command
# what a shell and Snakemake set for each job; nothing that is read when something is imported
OWN = {*THREADS, "TMPDIR", "TMP", "TEMPDIR", "TEMP", "PWD", "OLDPWD", "SHLVL", "_", VARIABLE}


def interpreter() -> list[Any]:
    """What has to be the same in two processes, that one may run the other's commands: Python, its flags, the code."""
    return [sys.executable, list(sys.flags), sys.warnoptions, sys.path, str(Path(__file__).resolve())]


def handed_over(argv: list[str]) -> int | None:
    """The exit status of a command that a server ran; None where there is none or it did not take the command.

    A signal that ends this process ends the command too, and the other way round.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    call = {
        "argv": argv,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "umask": _umask(),
        "ignored": [number for number in PASSED_ON if signal.getsignal(number) == signal.SIG_IGN],
        "interpreter": interpreter(),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            send(connection, call, (0, 1, 2))
            taken = connection.recv(1) == TAKEN
        except OSError:
            return None
        return _waited_for(connection) if taken else None


def _waited_for(connection: socket.socket) -> int:
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda received, _: connection.send(bytes([received])))
    try:
        (status,) = STATUS.unpack(_exactly(connection, STATUS.size))
    except OSError:
        print("mat: error: the server that ran the command has gone; run it again", file=sys.stderr)
        return 1
    if status < 0:  # ended by a signal: so does this process
        with suppress(OSError):  # SIGKILL has no other way
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def send(connection: socket.socket, call: dict[str, Any], files: Iterable[int]) -> None:
    """A call as JSON, with open files."""
    text = json.dumps(call).encode()
    socket.send_fds(connection, [LENGTH.pack(len(text))], list(files))
    connection.sendall(text)


def receive(connection: socket.socket, files: int) -> tuple[dict[str, Any], list[int]]:
    """What ``send`` sent. Raises OSError for less, or for anything else."""
    head, found, _, _ = socket.recv_fds(connection, LENGTH.size, files)
    try:
        if len(head) < LENGTH.size or len(found) < files:
            raise ConnectionError("expected a length and open files")
        return json.loads(_exactly(connection, *LENGTH.unpack(head))), found
    except (OSError, ValueError) as error:
        for file in found:
            os.close(file)
        raise ConnectionError(str(error)) from None


def _exactly(connection: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        more = connection.recv(length - len(found))
        if not more:
            raise ConnectionError(f"expected {length} bytes, got {len(found)}")
        found += more
    return found


def start(modules: Iterable[str]) -> subprocess.Popen:
    """Start a server for the commands of this process. It ends with it, or when its standard input is closed.

    ``modules``: tasks, models and methods whose runs are to come. The server imports at the first call, so one that is
    never asked costs little.
    """
    alone = {**os.environ, **dict.fromkeys(THREADS, "1")}  # a thread would not survive a fork
    server = subprocess.Popen(
        [sys.executable, "-m", "mat", "step", "serve", *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=alone,
        text=True,
        start_new_session=True,  # an interrupt of the terminal comes by way of each command
    )
    atexit.register(_end, server)
    os.environ[VARIABLE] = server.stdout.readline().strip()
    return server


def _end(server: subprocess.Popen) -> None:
    """Close the server's standard input, which it ends with, and wait for that: `time` counts what is waited for."""
    with suppress(OSError):
        server.stdin.close()
    server.wait()
