"""Mode detach, written out: every slice's product on its own, of constants where its module is inactive.

Works on any model whose cut weights go through F.linear, F.conv2d or torch.addmm, by plain autograd on whole
parameters. Independent of mat.backward.sparse: it shares only the partition with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mat.partition.partition import Partition, Slice

_linear, _conv2d, _addmm = F.linear, F.conv2d, torch.addmm


@contextmanager
def constants(model: nn.Module, partition: Partition, active: Collection[str]) -> Iterator[None]:
    """Within it the model's products are cut into slices, those of inactive modules constants."""
    owners: dict[str, list[tuple[Slice, bool]]] = {}
    for names, slices in [((m.name,), m.slices) for m in partition.modules] + [((), partition.remainder)]:
        for piece in slices:
            owners.setdefault(piece.parameter, []).append((piece, not names or names[0] in active))
    table = {
        id(p): sorted(owners[name], key=lambda pair: pair[0].start)
        for name, p in model.named_parameters()
        if name in owners
    }

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, of: Tensor | None = None) -> Tensor:
        pieces = table.get(id(weight if of is None else of))
        if pieces is None:
            return _linear(x, weight, bias)
        flipped = of is not None
        if pieces[0][0].dim == (1 if flipped else 0):
            return torch.cat([rows(x, weight, bias, p.start, p.stop, on) for p, on in pieces], -1)
        outputs = [
            _linear(
                x[..., p.start : p.stop] if on else x[..., p.start : p.stop].detach(),
                weight[:, p.start : p.stop] if on else weight[:, p.start : p.stop].detach(),
            )
            for p, on in pieces
        ]
        return sum(outputs) if bias is None else sum(outputs) + bias

    def rows(x, weight, bias, start, stop, on, run=_linear, **options) -> Tensor:
        parts = [x, weight[start:stop], None if bias is None else bias[start:stop]]
        if not on:
            parts = [None if part is None else part.detach() for part in parts]
        return run(*parts, **options)

    def addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:  # Hugging Face's Conv1D: weight (in, out)
        return linear(x, weight.T, bias, of=weight) if id(weight) in table else _addmm(bias, x, weight)

    def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry) -> Tensor:
        pieces = table.get(id(weight))
        if pieces is None:
            return _conv2d(x, weight, bias, *geometry)
        return torch.cat(
            [rows(x, weight, bias, p.start, p.stop, on, lambda *a: _conv2d(*a, *geometry)) for p, on in pieces], 1
        )

    with (
        mock.patch.object(F, "linear", linear),
        mock.patch.object(F, "conv2d", conv2d),
        mock.patch.object(torch, "addmm", addmm),
    ):
        yield
