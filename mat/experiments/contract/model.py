"""The contract of a model family: its partition covers the model, and its closed form is what is executed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.experiments.contract import record
from mat.experiments.models.closed_form import REMAINDER
from mat.experiments.task_signature import Signature
from mat.flops.executed import executed_macs
from mat.forward import forward
from mat.modes import MODES

BATCH, SETS = 3, 4
NEEDED = ("Settings", "build", "partition", "work")
IDS = {"input_ids": torch.randint(0, 11, (1, 6), generator=torch.Generator().manual_seed(0))}
PLAIN = {"attention_mask": torch.ones(1, 6).long(), "token_type_ids": torch.zeros(1, 6).long()}
# one task of each objective, small
SIGNATURES = (
    *(
        Signature("image_classification", {"x": torch.zeros(1, channels, side, side)}, 3)
        for channels, side in ((1, 8), (3, 32))
    ),
    Signature("masked_lm", IDS, 11),
    Signature("causal_lm", IDS, 11),
    Signature("text_classification", {**IDS, **PLAIN}, 3, vocabulary=11),
)


class Case(NamedTuple):
    """A family with settings, for the task of a signature."""

    module: Any
    settings: Any
    signature: Signature

    def model(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return self.module.build(self.settings, self.signature).double()


def check_model(module: ModuleType) -> list[str]:
    """What a family's file does not keep, in plain sentences; [] when it keeps all. Raises InputError."""
    lacking = record.lacks(module, NEEDED, "mat.experiments.models.base.ModelPlugin")
    if lacking:
        return lacking
    found = list(record.broken("model", module))
    for settings in record.settings_of("model", module):
        cases, refused = [], []
        for signature in SIGNATURES:
            try:
                module.build(settings, signature)
                cases.append(Case(module, settings, signature))
            except InputError as error:
                refused.append(f"{signature.objective}: {error}")
        if not cases:
            found.append(f"with {settings} it is made for no task: {'; '.join(refused)}")
        for case in cases:
            found += [f"with {settings} for {case.signature.objective}: {said}" for said in broken(case)]
    return found


def broken(case: Case) -> Iterator[str]:
    """What a family does not keep in this case."""
    for rule in RULES:
        yield from record.kept(rule, case)


def the_initial_weights_are_those_of_the_seed(case: Case) -> Iterator[str]:
    one, other = case.model().state_dict(), case.model().state_dict()
    if not all(torch.equal(one[name], other[name]) for name in one):
        yield "build draws initial weights from something else than torch's default generator"


def its_parts_are_the_modules_and_the_remainder(case: Case) -> Iterator[str]:
    work = case.module.work(case.settings, case.signature, BATCH)
    names = case.module.partition(case.settings, case.model()).names
    if list(work) != [*names, REMAINDER]:
        yield f"work must have the partition's modules in their order and {REMAINDER!r}, got {', '.join(work)}"
    for mode in MODES:
        if work.step(names, mode) != sum(map(sum, work.values())):
            yield f"step with every module active, {mode}, is not the sum of the parts of work"


def its_closed_form_is_what_is_executed(case: Case) -> Iterator[str]:
    if getattr(case.module, "DEPENDS_ON_INPUTS", False):
        return
    rng = np.random.default_rng(0)
    work = case.module.work(case.settings, case.signature, BATCH)
    for mode in MODES:
        model = case.model()
        partition = case.module.partition(case.settings, model)
        sparse = SparseBackward(model, partition, mode)
        inputs = {name: value.expand(BATCH, *value.shape[1:]) for name, value in case.signature.example.items()}
        inputs = {name: v.double() if v.is_floating_point() else v for name, v in inputs.items()}
        sparse.look(inputs)
        for _ in range(SETS):
            active = {name for name in partition.names if rng.random() < 0.5}
            sparse.set_active(active)
            counted, _ = executed_macs(partial(_step, model, inputs))
            said = work.step(active, mode)
            if said != counted:
                shown = ", ".join(sorted(active)) or "no module"
                yield f"its closed form says {said} multiply-adds, {counted} are executed, {mode}, with {shown} active"
                break


def its_extremes_hold(case: Case) -> Iterator[str]:
    rng = np.random.default_rng(1)
    work = case.module.work(case.settings, case.signature, BATCH)
    names = [name for name in work if name != REMAINDER]
    for mode in MODES:
        for count in {0, len(names) // 2, len(names)}:
            least, most = work.extremes(count, mode)
            macs = work.step(set(rng.permutation(names)[:count].tolist()), mode)
            if not least <= macs <= most:
                yield f"extremes says {least} to {most} for {count} modules, {mode}; a step of such a set is {macs}"


def what_is_unknown_is_refused(case: Case) -> Iterator[str]:
    work = case.module.work(case.settings, case.signature, BATCH)
    for said, active, mode in (("an unknown mode", (), "mask"), ("an unknown module", {"no such module"}, "exact")):
        try:
            work.step(active, mode)
            yield f"step takes {said}; raise mat.InputError"
        except InputError:
            pass


def _step(model: nn.Module, inputs: dict[str, Tensor]) -> None:
    forward(model, inputs).logsumexp(-1).sum().backward()


RULES: tuple[Callable[[Case], Iterator[str]], ...] = (
    the_initial_weights_are_those_of_the_seed,
    its_parts_are_the_modules_and_the_remainder,
    its_closed_form_is_what_is_executed,
    its_extremes_hold,
    what_is_unknown_is_refused,
)
