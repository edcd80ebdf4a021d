"""Text and JSON as people give them, read strictly: of a size that settings have, and no key twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.regular import opened

LONGEST = 2**24  # bytes of a file of settings


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8. Raises InputError, saying ``what`` was expected, for any other file."""
    try:
        with opened(path) as file:
            content = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"expected {what}, cannot read {str(path)[:200]!r} ({reason}); name an existing file"
        ) from None
    if len(content) > LONGEST:
        raise InputError(f"expected {what}, {path} holds more than {LONGEST:,} bytes; name another file")
    try:
        return content.decode("utf-8-sig")  # editors of Windows mark UTF-8 at its beginning
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: {error}; save it as UTF-8") from None


def read_json(text: str, place: str, *, words: bool = False) -> Any:
    """The value that JSON is; with ``words``, text that is no JSON is itself. Raises InputError, naming the ``place``,
    for anything else, and for a key given twice."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        if words and isinstance(error, json.JSONDecodeError):
            return text
        raise InputError(f"{place} is not JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice; leave one of them out")
    return found
