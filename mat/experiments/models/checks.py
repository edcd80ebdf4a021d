"""Checks that the settings of transformer families share."""

from __future__ import annotations

from mat.errors import InputError
from mat.experiments.checks import check_most

MOST = {"layers": 1024, "width": 1 << 16, "experts": 4096}  # beyond any model published; GPT-3 has 96 of 12288


def check_sizes(layers: int, width: int, heads: int, least: int = 1, why: str = "") -> None:
    """Raise InputError unless there are ``least`` layers (``why`` says why more than one) and ``heads`` divide
    ``width``."""
    if layers < least or heads < 1 or width < heads or width % heads:
        reason = f" ({why})" if why else ""
        raise InputError(
            f"layers ≥ {least}{reason} and a width that heads divide are expected, got layers={layers}, "
            f"width={width}, heads={heads}"
        )
    check_most("layers", layers, MOST["layers"])
    check_most("width", width, MOST["width"])


def check_groups(ffn_groups: int, neurons: int) -> None:
    """Raise InputError unless ``ffn_groups``, or 0 of them, divide the ``neurons`` of a feed-forward block."""
    if ffn_groups < 0 or neurons < 1 or (ffn_groups and neurons % ffn_groups):
        raise InputError(f"ffn_groups={ffn_groups} does not divide the feed-forward block's {neurons} neurons")
