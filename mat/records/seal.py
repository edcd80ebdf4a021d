"""Seals: a file of SHA-256 sums, written last, of what lies beside it. What is read back is as it was written, or it is
named: cut off, emptied, altered, or taken from elsewhere.

The lines are those of ``sha256sum``, which checks a seal, too (``sha256sum -c``); its comment says the version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from mat import regular
from mat.errors import InputError
from mat.records.files import write_text

SEAL = "SHA256SUMS"  # of a folder
VERSION = 1  # of everything that is sealed
_HEAD = f"# sealed, version {VERSION}"
_DIGITS = 64


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with regular.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def beside(path: Path) -> Path:
    """The seal of a single file."""
    return path.with_name(f"{path.name}.sha256")


def write_seal(seal: Path, names: Iterable[str]) -> None:
    """Seal the files ``names``, paths from the seal's folder."""
    write_text(text(_sums(seal.parent, sorted(names))), seal)


def check_seal(seal: Path, names: Iterable[str], again: str) -> None:
    """Raise InputError, saying what to do ``again``, unless ``seal`` is of ``names`` at least, and all that it is of is
    as it was."""
    try:
        said = regular.content(seal).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{seal} cannot be read ({error}); {again}") from None
    head, *lines = said.removesuffix("\n").split("\n")
    if head != _HEAD:
        raise InputError(f"{seal} begins with {head[:40]!r}, not {_HEAD!r}: of another version, or altered; {again}")
    listed = {line[_DIGITS + 2 :]: line[:_DIGITS] for line in lines}
    lacking = sorted(set(names) - set(listed))
    if lacking:
        raise InputError(f"{seal} does not list {', '.join(lacking)}; {again}")
    for name, digest in listed.items():
        path, parts = seal.parent / name, PurePosixPath(name).parts
        if "\0" in name or ".." in parts or name.startswith("/") or not path.is_file():
            raise InputError(f"{seal} lists {name!r}, which is not there; {again}")
        if sha256(path) != digest:
            raise InputError(
                f"{path} is not what {seal.name} beside it was written for: one of them was cut off, altered or taken "
                f"from elsewhere; {again}"
            )
    if said != text(listed) + "\n":
        raise InputError(f"{seal} was altered since it was written; {again}")


def text(sums: Mapping[str, str]) -> str:
    """A seal of these SHA-256 sums by name, without the newline at its end."""
    return "\n".join([_HEAD, *(f"{digest}  {name}" for name, digest in sums.items())])


def _sums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: sha256(folder / name) for name in names}
