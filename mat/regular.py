"""Regular files: a pipe or a device where a file belongs keeps its reader waiting for ever, or is lost when a file is
put there. The one place where files that people name are opened."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

SAID = "it is a pipe, a device or a socket, expected a file"


def is_special(path: Path) -> bool:
    """Whether something stands at ``path``, links followed, that is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing is there, or no name of a file: whoever opens it says so
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_regular(path: Path) -> None:
    """Raise OSError where ``path`` is a folder or special; nothing where it is a file, or nothing is there."""
    if is_special(path):
        raise OSError(errno.ENXIO, SAID, str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def opened(path: Path) -> BufferedReader:
    """A file to be read. Raises OSError where there is none, or something else in its place."""
    check_regular(path)
    return path.open("rb")


def content(path: Path) -> bytes:
    """All bytes of a file. Raises OSError as ``opened`` does."""
    with opened(path) as file:
        return file.read()
