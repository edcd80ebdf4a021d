"""The one rule for labels: names that become folders, columns, cells of tables, words of pages and of figures.

ASCII letters, digits and ._-, the first a letter, at most 64 in all: so it is one part of a path, no option of a
command, no markup of Markdown, HTML, LaTeX or of figures, and no number. What tables read as a missing value, a truth
or a number, and the word for all tasks, are no labels.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

PATTERN = r"^[A-Za-z][A-Za-z0-9._-]{0,63}$"
WORDS = ("all", "false", "inf", "infinity", "na", "nan", "none", "null", "true")
RULE = f"a label is a letter and then letters, digits and ._-, 64 at most, and none of the words {', '.join(WORDS)}"


def is_label(value: object) -> bool:
    """Whether ``value`` keeps the rule."""
    return isinstance(value, str) and re.fullmatch(PATTERN[1:-1], value) is not None and value.lower() not in WORDS


def _no_word(value: str) -> str:
    if value.lower() in WORDS:
        raise ValueError(f"{RULE}; got {value!r}; choose another")
    return value


Label = Annotated[str, Field(pattern=PATTERN), AfterValidator(_no_word)]
