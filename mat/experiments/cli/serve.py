"""``mat step serve``: imports once, then runs each command that is handed over in a fork of itself.

What a fork computes is to the bit what a process of its own computes: the server computes nothing, draws nothing, never
touches CUDA and starts no thread (the one of pyarrow's allocator is stopped around a fork by jemalloc itself). It takes
only commands of the same interpreter and code, with its own environment but for threads and temporary folders; and none
once a file of ``mat`` has changed since it was started, because runs are named after the code on disk.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from mat.errors import InputError
from mat.experiments.cli import handover

LIBRARY = Path(__file__).parents[2]
COMMANDS = ("mat.experiments.cli.commands.step", "mat.experiments.training.run")  # what the workflow calls
# of the figures' scripts, which are no modules; what writes a PDF is imported late otherwise, in each
DRAWING = ("matplotlib.pyplot", "matplotlib.backends.backend_pdf")
PATIENCE = 5.0  # seconds that a call may take to arrive
DEATH_OF_PARENT = 1  # Linux's prctl: the signal that comes with it
# the C library's mallopt: blocks up to so many bytes come from the heap, which gives back what is free beyond so many
HEAP = {-3: 2**25, -1: 2**30}


@click.command(hidden=True)
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.pass_obj
def serve(main: Callable[[list[str]], int], modules: tuple[str, ...]) -> None:
    """Import what runs of MODULEs need, and run each command that is handed over in a fork.

    Prints the path of its socket; ends when its standard input does, and all that it runs with it.
    """
    server = Server(modules, main)
    keep_memory()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="mat-"))  # for this user alone
    path = folder / "socket"
    try:
        server.listener.bind(str(path))
        server.listener.listen(socket.SOMAXCONN)
        print(path, flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of the path is not kept waiting for more
        server.run()
    except OSError as error:  # a path is too long for a socket, or a full disk: commands run in their own processes
        raise InputError(f"cannot serve at {path}: {error}; set TMPDIR to another, shorter folder") from None
    finally:
        server.end()
        path.unlink(missing_ok=True)
        folder.rmdir()
    os._exit(0)  # unloading what was imported takes long, and some libraries complain of it


class Server:
    """``modules``: tasks, models and methods of the runs to come; ``main`` runs a command; ``running``: the caller of
    each fork, by its id."""

    def __init__(self, modules: Iterable[str], main: Callable[[list[str]], int]) -> None:
        self.modules, self.main = modules, main
        self.files = files()
        self.environment = shared(os.environ)  # what is imported adds to it
        self.imported = False
        self.running: dict[int, socket.socket] = {}
        self.listener = socket.socket(socket.AF_UNIX)
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve until the standard input ends."""
        ended, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for what in (0, ended, self.listener):
            self.selector.register(what, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj == 0:
                    return
                if key.fileobj == ended:
                    os.read(ended, 4096)
                    self._collect()
                elif key.fileobj is self.listener:
                    self._accept()
                elif key.data in self.running:
                    self._hear(key.data)

    def end(self) -> None:
        """End what is running."""
        for process in self.running:
            _signal(process, signal.SIGKILL)

    def takes(self, call: dict[str, Any]) -> bool:
        """Whether a fork does what the caller's own process would do."""
        asked = call["environment"]
        same = shared(asked) == self.environment and call["interpreter"] == handover.interpreter()
        return same and asked.get("OMP_NUM_THREADS", "").isdecimal() and self.files == files()

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        try:
            connection.settimeout(PATIENCE)
            call, opened = handover.receive(connection, 3)
            connection.settimeout(None)
        except OSError:
            connection.close()
            return
        if not self.imported:
            import_all(self.modules)
            self.imported = True
        if self.takes(call):
            connection.send(handover.TAKEN)
            process = os.fork()
            if process == 0:
                self._become(call, opened, connection)
            with suppress(OSError):  # the fork does the same, and may have done it and ended
                os.setpgid(process, process)
            self.running[process] = connection
            self.selector.register(connection, selectors.EVENT_READ, process)
        else:
            connection.close()
        for file in opened:
            os.close(file)

    def _become(self, call: dict[str, Any], opened: list[int], connection: socket.socket) -> NoReturn:
        """The fork: the caller's process but for its imports."""
        status = 1
        try:
            server = os.getppid()
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, *handover.PASSED_ON):
                usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, signal.SIG_IGN if number in call["ignored"] else usual)
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(DEATH_OF_PARENT, signal.SIGKILL)
                if os.getppid() != server:
                    return
            for caller in (connection, self.listener, *self.running.values()):
                caller.close()
            self.selector.close()
            for number, file in enumerate(opened):
                os.dup2(file, number)
                os.close(file)
            sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
            os.chdir(call["folder"])
            os.umask(call["umask"])
            for name in handover.OWN:
                os.environ.pop(name, None)
                if name in call["environment"]:
                    os.environ[name] = call["environment"][name]
            tempfile.tempdir = None  # as TMPDIR has it
            set_threads(int(os.environ["OMP_NUM_THREADS"]))
            forget_seeds()
            status = self.main(call["argv"])
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _hear(self, process: int) -> None:
        """The caller passes on signals; when it is gone, so is its command."""
        try:
            heard = self.running[process].recv(16)
        except OSError:
            heard = b""
        if not heard:
            self.selector.unregister(self.running[process])
        for number in heard or [signal.SIGKILL]:
            _signal(process, number)

    def _collect(self) -> None:
        """Tell callers how their commands ended."""
        while self.running:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            connection = self.running.pop(process)
            with suppress(KeyError):
                self.selector.unregister(connection)
            with suppress(OSError), connection:
                connection.send(handover.STATUS.pack(os.waitstatus_to_exitcode(status)))


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process, number)


def shared(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that is the same in every command of a workflow."""
    return {name: value for name, value in environment.items() if name not in handover.OWN}


def files() -> dict[Path, tuple[int, int]]:
    """When the files of ``mat`` were changed, and their sizes."""
    found = {path: path.stat() for path in LIBRARY.rglob("*.py")}
    return {path: (about.st_mtime_ns, about.st_size) for path, about in found.items()}


def import_all(modules: Iterable[str]) -> None:
    """Import what the workflow's commands and ``modules`` import anywhere in their code."""
    from mat.experiments.training import code_version

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*code_version.imports(*COMMANDS, *(one for one in modules if one.startswith("mat."))), *DRAWING):
            with suppress(ImportError, AttributeError):  # not installed: whoever needs it says so
                _import(name)
    gc.collect()
    gc.freeze()  # so that no fork copies what it only looks through


def _import(name: str) -> None:
    """Import a module, or something of a module."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, what = name.rpartition(".")
        getattr(importlib.import_module(module), what)


def keep_memory() -> None:
    """Let forks keep what they free for what they allocate next: the system clears every page that it gives again."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library than GNU's
            for parameter, value in HEAP.items():
                ctypes.CDLL(None).mallopt(parameter, value)


def set_threads(count: int) -> None:
    """What ``OMP_NUM_THREADS`` does when libraries are loaded; the server has loaded them with 1."""
    if count > 1:
        import threadpoolctl
        import torch

        threadpoolctl.threadpool_limits(count)
        torch.set_num_threads(count)


def forget_seeds() -> None:
    """Give the generators that nobody has seeded the random state of a fresh process."""
    import numpy as np
    import torch

    np.random.seed()
    torch.default_generator.seed()
