"""Signals by which systems and terminals stop a command: an interrupt, so that it saves its state and says one line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

STOPS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def as_interrupts() -> Iterator[Sequence[int]]:
    """The signals of ``STOPS`` that have come within the block; each interrupts this process, once.

    One that is ignored, as by ``nohup``, or has a handler, is left as it is, and so are all outside the main thread. A
    fork that has not set its own handlers ends by the signal, as it would have without.
    """
    come: list[int] = []
    process = os.getpid()

    def interrupt(number: int, frame: Any) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        come.append(number)
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL):  # as of what runs in the background
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    main = threading.current_thread() is threading.main_thread()
    taken = [number for number in STOPS if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield come
    finally:
        for number in taken:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, signal.SIG_DFL)
