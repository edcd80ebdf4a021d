"""Checks that the settings of transformer families share."""

from __future__ import annotations

from typing import Annotated

from mat.errors import InputError
from mat.limits import Range

# beyond any model published, and what no machine holds; GPT-3 has 96 layers of 12288
MOST_LAYERS, MOST_WIDTH = 1024, 1 << 16
LayerCount = Annotated[int, Range(ge=1, le=MOST_LAYERS)]
Width = Annotated[int, Range(ge=1, le=MOST_WIDTH)]
Groups = Annotated[int, Range(ge=0, le=MOST_WIDTH)]
Dropout = Annotated[float, Range(ge=0, lt=1)]
Factor = Annotated[float, Range(gt=0, le=1000)]


def check_heads(width: int, heads: int) -> None:
    """Raise InputError unless ``heads`` divide ``width``."""
    if width % heads:
        raise InputError(f"a width that heads divide is expected, got width={width}, heads={heads}")


def check_groups(ffn_groups: int, neurons: int) -> None:
    """Raise InputError unless ``ffn_groups``, or 0 of them, divide the ``neurons`` of a feed-forward block."""
    if ffn_groups and neurons % ffn_groups:
        raise InputError(f"ffn_groups={ffn_groups} does not divide the feed-forward block's {neurons} neurons")
