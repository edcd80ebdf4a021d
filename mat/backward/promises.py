"""What is promised of every step of an optimizer, checked by effect: what sleeps does not move, what is active trains.

An optimizer of one's own may take "no gradient" for zero, and then decays and drifts what is asleep. No type tells so:
the bits of what is asleep are compared around the first steps, around the first after each selection, and now and then.
On a device that a host does not wait for, they are read when the next are due, at a selection or when a state is asked.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mat.backward.late import sent
from mat.errors import InputError, listed
from mat.modes import DETACHED

FIRST = 8
EVERY = 17  # a prime: what an optimizer does at every k-th step meets it, too
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Asleep = Mapping[nn.Parameter, str]  # leaf -> its module


def fingerprints(leaves: Sequence[Tensor]) -> Tensor:
    """The sum of each leaf's bits, read as integers: (len(leaves),)."""
    real = [torch.view_as_real(leaf.detach()) if leaf.is_complex() else leaf.detach() for leaf in leaves]
    return torch.stack([t.view(_BITS[t.element_size()]).sum(dtype=torch.int64).to(leaves[0].device) for t in real])


@dataclass
class Watched:
    """What was asleep in a step, and its fingerprints before and, if it is over, after it: read by calling them."""

    asleep: Asleep
    before: Callable[[], list[int]]
    after: Callable[[], list[int]] | None = None


@dataclass
class Steps:
    """Of one optimizer: steps so far, what was asleep at the last, and that step's fingerprints where they were due."""

    count: int = 0
    asleep: frozenset[str] | None = None
    watched: Watched | None = None


class Promises:
    """Watches the steps of any number of optimizers; what is said once is said once for all of them."""

    def __init__(self) -> None:
        self._steps: weakref.WeakKeyDictionary[Optimizer, Steps] = weakref.WeakKeyDictionary()
        self._spent: dict[nn.Parameter, tuple[weakref.ref[Tensor], int]] = {}
        self._said: set[str] = set()
        self._coming: list[Callable[[], None]] = []

    def before_step(self, optimizer: Optimizer, asleep: Asleep) -> None:
        """Take the fingerprints of what is ``asleep`` and in the optimizer, where they are due."""
        steps = self._steps.setdefault(optimizer, Steps())
        names = frozenset(asleep.values())
        due = bool(asleep) and (steps.count < FIRST or names != steps.asleep or steps.count % EVERY == 0)
        last, steps.count, steps.asleep, steps.watched = steps.watched, steps.count + 1, names, None
        if due:
            self.settle()
            now = steps.watched = Watched(asleep, sent(fingerprints(list(asleep))))
            if last is not None and last.after is not None:
                self._when_read(lambda: self._between(last, now), asleep)

    def after_step(self, optimizer: Optimizer, asleep: Asleep) -> None:
        """Raise InputError where the step has moved what is ``asleep``."""
        steps = self._steps.get(optimizer)
        watched = None if steps is None else steps.watched
        if watched is None or watched.asleep.keys() != asleep.keys():
            return
        watched.after = sent(fingerprints(list(watched.asleep)))
        kind = type(optimizer).__name__
        self._when_read(lambda: self._around(watched, kind), asleep)

    def settle(self) -> None:
        """Read what is on its way, and raise or say what it shows."""
        coming, self._coming = self._coming, []
        for check in coming:
            check()

    def _when_read(self, check: Callable[[], None], asleep: Asleep) -> None:
        self._coming.append(check)
        if all(leaf.device.type == "cpu" for leaf in asleep):
            self.settle()

    def _between(self, last: Watched, now: Watched) -> None:
        assert last.after is not None  # as was asked
        after = dict(zip(last.asleep, last.after(), strict=True))
        found = zip(now.asleep.items(), now.before(), strict=True)
        moved = {name for (leaf, name), bits in found if after.get(leaf, bits) != bits}
        if moved:
            self._say(
                "moved",
                f"{listed(sorted(moved))} changed while not active, between two steps of the optimizer: by a decay "
                "or an average by hand, which must leave alone what has no gradient; loading weights is no matter",
            )

    def _around(self, step: Watched, kind: str) -> None:
        assert step.after is not None  # as was asked
        found = zip(step.asleep.values(), step.before(), step.after(), strict=True)
        moved = {name for name, before, after in found if before != after}
        if moved:
            raise InputError(
                f"a step of {kind} has moved modules that are not active ({listed(sorted(moved))}):"
                " it must skip parameters whose .grad is None, as those of torch.optim do; do so, or use one of these"
            )

    def missed(self, missed: Collection[str], lost: bool) -> None:
        """Say so once where no gradient has come to these modules, active as they are in a step.

        Raises InputError where reentrant checkpointing has ``lost`` it.
        """
        if missed and lost:
            raise InputError(
                f"reentrant checkpointing cuts off the gradient of {listed(sorted(missed))}, as nothing below takes "
                "one: use checkpoint(..., use_reentrant=False), "
                "gradient_checkpointing_enable({'use_reentrant': False}), or let its inputs require gradients "
                "(model.enable_input_require_grads())"
            )
        if missed:
            self._say(
                "missed",
                f"no gradient reaches {listed(sorted(missed))}, active as they are, so they do not train: either the "
                f"loss does not depend on them (torch.no_grad, a part not called), or, in mode {DETACHED}",
            )

    def passed_by(self) -> None:
        """Say so once where gradients of whole parameters were changed before a step, and those of slices were not."""
        self._say(
            "passed by",
            "gradients of model.parameters() were changed before the step, which have no part in those of slices: "
            "clip, scale or add to those of controller.parameters() instead, which are all",
        )

    def spend(self, leaves: Sequence[nn.Parameter]) -> None:
        """The gradients of ``leaves`` have been in a step."""
        for leaf in leaves:
            if leaf.grad is not None:
                self._spent[leaf] = weakref.ref(leaf.grad), leaf.grad._version

    def dropped(self, leaves: Mapping[nn.Parameter, str]) -> None:
        """Say so once where gradients of ``leaves``, which fall asleep, have been in no step."""
        self.settle()
        lost = {name for leaf, name in leaves.items() if leaf.grad is not None and self._waits(leaf, leaf.grad)}
        if lost:
            self._say(
                "dropped",
                f"gradients of {listed(sorted(lost))}, whose turn ends, are dropped before any optimizer step: select "
                "once per optimizer step, before the first of the batches that are accumulated for it",
            )

    def _waits(self, leaf: nn.Parameter, gradient: Tensor) -> bool:
        """Neither in a step, nor zero, nor of a step that overflowed."""
        made, version = self._spent.get(leaf, (lambda: None, 0))
        if made() is gradient and version == gradient._version:
            return False
        return bool(gradient.any()) and bool(gradient.isfinite().all())

    def _say(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            warnings.warn(text, stacklevel=2)
