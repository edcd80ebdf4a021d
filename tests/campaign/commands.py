"""Commands in forks of a process that has imported everything, so that a command takes no longer than its work."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from mat.experiments.cli.main import main
from mat.experiments.cli.serve import DEATH_OF_PARENT
from tests.campaign.outcomes import Ended

LIMIT = 300  # processor seconds that a process of a command may take, whatever else the machine does
HANGS = 1800.0  # seconds after which a command that waits is ended
WRITES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")  # Python's names of these events


def nothing() -> None:
    """What a fork does before its command where nothing is asked."""


class Command:
    """A command that runs: ``argv`` by ``run`` in ``folder``, or in the folder ``start`` where that may not be entered,
    after ``before`` in its process."""

    def __init__(
        self,
        argv: list[object],
        folder: Path,
        before: Callable[[], None] = nothing,
        run: Callable[[list[str]], int | None] = main,
        start: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number, path = tempfile.mkstemp(prefix="mat-campaign-said-")
        self.said, self.started = Path(path), time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.process = os.fork()
        if self.process == 0:
            _become(number, start or folder, before, lambda: run(list(map(str, argv))))
        os.close(number)
        with suppress(OSError):  # the fork does the same
            os.setpgid(self.process, self.process)

    def send(self, number: int) -> None:
        """A signal to it and to all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process, number)

    def wait(self, seconds: float = HANGS) -> Ended:
        """Until it ends; one that takes longer than ``seconds``, or more of the processor than ``LIMIT``, is ended."""
        status, until = None, time.monotonic() + seconds
        while True:
            ended, found = os.waitpid(self.process, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(found)
                status = None if status == -signal.SIGXCPU else status
                break
            if time.monotonic() > until:
                self.send(signal.SIGKILL)
                os.waitpid(self.process, 0)
                break
            time.sleep(0.01)
        said = self.said.read_text(errors="replace")
        self.said.unlink()
        return Ended(status, said)


def done(argv: list[object], folder: Path, before: Callable[[], None] = nothing) -> Ended:
    """What comes of a command."""
    return Command(argv, folder, before).wait()


def computed(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, computed in a fork: so this process has no threads that would not survive one."""
    with tempfile.NamedTemporaryFile(prefix="mat-campaign-") as file:

        def store(argv: list[str]) -> int:
            Path(file.name).write_bytes(pickle.dumps(work()))
            return 0

        ended = Command([], Path(), run=store).wait()
        if ended.status != 0:
            raise RuntimeError(ended.said)
        return pickle.loads(Path(file.name).read_bytes())


def counting(folder: Path, file: Path) -> Callable[[], None]:
    """Before a command: let it add a byte to ``file`` at each of its operations on what is below ``folder``."""

    def before() -> None:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        _at_operations(folder, lambda: os.write(number, b"."))

    return before


def killed_at(operation: int, folder: Path, events: Container[str] = WRITES) -> Callable[[], None]:
    """Before a command: let it be killed just before its n-th operation on what is below ``folder``."""

    def before() -> None:
        left = [operation]

        def count() -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        _at_operations(folder, count, events)

    return before


def _at_operations(folder: Path, act: Callable[[], Any], events: Container[str] = WRITES) -> None:
    below = str(folder)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in events and isinstance(args[0], str | Path) and str(args[0]).startswith(below):
            act()

    sys.addaudithook(hook)


def _become(number: int, folder: Path, before: Callable[[], None], run: Callable[[], int | None]) -> NoReturn:
    """The fork: as a process of its own that says all into the file ``number``."""
    status = 1
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, resource.RLIM_INFINITY))
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(DEATH_OF_PARENT, signal.SIGKILL)
        for received in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(received, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor in (1, 2):
            os.dup2(number, descriptor)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
        os.chdir(folder)
        before()
        status = run() or 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
