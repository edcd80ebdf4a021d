"""What was found wrong in a scale's results after they were made: a note at the top of every page that shows them."""

from __future__ import annotations

from pathlib import Path

NAME = "ERRATUM.md"


def read(folder: Path) -> str:
    """The text of ``ERRATUM.md`` in ``folder``, without its title; "" where there is none."""
    path = folder / NAME
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    return "\n".join(lines[1:] if lines and lines[0].startswith("# ") else lines).strip()


def note(text: str) -> list[str]:
    """The text as a quotation that begins with what it is, for a page of Markdown; nothing where there is none."""
    if not text:
        return []
    return ["\n".join(f"> {line}".rstrip() for line in f"**Erratum.** {text}".splitlines())]
