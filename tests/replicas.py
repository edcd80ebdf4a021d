"""What one of several processes does, and one alone does the same with the whole batch: for comparison of the two."""

from __future__ import annotations

import io
import json
import os
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mat import MAT, Controller, InputError, processes
from mat.__main__ import main as mat
from mat.backward.sparse import SparseBackward
from mat.experiments.config.spec import Spec
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine
from mat.experiments.training.resume import silent
from mat.flops.executed import followed_experts, routed_rows
from mat.methods.base import SPECTRA, Method, Selection, highest
from mat.methods.random import Random
from tests.cases import bert_case, logits, switch_case, vgg_case

BATCH = 4
BUILDS = {
    "bert": lambda: bert_case(batch=BATCH),
    # texts of one length, so that a half of them has half the tokens; capacity counts within a text
    "switch": lambda: switch_case(batch=BATCH, length=4, seed=62),
    "vgg": lambda: vgg_case(batch=BATCH, batch_norm=False),
}
NORMS_FIXED = "vgg in evaluation mode"  # statistics are constants
MODES = ("exact", "detach")
STEPS = 4


@dataclass(frozen=True)
class InTurn(Method):
    """Half of the modules, those with the largest λ_max, then a third, those with the smallest, and so on."""

    reads: ClassVar = frozenset({SPECTRA})

    def select(self, context):
        sign, parts = (1, 2) if context.interval % 2 == 0 else (-1, 3)
        score = {name: sign * value for name, value in context.history[-1].lambda_max.items()}
        return Selection(highest(context.modules, score, len(context.modules) // parts))


class Replica:
    """A case whose model is trained by this process on its share of the batch, or alone on all of it."""

    def __init__(self, build, shares=1):
        self.case = vgg_case(batch=BATCH) if build == NORMS_FIXED else BUILDS[build]()
        self.model = self.case.model.train(build != NORMS_FIXED)
        self.size = BATCH // (processes.count() * shares)

    def share(self, part=0):
        start = (part * processes.count() + processes.rank()) * self.size
        rows = slice(start, start + self.size)
        return {name: value[rows] for name, value in self.case.inputs.items()}, self.case.labels[rows]

    def called(self, **options):
        """What training calls: built before or after a controller."""
        return DistributedDataParallel(self.model, **options) if processes.count() > 1 else self.model

    def loss(self, called, part=0):
        inputs, labels = self.share(part)
        return nn.functional.cross_entropy(logits(called, inputs).flatten(0, -2), labels.flatten())


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def trained(build, mode, *, shares=1, wrap="after", state=None, steps=STEPS, estimator="projected", checkpoint=None):
    """A few steps: weights, what was selected, what moved asleep, entries reduced and the states at the end."""
    one = Replica(build, shares)
    if checkpoint is not None:
        one.model.gradient_checkpointing_enable({"use_reentrant": checkpoint})
        one.model.enable_input_require_grads()
    optimizer = torch.optim.SGD(one.model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    called = one.called(find_unused_parameters=True) if wrap == "before" else None
    n, probe = (2, None) if estimator == "step" else (None, one.case.inputs)
    controller = Controller(one.model, one.case.partition, InTurn(mode=mode), probe, every=2, estimator=estimator, n=n)
    controller.adopt(optimizer)
    called = called or one.called()
    if state is not None:
        one.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        controller.load_state_dict(state["controller"])
    asleep_moved, actives, sizes, norms = [], [], [], []
    for _ in range(steps):
        controller.begin_step(loss_scale=1 / shares)
        before = [leaf.detach().clone() for leaf in controller.parameters()]
        with CountedReductions() as counted:
            for part in range(shares):
                held = processes.count() > 1 and part + 1 < shares
                with called.no_sync() if held else nullcontext():
                    (one.loss(called, part) / shares).backward()
        norm = torch.nn.utils.clip_grad_norm_(list(controller.parameters()), 1.0)
        own = controller.sparse.leaves.owner
        sleepers = [p for p in own if own[p] is not None and own[p] not in controller.active]
        sizes.append((sum(leaf.grad.numel() for leaf in controller.parameters() if leaf.grad is not None), counted))
        optimizer.step()
        kept = dict(zip(controller.sparse.leaves, before, strict=True))
        asleep_moved += [p for p in sleepers if not torch.equal(kept[p], controller.sparse.leaves[p])]
        actives.append(sorted(controller.active))
        norms.append(float(norm))
        optimizer.zero_grad()
    found = {
        "weights": weights(one.model),
        "active": actives,
        "moved": [str(p) for p in asleep_moved],
        "entries": [(own, [list(call) for call in counted.found]) for own, counted in sizes],
        "norms": norms,
        "all": sum(p.numel() for p in one.model.parameters()),
        "leaves": len(controller.sparse.leaves),
        "state": {
            "model": weights(one.model),
            "optimizer": optimizer.state_dict(),
            "controller": controller.state_dict(),
        },
    }
    controller.close()
    return found


class CountedReductions:
    """Type and entries of every tensor that is reduced meanwhile."""

    def __init__(self):
        self.found, self.own = [], dist.all_reduce

    def __enter__(self):
        self.patch = patch.object(dist, "all_reduce", self)
        self.patch.start()
        return self

    def __call__(self, tensor, *args, **kwargs):
        self.found.append((str(tensor.dtype), tensor.numel()))
        return self.own(tensor, *args, **kwargs)

    def __exit__(self, *error):
        self.patch.stop()


def refused(run):
    try:
        run()
    except InputError as error:
        return str(error)
    return ""


def one_expert_alone():
    """Tokens of one process alone reach some expert, and none reach another: gradients of all leaves at the end."""
    one = Replica("switch")
    words = torch.zeros(BATCH, 4, dtype=torch.int64)
    words[BATCH // 2 :] = 5
    one.case.inputs["input_ids"] = words
    sparse = SparseBackward(one.model, one.case.partition)
    one.loss(one.called()).backward()
    found = {name: None if leaf.grad is None else leaf.grad.clone() for name, leaf in sparse.named_parameters()}
    sparse.close()
    return found


def own_experts():
    """Which experts this process's own tokens reach in ``one_expert_alone``."""
    one = Replica("switch")
    words = torch.full((BATCH // 2, 4), 5 * processes.rank())
    with routed_rows(one.model, followed_experts(one.model, one.case.partition)) as rows:
        one.model(input_ids=words)
    return sorted(rows)


def disagreeing_sets():
    one = Replica("bert")
    sparse, called = SparseBackward(one.model, one.case.partition), one.called()
    sparse.set_active(one.case.partition.names[: 1 + processes.rank()])
    found = refused(lambda: one.loss(called).backward())
    sparse.close()
    return found


def disagreeing_modes():
    one = Replica("bert")
    SparseBackward(one.model, one.case.partition, MODES[processes.rank()])
    return refused(lambda: one.loss(one.called()))


def alone_in_a_group():
    one = Replica("bert")
    SparseBackward(one.model, one.case.partition)
    one.called()
    return refused(lambda: one.loss(one.model))


def bad_probe_of_the_first():
    """All hear why the first one's probe is refused."""
    one = Replica("bert")
    probe = {"input_ids": one.case.inputs["input_ids"] + (99 if processes.rank() == 0 else 0)}
    controller = Controller(one.model, one.case.partition, MAT(alpha=0.3), probe, every=2)
    controller.adopt(torch.optim.SGD(one.model.parameters(), lr=0.1))
    try:
        controller.begin_step()
    except Exception as error:
        return type(error).__name__
    return ""


def own_probes():
    """Selections where each process has other probe samples: the first one's are what counts."""
    one = Replica("bert")
    rows = {"input_ids": one.case.inputs["input_ids"].roll(processes.rank(), 1)}
    controller = Controller(one.model, one.case.partition, MAT(alpha=0.3), rows, every=1)
    controller.adopt(torch.optim.SGD(one.model.parameters(), lr=0.1))
    controller.begin_step()
    return str(controller.records)


def beside():
    """Gradients where the sparse model is part of what DDP trains: the head is nobody's slice."""
    one = Replica("bert")
    torch.manual_seed(3)
    outer = nn.Sequential(nn.Linear(11, 5).double())
    outer.add_module("inner", one.model)
    outer.forward = lambda **inputs: outer[0](logits(one.model, inputs))
    sparse = SparseBackward(one.model, one.case.partition)
    called = DistributedDataParallel(outer) if processes.count() > 1 else outer
    inputs, _ = one.share()
    called(**inputs).square().mean().backward()
    found = [parameter.grad.clone() for parameter in (*outer[0].parameters(), *sparse.parameters())]
    called.zero_grad()
    left = any(leaf.grad is not None for leaf in sparse.parameters())
    sparse.close()
    return found, left


def plain_again():
    """After ``close`` DDP's own reducer does its work."""
    one = Replica("vgg")
    called = one.called()
    sparse = SparseBackward(one.model, one.case.partition, "detach")
    sparse.set_active(one.case.partition.names[:1])
    one.loss(called).backward()
    sparse.close()
    one.model.zero_grad()
    one.loss(called).backward()
    return [parameter.grad.clone() for parameter in one.model.parameters()]


def sets_of_chance():
    """What a method that reads nothing selects."""
    one = Replica("bert")
    controller = Controller(one.model, one.case.partition, Random(share=0.5), every=1)
    controller.adopt(torch.optim.SGD(one.model.parameters(), lr=0.1))
    called, found = one.called(), []
    for _ in range(3):
        controller.begin_step()
        one.loss(called).backward()
        found.append(sorted(controller.active))
    controller.close()
    return found


def with_trainer(folder, clip=0.05):
    """Weights, logged shares and gradient norms of Trainer, whose batch is divided over the processes."""
    from transformers import Trainer

    from tests.integrations.test_huggingface import arguments, callback, data, model

    one = model().double()
    size = BATCH // processes.count()
    options = {"per_device_train_batch_size": size, "optim": "sgd", "max_grad_norm": clip, "learning_rate": 0.5}
    # or Trainer multiplies a loss that the model has made a mean by itself with the number of processes
    args = arguments(folder, average_tokens_across_devices=False, **options)
    trainer = Trainer(one, args, train_dataset=data(), callbacks=[callback(MAT(alpha=0.6))])
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    left = [name for module in one.modules() for name in ("forward", "parameters") if name in vars(module)]
    return weights(one), [(entry["active_share"], entry["grad_norm"]) for entry in logs], left


LOOPS = {
    "vanilla": {"model": "bert", "method": {"name": "vanilla", "observe": True}},
    "mat": {"model": "switch", "method": {"name": "mat"}},
    "recorded": {"model": "bert", "method": {"name": "mat", "mode": "exact"}, "probe": {"estimator": "step"}},
}


def given_of(name):
    """A run on masked text, of which shares have other numbers of counted labels than their batch."""
    given = LOOPS[name]
    text = {"name": "hmm", "train": 64, "validation": 16, "test": 16, "length": 8}
    return {
        "task": text,
        "model": {"name": given["model"], "width": 8, "heads": 2, "dropout": 0.0},
        "method": given["method"],
        "recipe": {"lr": 0.01, "batch": 8, "epochs": 1, "evaluate_every": 4, "clip": 1.0},
        "probe": {"n": 4, "every": 3, **given.get("probe", {})},
    }


def loop_of(name, folder):
    made = Spec.of({**given_of(name), "processes": processes.count()})
    return Loop(made, folder / name, Machine(cache=folder / "cache"))


def run(name, folder):
    one = loop_of(name, folder)
    for _ in one.work(silent):
        pass
    final = one.finish()
    return one.progress.curve, one.controller.records, final


def gone_on(folder):
    """A run that another process takes over after five steps, and its curve."""
    first = loop_of("recorded", folder)
    for _ in range(5):
        first.advance(silent)
    second = loop_of("recorded", folder)
    second.restore(first.state())
    first.finish()
    for _ in second.work(silent):
        pass
    return second.progress.curve, second.finish()


ALL = {
    **{f"{build} {mode}": (trained, build, mode) for build in BUILDS for mode in MODES},
    NORMS_FIXED: (trained, NORMS_FIXED, "detach"),
    "accumulated": (lambda: trained("bert", "detach", shares=2),),
    "wrapped before": (lambda: trained("switch", "detach", wrap="before"),),
    "recorded": (lambda: trained("bert", "detach", estimator="step"),),
    **{f"checkpointed {way}": (lambda way: trained("bert", "detach", checkpoint=way), way) for way in (False, True)},
    "expert alone": (one_expert_alone,),
    "own experts": (own_experts,),
    "disagreeing sets": (disagreeing_sets,),
    "disagreeing modes": (disagreeing_modes,),
    "alone in a group": (alone_in_a_group,),
    "bad probe": (bad_probe_of_the_first,),
    "own probes": (own_probes,),
    "beside": (beside,),
    "plain again": (plain_again,),
    "sets of chance": (sets_of_chance,),
}


def made(names):
    return {name: ALL[name][0](*ALL[name][1:]) for name in names}


def from_the_command_line(folder):
    """``mat train``, which begins and ends the group of processes itself: its status, and what it says."""
    (folder / "spec.json").write_text(json.dumps(given_of("recorded")))
    paths = {"spec": "spec.json", "out": "train", "cache": "cache"}
    with redirect_stderr(io.StringIO()) as said:
        status = mat(["train", *(part for name, path in paths.items() for part in (f"--{name}", str(folder / path)))])
    return status, said.getvalue()


def main(folder: Path) -> None:
    """All cases in one of two processes of torchrun; ``half.pt`` in the folder is a state to go on from."""
    torch.set_num_threads(1)
    said, rank = from_the_command_line(folder), int(os.environ["RANK"])
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    state = torch.load(folder / "half.pt", weights_only=False)
    found = {
        "command line": said,
        **made(ALL),
        "resumed": trained("bert", "exact", state=state, steps=STEPS - 2),
        "half": trained("bert", "exact", steps=2)["state"],
        **{f"loop {name}": run(name, folder) for name in LOOPS},
        "gone on": gone_on(folder),
        "trainer": with_trainer(folder),
    }
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
