"""The contract of a method: a frozen, pure choice of a non-empty set of modules, and its card."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from types import ModuleType

import numpy as np
import torch

from mat.experiments.config.plugins import record_of
from mat.experiments.contract import record
from mat.experiments.contract.worlds import World, worlds
from mat.methods.base import GRADIENTS, SPECTRA, Method, Selection

CARD = ("Claim:", "Equation", "Source:", "Knobs:")
WORLDS = 15


def check_method(module: ModuleType) -> list[str]:
    """What a method's file does not keep, in plain sentences; [] when it keeps all. Raises InputError."""
    kind = record_of("method", module, "method")
    if not issubclass(kind, Method):
        return [f"METHOD, {kind.__name__}, is no mat.Method; derive it from that"]
    found = list(record.broken("method", module))
    card = module.__doc__ or ""
    lacking = [part for part in CARD if part not in card]
    if lacking:
        found.append(f"the file's docstring, which is the method's card, does not say {', '.join(lacking)}")
    for asked in record.settings_of("method", module):
        for world in worlds(WORLDS):
            wrong = list(broken(asked, world))
            if wrong:
                found += [f"with {asked}: {said}" for said in wrong]
                break
    return found


def broken(asked: Method, world: World) -> Iterator[str]:
    """What the method ``asked`` does not keep in ``world``."""
    if not asked.reads <= {SPECTRA, GRADIENTS}:
        yield f"reads must be of {SPECTRA} and {GRADIENTS}, got {', '.join(sorted(asked.reads))}"
    try:
        asked.mode = asked.mode
        yield "its settings can be changed after it is made; expected @dataclass(frozen=True)"
    except FrozenInstanceError:
        pass
    for t in range(len(world.values)):
        yield from _at(asked, world, t)
    first = world.at(0, asked)
    if not all(period >= 1 for period in asked.periods(first.modules, first.depth).values()):
        yield "periods gives a module fewer than 1 step"


def _at(asked: Method, world: World, t: int) -> Iterator[str]:
    where, known = f"at probe {t} of {world}", set(world.names())
    try:
        one, again = (_select(asked, world, t, state) for state in (1, 2))
        renamed = _select(asked, world, t, 1, renamed=True)
    except Exception as error:
        yield f"select raises {type(error).__name__}: {error} {where}"
        return
    if not isinstance(one, Selection):
        yield f"select must return a mat.Selection, got {one!r} {where}"
        return
    if one != again:
        yield f"select is not pure: it draws from global random state, use context.rng or context.fixed {where}"
    if not one.active:
        yield f"select leaves no module active {where}"
    if not one.active | one.frozen <= known:
        yield f"select names modules that there are none of: {sorted((one.active | one.frozen) - known)} {where}"
    if one.active & one.frozen:
        yield f"select has modules both active and frozen: {sorted(one.active & one.frozen)} {where}"
    for before, after in ((one.active, renamed.active), (one.frozen, renamed.frozen)):
        if [name in before for name in world.names()] != [name in after for name in world.names(renamed=True)]:
            yield f"select depends on the modules' names, not only on their order {where}"


def _select(asked: Method, world: World, t: int, state: int, renamed: bool = False) -> Selection:
    """What is chosen while the global random states are those of ``state``, which are put back."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would record a stack trace each time
        random.seed(state), np.random.seed(state), torch.default_generator.manual_seed(state)
        try:
            return asked.select(world.at(t, asked, renamed))
        finally:
            random.setstate(before[0]), np.random.set_state(before[1])
