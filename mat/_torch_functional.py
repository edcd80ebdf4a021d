"""Calls that a function of ``torch.nn.functional`` makes inside that module, which no mode sees, turned elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch.nn.functional as F


def multi_head_attention(**instead: Callable[..., Any]) -> Callable[..., Any]:
    """``F.multi_head_attention_forward`` with other functions under the names ``instead``, such as ``linear``.

    Its own calls, and those of the projections that it calls, are looked up in its globals: here these are a
    copy, so nothing changes for anybody else.
    """
    table = {**vars(F), **instead}
    for name in ("multi_head_attention_forward", "_in_projection_packed", "_in_projection"):
        function = getattr(F, name)
        table[name] = FunctionType(function.__code__, table, name, function.__defaults__)
        table[name].__kwdefaults__ = function.__kwdefaults__
    return table["multi_head_attention_forward"]
