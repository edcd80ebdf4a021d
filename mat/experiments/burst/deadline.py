"""Work that is interrupted when its time is up: it saves its state as it does when someone interrupts it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def until(end: float) -> Iterator[None]:
    """An interrupt to this process when ``time.monotonic()`` is ``end``, in the main thread of a Unix system.

    What it raises ends with this block; an interrupt of someone's own goes on. A process that was begun in the
    background ignores interrupts: within the block it does not.
    """
    come: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        come.append(number)
        os.kill(os.getpid(), signal.SIGINT)

    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, max(end - time.monotonic(), 1e-3))
    try:
        yield
    except KeyboardInterrupt:
        if not come:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.signal(signal.SIGINT, usual)
