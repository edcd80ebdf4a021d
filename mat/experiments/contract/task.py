"""The contract of a task: disjoint splits, batches that are a pure function of (seed, epoch, step), a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch

from mat.errors import InputError
from mat.experiments.contract import record
from mat.experiments.task_signature import OBJECTIVES
from mat.experiments.tasks.base import SPLITS, Batch, Task
from mat.experiments.tasks.storage.mirror import Origin, PlainFile

SIZE = 8  # samples of a batch
NEEDED = ("Settings", "load", "outline", "sources")


@dataclass(frozen=True)
class Case:
    """A task's file with settings; ``again`` loads it as often as it is called, with one cache."""

    module: Any
    settings: Any
    root: Path | None
    cache: Path

    def again(self) -> Task:
        return self.module.load(self.settings, self.root, self.cache)

    @cached_property
    def task(self) -> Task:
        return self.again()


def check_task(module: ModuleType, root: Path | None = None) -> list[str]:
    """What a task's file does not keep, in plain sentences; [] when it keeps all. Raises InputError.

    ``root``: a mirror of the data that it reads.
    """
    lacking = record.lacks(module, NEEDED, "mat.experiments.tasks.base.TaskPlugin")
    if lacking:
        return lacking
    found = list(record.broken("task", module))
    for settings in record.settings_of("task", module):
        with TemporaryDirectory() as cache:
            case = Case(module, settings, root, Path(cache))
            found += [f"with {settings}: {said}" for rule in RULES for said in record.kept(rule, case)]
    return found


def same(a: Batch, b: Batch) -> bool:
    """Equal bit for bit, inputs and labels."""
    inputs = all(torch.equal(a.inputs[key], b.inputs[key]) for key in a.inputs)
    return a.inputs.keys() == b.inputs.keys() and inputs and torch.equal(a.labels, b.labels)


def it_says_what_it_is(case: Case) -> Iterator[str]:
    task = case.task
    names = [metric.name for metric in task.metrics]
    if not names or len(set(names)) < len(names):
        yield f"metrics must be one at least, each once, got {', '.join(names) or 'none'}"
    for metric in task.metrics:
        if metric.higher_is_better != ("perplexity" not in metric.name and "error" not in metric.name):
            yield f"the metric {metric.name} has the wrong direction: higher_is_better is {metric.higher_is_better}"
    if not task.loss_unit:
        yield "loss_unit is empty; name it, such as nats"
    if task.signature.objective not in OBJECTIVES:
        yield f"the signature's objective must be one of {', '.join(OBJECTIVES)}, got {task.signature.objective}"
    if tuple(task.sizes) != SPLITS or min(task.sizes.values()) < 1:
        yield f"sizes must have {', '.join(SPLITS)}, with one sample at least, got {task.sizes}"
    for name, value in (("data_hash", task.data_hash), ("vocabulary_hash", task.vocabulary_hash)):
        if value is not None and (len(value) != 64 or not set(value) <= set("0123456789abcdef")):
            yield f"{name} must be a SHA-256 as 64 hexadecimal digits, got {value!r}"
    if task.vocabulary_hash is None and "input_ids" in task.signature.example:
        yield "vocabulary_hash is missing: of what gives token ids their meaning"
    for name, value in task.bounds.items():
        if not isinstance(value, float) or value < 0:
            yield f"bounds must be numbers ≥ 0, got {name} = {value!r}"


def its_outline_is_what_it_turns_out_to_be(case: Case) -> Iterator[str]:
    (said, sizes), found = case.module.outline(case.settings), case.task.signature
    if said.objective != found.objective:
        yield f"outline has the objective {said.objective}, the task {found.objective}"
    told, real = (said.outputs, said.vocabulary), (found.outputs, found.vocabulary)
    # a tokenizer may find fewer words than the vocabulary that it was asked for
    less = (told[1] is None) == (real[1] is None) and (told[1] or told[0]) >= (real[1] or real[0])
    if told != real and not (case.task.tokenizer is not None and less):
        yield f"outline has (outputs, vocabulary) {told}, the task {real}"
    shapes = [{k: (tuple(v.shape), v.dtype) for k, v in one.example.items()} for one in (said, found)]
    if shapes[0] != shapes[1]:
        yield f"outline has the example {shapes[0]}, the task {shapes[1]}"
    if any(value.device.type != "meta" for value in said.example.values()):
        yield "outline's example must be on the device meta, so that it costs nothing"
    if tuple(sizes) != SPLITS or (case.root is None and sizes != case.task.sizes):
        yield f"outline has the sizes {sizes}, the task {case.task.sizes}"


def its_sources_name_what_is_read(case: Case) -> Iterator[str]:
    for source in case.module.sources(case.settings):
        if not isinstance(source, Origin | PlainFile):
            yield f"sources must be of Origin and PlainFile, got {source!r}"
        elif len(source.revision) != 40:
            yield f"a source's revision must be a commit, 40 hexadecimal digits, got {source.revision!r}"
        elif case.root is not None and not (case.root / source.repo / source.part).exists():
            yield f"the source {source.repo}/{source.part} is not what is read"


def its_batches_have_the_signatures_shapes(case: Case) -> Iterator[str]:
    task, example = case.task, case.task.signature.example
    batch = task.batch(0, 0, 0, SIZE)
    kinds = ("a batch", batch.inputs, SIZE), ("the example", example, 1), ("a probe", task.probe(0, 5).inputs, 5)
    for what, inputs, count in kinds:
        if inputs.keys() != example.keys():
            yield f"{what} has the inputs {', '.join(inputs)}, the signature {', '.join(example)}"
            continue
        for key, value in inputs.items():
            wanted = (count, *example[key].shape[1:]), torch.float32 if key == "x" else torch.int64
            if (tuple(value.shape), value.dtype) != wanted:
                yield f"{key} of {what} must be {wanted}, got {(tuple(value.shape), value.dtype)}"
    outputs, labels = task.signature.outputs, batch.labels
    if labels.dtype != (torch.float32 if outputs == 1 else torch.int64):
        yield f"labels must be int64, or float32 for regression (outputs = 1), got {labels.dtype}"
    elif outputs > 1 and labels.max() >= outputs:
        yield f"labels must be below outputs = {outputs}, got {int(labels.max())}"
    per_token = task.signature.objective in ("masked_lm", "causal_lm")
    shape = batch.inputs["input_ids"].shape if per_token else (SIZE,)
    if tuple(labels.shape) != tuple(shape):
        yield f"labels must have the shape {tuple(shape)}, got {tuple(labels.shape)}"
    if "input_ids" in batch.inputs:
        ids, most = batch.inputs["input_ids"], outputs if per_token else task.signature.vocabulary
        if ids.min() < 0 or ids.max() >= most:
            yield f"token ids must be in 0 … {most - 1}, got {int(ids.min())} to {int(ids.max())}"


def a_batch_is_a_pure_function_in_any_order(case: Case) -> Iterator[str]:
    steps, other = [(0, 0), (0, 1), (1, 0)], case.again()
    forwards = {step: case.task.batch(3, *step, SIZE) for step in steps}
    both = (other, case.task)
    if not all(same(one.batch(3, *step, SIZE), forwards[step]) for step in reversed(steps) for one in both):
        yield "a batch depends on more than (seed, epoch, step): asked again, in another order, it is another"
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda step: case.task.batch(3, *step, SIZE), 3 * steps)
        if not all(map(same, found, 3 * [*forwards.values()])):
            yield "batches that two threads ask for are other ones"


def seed_epoch_and_step_each_change_the_batch(case: Case) -> Iterator[str]:
    reference = case.task.batch(3, 0, 0, SIZE)
    for name, other in (("seed", (4, 0, 0)), ("epoch", (3, 1, 0)), ("step", (3, 0, 1))):
        if same(case.task.batch(*other, SIZE), reference):
            yield f"another {name} gives the same batch"


def batches_leave_the_global_generator_alone(case: Case) -> Iterator[str]:
    state = torch.get_rng_state()
    case.task.batch(0, 0, 0, SIZE)
    case.task.probe(0, 3)
    if not torch.equal(torch.get_rng_state(), state):
        yield "batches draw from torch's global generator; use mat.seeds.generator(seed, …)"


def an_epoch_uses_each_sample_at_most_once(case: Case) -> Iterator[str]:
    task, size = case.task, case.task.sizes["train"]
    order = task._order(1, 2)
    if sorted(order.tolist()) != list(range(size)):
        yield f"an epoch's order is no permutation of the {size} training samples"
    if task.steps_per_epoch(SIZE) != size // SIZE:
        yield f"an epoch of {size} samples has {size // SIZE} batches of {SIZE}, got {task.steps_per_epoch(SIZE)}"


def fixed_batches_cover_the_split_whatever_their_size(case: Case) -> Iterator[str]:
    def whole(task: Task, split: str, size: int) -> Batch:
        parts = list(task.batches(split, size))
        inputs = {key: torch.cat([part.inputs[key] for part in parts]) for key in parts[0].inputs}
        return Batch(inputs, torch.cat([part.labels for part in parts]))

    other = case.again()
    for split in SPLITS:
        reference = whole(case.task, split, 7)
        if len(reference.labels) != case.task.sizes[split]:
            yield f"the batches of {split} hold {len(reference.labels)} samples of {case.task.sizes[split]}"
        if not same(whole(case.task, split, 7), reference) or not same(whole(other, split, 50), reference):
            yield f"the batches of {split} are other ones when asked again or in another size"


def splits_share_no_sample(case: Case) -> Iterator[str]:
    if not getattr(case.module, "SPLITS_ARE_DISJOINT", True):
        return

    def rows(split: str) -> set[bytes]:
        batches = case.task.batches(split, 64)
        return {row.numpy().tobytes() for batch in batches for row in next(iter(batch.inputs.values()))}

    seen = {split: rows(split) for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        shared = len(seen[one] & seen[other])
        if shared:
            yield f"{shared} samples are in {one} and in {other}"


def the_probe_is_drawn_once_by_the_seed(case: Case) -> Iterator[str]:
    task, first = case.task, case.task.probe(5, 6)
    task.batch(5, 0, 0, SIZE)
    if not same(task.probe(5, 6), first) or not same(case.again().probe(5, 6), first):
        yield "the probe of a seed is another one when asked again"
    if same(task.probe(6, 6), first):
        yield "another seed gives the same probe"
    if len(task.probe(5, task.sizes["train"]).labels) != task.sizes["train"]:
        yield "a probe of all training samples does not hold them all"


def its_score_adds_up_to_the_loss(case: Case) -> Iterator[str]:
    task, labels = case.task, case.task.batch(0, 0, 0, SIZE).labels
    drawn = torch.randn(*labels.shape, task.signature.outputs, generator=torch.Generator().manual_seed(0))
    logits = drawn.clone().requires_grad_()
    loss = task.loss(logits, labels)
    loss.backward()
    if not torch.isfinite(logits.grad).all() or not logits.grad.abs().sum() > 0:
        yield "the loss has no gradient, or one that is not finite"
    score = task.score("train", iter([(drawn, labels)]))
    if abs(score.loss - loss.item()) > 1e-5 * abs(loss.item()):
        yield f"score says the loss {score.loss}, loss {loss.item()}"
    known = {metric.name for metric in task.metrics}
    if task.metrics[0].name not in score.metrics or not score.metrics.keys() <= known:
        wanted = f"{task.metrics[0].name} and only {', '.join(sorted(known))}"
        yield f"score must have {wanted}, got {', '.join(score.metrics)}"
    again = task.score("train", iter([(drawn[part], labels[part]) for part in (slice(0, 3), slice(3, None))]))
    pairs = [(again.loss, score.loss), *((again.metrics.get(name), value) for name, value in score.metrics.items())]
    if any(a is None or not (abs(a - b) <= 1e-6 * abs(b) + 1e-12 or (a != a and b != b)) for a, b in pairs):
        yield f"score is another one when the samples come in other batches: {again}, not {score}"
    losses = task.sample_losses(drawn, labels)
    if tuple(losses.shape) != (SIZE,):
        yield f"sample_losses must be one for each of the {SIZE} samples, got the shape {tuple(losses.shape)}"
        return
    for i in range(SIZE):
        own = task.loss(drawn[i : i + 1], labels[i : i + 1]).item()
        if abs(losses[i].item() - own) > 1e-5 * abs(own):
            yield f"sample_losses says {losses[i].item()} for a sample whose own loss is {own}"
            break


def its_data_hash_is_of_the_data(case: Case) -> Iterator[str]:
    if case.again().data_hash != case.task.data_hash:
        yield "data_hash is another one when the same data is loaded again"


def impossible_requests_are_refused(case: Case) -> Iterator[str]:
    task, most = case.task, case.task.sizes["train"]
    asked: dict[str, Callable[[], Any]] = {
        "a probe of more samples than there are": lambda: task.probe(0, most + 1),
        "a probe of no sample": lambda: task.probe(0, 0),
        "an unknown split": lambda: task.batches("valid", 4),
        "batches of no sample": lambda: task.batches("test", 0),
        "a batch of more samples than there are": lambda: task.batch(0, 0, 0, most + 1),
        "a step after the epoch's end": lambda: task.batch(0, 0, task.steps_per_epoch(SIZE), SIZE),
        "a step before the epoch": lambda: task.batch(0, 0, -1, SIZE),
        "an epoch of empty batches": lambda: task.steps_per_epoch(0),
    }
    for what, call in asked.items():
        try:
            call()
            yield f"{what} is not refused; raise mat.InputError"
        except InputError as error:
            if "expected" not in str(error).lower():
                yield f"{what} is refused without saying what is expected: {error}"


Rule = Callable[[Case], Iterator[str]]
RULES: tuple[Rule, ...] = (
    it_says_what_it_is,
    its_outline_is_what_it_turns_out_to_be,
    its_sources_name_what_is_read,
    its_batches_have_the_signatures_shapes,
    a_batch_is_a_pure_function_in_any_order,
    seed_epoch_and_step_each_change_the_batch,
    batches_leave_the_global_generator_alone,
    an_epoch_uses_each_sample_at_most_once,
    fixed_batches_cover_the_split_whatever_their_size,
    splits_share_no_sample,
    the_probe_is_drawn_once_by_the_seed,
    its_score_adds_up_to_the_loss,
    its_data_hash_is_of_the_data,
    impossible_requests_are_refused,
)
