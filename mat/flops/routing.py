"""How a probe's tokens were sent to the experts of each layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mat.errors import InputError
from mat.flops.executed import followed_experts, routed_rows
from mat.partition.partition import Partition


def experts_of(model: nn.Module, partition: Partition) -> dict[str, str]:
    """The submodule that each expert is, by module name. Raises InputError where one is none of its own, so that the
    rows that it is given are not seen."""
    experts = followed_experts(model, partition)
    if experts is None:
        raise InputError(
            f"{type(model).__name__} keeps several experts in one parameter, so the rows of each are not seen: choose "
            "a method that does not count them (leave routed out)"
        )
    return experts


@contextmanager
def routed_shares(model: nn.Module, partition: Partition) -> Iterator[dict[str, float]]:
    """Each expert's share of the rows that its layer's experts were given, in [0, 1], by module name; filled by the
    first forward pass within that ends. 0 where none of them was given any. Raises InputError as ``experts_of``."""
    experts = experts_of(model, partition)
    layer = {module.name: module.layer for module in partition.modules if module.name in experts}
    shares: dict[str, float] = {}
    with routed_rows(model, experts) as rows:

        def end(*_: object) -> None:
            totals = {one: sum(rows[name] for name in layer if layer[name] == one) for one in set(layer.values())}
            if not shares:
                shares.update({name: rows[name] / max(totals[layer[name]], 1) for name in experts})

        # an attempt that ended with an error leaves rows behind
        hooks = [model.register_forward_pre_hook(lambda *_: rows.clear()), model.register_forward_hook(end)]
        try:
            yield shares
        finally:
            for hook in hooks:
                hook.remove()
