"""The contract every task keeps, whatever its data."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mat.errors import InputError
from mat.experiments.config.plugins import find
from mat.experiments.task_signature import OBJECTIVES
from mat.experiments.tasks import TASKS
from mat.experiments.tasks.base import SPLITS, Batch, Task, fixed_order
from mat.experiments.tasks.storage.hub import Origin, PlainFile

SIZE = 8
GOLDEN_ORDER = [7, 2, 5, 1, 4, 6, 3, 0]
CASES = {  # name of the case: task, settings, the fixture that gives its data
    "digits": ("digits", {}, None),
    "digits-still": ("digits", {"shift": 0}, None),
    "hmm": ("hmm", {"length": 16, "train": 64, "validation": 16, "test": 16}, None),
    "hmm-causal": (
        "hmm",
        {"objective": "causal_lm", "length": 16, "train": 64, "validation": 16, "test": 16},
        None,
    ),
    "digits-noise": ("digits", {"label_noise": 0.2}, None),
    "hmm-noise": ("hmm", {"length": 16, "train": 64, "validation": 16, "test": 16, "token_noise": 0.3}, None),
    "hmm-causal-noise": (
        "hmm",
        {"objective": "causal_lm", "train": 600, "validation": 16, "test": 16, "token_noise": 0.1},
        None,
    ),
    "acceptability": ("acceptability", {"length": 16, "train": 64, "validation": 16, "test": 16}, None),
    "cifar10": ("cifar10", {"validation_examples": 20}, "mirror"),
    "cifar10-subset": ("cifar10", {"validation_examples": 20, "train_examples": 33}, "mirror"),
    "cifar10-noise": ("cifar10", {"validation_examples": 20, "label_noise": 0.25}, "mirror"),
    "wikitext-causal": (
        "wikitext",
        {"objective": "causal_lm", "vocab_size": 300, "lowercase": True, "length": 16},
        "text_mirror",
    ),
    "wikitext-bert": (
        "wikitext",
        {"tokenizer": "google-bert/bert-base-uncased", "length": 16},
        "text_mirror",
    ),
    "wikitext-103": (
        "wikitext",
        {"config": "wikitext-103-v1", "vocab_size": 300, "length": 16},
        "text_mirror",
    ),
    **{
        f"glue-{subset}": ("glue", {"subset": subset, "length": 24}, "text_mirror")
        for subset in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
    },
    "glue-trained": (
        "glue",
        {"subset": "cola", "tokenizer": "wikitext-2-v1", "vocab_size": 300, "length": 24},
        "text_mirror",
    ),
    "glue-rte-real": ("glue", {"subset": "rte"}, "real_text"),
    "glue-stsb-real": ("glue", {"subset": "stsb"}, "real_text"),
    "cifar10-real": ("cifar10", {"validation_examples": 50}, "real_mirror"),
    "cifar100": ("cifar100", {"validation_examples": 30}, "mirror"),
    "cifar100-noise": ("cifar100", {"validation_examples": 30, "label_noise": 0.5}, "mirror"),
    "cifar100-real": ("cifar100", {"validation_examples": 50}, "real_mirror"),
    "tiny_imagenet": ("tiny_imagenet", {"classes": 7, "validation_examples": 20}, "mirror"),
    "tiny_imagenet-few": (
        "tiny_imagenet",
        {"classes": 4, "validation_examples": 10, "augment": "resized_crop"},
        "mirror",
    ),
    "tiny_imagenet-real": ("tiny_imagenet", {"classes": 50, "validation_examples": 50}, "real_mirror"),
    "imagenet": (
        "imagenet",
        {"classes": ("n01", "n03"), "images_per_class": 28, "side": 16, "validation_examples": 12},
        "mirror",
    ),
    "imagenet-crop": (
        "imagenet",
        {"classes": ("n01", "n02", "n03"), "side": 24, "validation_examples": 10, "augment": "crop"},
        "mirror",
    ),
    "wikitext": ("wikitext", {"config": "wikitext-2-raw-v1", "vocab_size": 300, "length": 16}, "mirror"),
    "wikitext-real": ("wikitext", {"config": "wikitext-2-raw-v1", "vocab_size": 512}, "real_mirror"),
}


NOISES = ("label_noise", "token_noise")
UNTOUCHED = {  # case: data_hash and SHA-256 of the labels of the first batch, from before there was any noise
    "digits": (
        "f450b95fb7f0fda57b49ffbb58479c8dcb183b28b346bfcc4da1799b865b1fe1",
        "2d5af5383e51c2a839b37b3399b56159835e9010fb790f2990cb695258e0f34b",
    ),
    "hmm": (
        "33310c6c8d7648825118a10b5b906b22a61db09300fb54469bccfc9f95ec661b",
        "56f8812b145ba8d2e9653596a22e45973bab493c85a88d8c8114a8fb5d705472",
    ),
    "hmm-causal": (
        "3b0543d63d1e49059d4ac6c158efb000333a22e0cc12e094509062ef1e77049d",
        "45bc7c863d0eef267df9c253b5e9759bb8309e6c492f44ba33d3b544d48f39d2",
    ),
}


@dataclass(frozen=True)
class Case:
    """Loads the same task as often as it is called, with one cache."""

    module: ModuleType
    settings: Any
    root: Path | None
    cache: Path

    def __call__(self) -> Task:
        return self.module.load(self.settings, self.root, self.cache)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, given, data = CASES[request.param]
    root = request.getfixturevalue(data) if data else None
    module = find("task", name)
    settings = module.Settings(**given)
    if data == "real_mirror":
        for source in module.sources(settings):
            if not (root / source.repo / source.part).exists():
                pytest.skip(f"no real {source.repo}; MAT_DATA can name the root of a mirror that has it")
    return Case(module, settings, root, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def task(case: Case) -> Task:
    return case()


def same(a: Batch, b: Batch) -> bool:
    """Equal bit for bit, inputs and labels."""
    inputs = all(torch.equal(a.inputs[key], b.inputs[key]) for key in a.inputs)
    return a.inputs.keys() == b.inputs.keys() and inputs and torch.equal(a.labels, b.labels)


def test_every_task_has_a_case() -> None:
    assert {name for name, _, _ in CASES.values()} == set(TASKS)


def test_description(task: Task) -> None:
    assert task.name in TASKS
    assert len({metric.name for metric in task.metrics}) == len(task.metrics) > 0
    assert task.loss_unit
    assert all(m.higher_is_better == ("perplexity" not in m.name) for m in task.metrics)
    assert task.signature.objective in OBJECTIVES
    assert tuple(task.sizes) == SPLITS
    assert min(task.sizes.values()) > 0
    assert len(bytes.fromhex(task.data_hash)) == 32
    assert all(isinstance(value, float) and value >= 0 for value in task.bounds.values())


def test_outline_is_what_the_task_turns_out_to_be(case: Case, task: Task) -> None:
    signature, sizes = case.module.outline(case.settings)
    assert signature.objective == task.signature.objective
    if task.tokenizer is None:
        assert (signature.outputs, signature.vocabulary) == (
            task.signature.outputs,
            task.signature.vocabulary,
        )
    else:  # made files have too few words for the vocabulary that is asked for
        assert (signature.vocabulary is None) == (task.signature.vocabulary is None)
        assert (signature.vocabulary or signature.outputs) >= (
            task.signature.vocabulary or task.signature.outputs
        )
    assert signature.example.keys() == task.signature.example.keys()
    for name, value in signature.example.items():
        assert (value.device.type, value.dtype) == ("meta", task.signature.example[name].dtype)
        assert value.shape == task.signature.example[name].shape
    assert tuple(sizes) == SPLITS
    if case.root is None:  # otherwise the data is a part of what is published
        assert sizes == task.sizes


def test_sources_name_what_is_read(case: Case) -> None:
    sources = case.module.sources(case.settings)
    for source in sources:
        assert isinstance(source, Origin | PlainFile)
        assert len(bytes.fromhex(source.revision)) == 20
        assert (case.root / source.repo / source.part).exists()
    if case.root is None:
        assert sources == ()


def test_shapes_and_types(task: Task) -> None:
    batch = task.batch(0, 0, 0, SIZE)
    for inputs, count in ((batch.inputs, SIZE), (task.signature.example, 1), (task.probe(0, 5).inputs, 5)):
        assert inputs.keys() == task.signature.example.keys()
        for key, value in inputs.items():
            assert value.shape == (count, *task.signature.example[key].shape[1:])
            assert value.dtype == (torch.float32 if key == "x" else torch.int64)
    if task.signature.outputs == 1:
        assert batch.labels.dtype == torch.float32
    else:
        assert batch.labels.dtype == torch.int64
        assert batch.labels.max() < task.signature.outputs
    per_token = task.signature.objective in ("masked_lm", "causal_lm")
    assert batch.labels.shape == (batch.inputs["input_ids"].shape if per_token else (SIZE,))
    if "input_ids" in batch.inputs:
        assert batch.inputs["input_ids"].min() >= 0
        assert batch.inputs["input_ids"].max() < (
            task.signature.outputs if per_token else task.signature.vocabulary
        )
        assert len(bytes.fromhex(task.vocabulary_hash)) == 32


def test_batch_is_a_pure_function_in_any_order(case, task: Task) -> None:
    steps = [(0, 0), (0, 1), (1, 0)]
    forwards = {step: task.batch(3, *step, SIZE) for step in steps}
    other = case()
    for step in reversed(steps):
        assert same(other.batch(3, *step, SIZE), forwards[step])
        assert same(task.batch(3, *step, SIZE), forwards[step])


def test_batches_of_other_threads_are_the_same(case, task: Task) -> None:
    asked = [(epoch, step) for step in (0, 1) for epoch in (0, 1)] * 3
    alone = case()
    expected = [alone.batch(3, *step, SIZE) for step in asked]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads interrupt each other as often as they can
    try:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda step: task.batch(3, *step, SIZE), asked))
    finally:
        sys.setswitchinterval(interval)
    assert all(map(same, found, expected))


def test_an_order_that_another_thread_replaces_meanwhile_is_not_taken() -> None:
    module = find("task", "digits")
    task = module.load(module.Settings(), None, Path())
    right, wrong = task._order(3, 0), task._order(3, 1)
    found = iter([((3, 0), right), ((3, 1), wrong), ((3, 1), wrong)])  # what one read after the other finds
    task.__class__ = type("Shared", (type(task),), {"_permutation": property(lambda self: next(found))})
    assert torch.equal(task._order(3, 0), right)


def test_seed_epoch_and_step_each_change_the_batch(task: Task) -> None:
    reference = task.batch(3, 0, 0, SIZE)
    for other in ((4, 0, 0), (3, 1, 0), (3, 0, 1)):
        assert not same(task.batch(*other, SIZE), reference)


def test_seed_epoch_and_step_each_change_masks_and_augmentation(task: Task) -> None:
    still = task.name == "digits" and not task._augment
    if still or task.signature.objective in ("causal_lm", "text_classification"):
        pytest.skip("nothing is drawn beside the samples")
    index = torch.arange(SIZE)
    reference = task._training_batch(index, 3, 0, 0)
    assert same(task._training_batch(index, 3, 0, 0), reference)
    for other in ((4, 0, 0), (3, 1, 0), (3, 0, 1)):
        assert not same(task._training_batch(index, *other), reference)


def test_batches_leave_the_global_generator_alone(task: Task) -> None:
    state = torch.get_rng_state()
    task.batch(0, 0, 0, SIZE)
    task.probe(0, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_epoch_uses_each_sample_at_most_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr(task, "_training_batch", lambda index, *_: used.extend(index.tolist()))
    steps = task.steps_per_epoch(SIZE)
    for step in range(steps):
        task.batch(1, 2, step, SIZE)
    assert len(used) == len(set(used)) == steps * SIZE
    assert set(used) <= set(range(task.sizes["train"]))
    assert task.sizes["train"] - len(used) < SIZE


@pytest.mark.parametrize("split", SPLITS)
def test_fixed_batches_cover_the_split_whatever_their_size(case, task: Task, split: str) -> None:
    def whole(task: Task, size: int) -> Batch:
        parts = list(task.batches(split, size))
        keys = parts[0].inputs
        inputs = {key: torch.cat([part.inputs[key] for part in parts]) for key in keys}
        return Batch(inputs, torch.cat([part.labels for part in parts]))

    reference = whole(task, 7)
    assert len(reference.labels) == task.sizes[split]
    assert same(whole(task, 7), reference)
    assert same(whole(case(), 50), reference)


def test_splits_share_no_sample(task: Task) -> None:
    if task.name in ("wikitext", "glue"):
        pytest.skip("two texts may be equal; the splits are different files, or rows of one")
    seen = {split: set() for split in SPLITS}
    for split in SPLITS:
        for batch in task.batches(split, 64):
            seen[split] |= {row.numpy().tobytes() for row in next(iter(batch.inputs.values()))}
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]


def test_probe_is_drawn_once_by_the_seed(case, task: Task) -> None:
    first = task.probe(5, 6)
    task.batch(5, 0, 0, SIZE)
    assert same(task.probe(5, 6), first)
    assert same(case().probe(5, 6), first)
    assert not same(task.probe(6, 6), first)
    everything = task.probe(5, task.sizes["train"])
    assert len(everything.labels) == task.sizes["train"]


def test_score_adds_up_to_the_loss(task: Task) -> None:
    labels = task.batch(0, 0, 0, SIZE).labels
    logits = torch.randn(*labels.shape, task.signature.outputs, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    loss = task.loss(logits, labels)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0
    score = task.score("train", iter([(logits.detach(), labels)]))
    assert score.loss == pytest.approx(loss.item(), rel=1e-5)
    assert task.metrics[0].name in score.metrics
    assert score.metrics.keys() <= {metric.name for metric in task.metrics}
    halves = [(logits.detach()[part], labels[part]) for part in (slice(0, 3), slice(3, None))]
    again = task.score("train", iter(halves))
    assert again.loss == pytest.approx(score.loss)
    assert again.metrics == pytest.approx(score.metrics)


def test_sample_losses_are_each_samples_own(task: Task) -> None:
    labels = task.batch(0, 0, 0, SIZE).labels
    logits = torch.randn(*labels.shape, task.signature.outputs, generator=torch.Generator().manual_seed(0))
    losses = task.sample_losses(logits, labels)
    assert losses.shape == (SIZE,)
    for i in range(SIZE):
        assert losses[i].item() == pytest.approx(
            task.loss(logits[i : i + 1], labels[i : i + 1]).item(), rel=1e-5
        )


def test_data_hash_is_of_the_data(case, task: Task) -> None:
    assert case().data_hash == task.data_hash


@pytest.mark.parametrize("name", UNTOUCHED)
def test_without_noise_the_data_is_what_it_always_was(name: str) -> None:
    plugin, given, _ = CASES[name]
    module = find("task", plugin)
    task = module.load(module.Settings(**given), None, Path())
    labels = task.batch(0, 0, 0, SIZE).labels.numpy().astype("<i8").tobytes()
    assert (task.data_hash, hashlib.sha256(labels).hexdigest()) == UNTOUCHED[name]


def test_corrupted_samples_are_those_that_noise_changed(case: Case, task: Task) -> None:
    found = task.corrupted()
    noise = {name: getattr(case.settings, name, 0) for name in NOISES}
    if not any(noise.values()):
        assert found is None
        return
    batch, true = found
    assert true.shape == batch.labels.shape
    assert 0 < len(true) <= 512
    again, same_true = case().corrupted()
    assert same(again, batch)
    assert torch.equal(same_true, true)
    clean = case.module.load(
        replace(case.settings, **{name: 0.0 for name in noise if noise[name]}), case.root, case.cache
    )
    assert clean.data_hash != task.data_hash
    told = true != -100
    assert (batch.labels[told] != true[told]).all()
    assert (batch.labels[told] >= 0).all()
    assert told.reshape(len(told), -1).any(1).all()
    key = next(iter(batch.inputs))
    whole, really = (next(loaded.batches("train", loaded.sizes["train"])) for loaded in (task, clean))
    places = {row.numpy().tobytes(): i for i, row in enumerate(whole.inputs[key])}
    index = torch.tensor([places[row.numpy().tobytes()] for row in batch.inputs[key]])
    assert len(index.unique()) == len(index)
    assert torch.equal(whole.labels[index], batch.labels)
    assert torch.equal(really.labels[index][told], true[told])
    if task.signature.objective == "masked_lm":
        assert (batch.inputs[key][told] == task.vocabulary.mask_id).all()
        shown = ~told & (batch.inputs[key] == task.vocabulary.mask_id)
    else:
        shown = ~told
    assert torch.equal(really.labels[index][shown], batch.labels[shown])


def test_noise_replaces_its_share_of_the_training_labels_only(case: Case, task: Task) -> None:
    given = {name: getattr(case.settings, name, 0) for name in NOISES}
    name = max(given, key=given.get)
    if not given[name]:
        pytest.skip("a task without noise")
    clean = case.module.load(replace(case.settings, **{name: 0.0}), case.root, case.cache)
    for split in ("validation", "test"):
        assert all(map(same, task.batches(split, 64), clean.batches(split, 64)))
    if name == "token_noise":
        before, after = (torch.from_numpy(loaded.rows["train"].take(slice(None))) for loaded in (clean, task))
        assert torch.equal(before[:, 0], after[:, 0])
        assert after[:, 1:].max() < case.settings.words
        before, after = before[:, 1:], after[:, 1:]
    else:
        before, after = (next(loaded.batches("train", 10**6)).labels for loaded in (clean, task))
    assert int((before != after).sum()) == round(given[name] * before.numel())
    for seed in (0, 1):
        trained = [loaded.batch(seed, 0, 0, loaded.sizes["train"]) for loaded in (task, clean)]
        assert not torch.equal(trained[0].labels, trained[1].labels)
        if name == "label_noise":
            assert torch.equal(trained[0].inputs["x"], trained[1].inputs["x"])


@pytest.mark.parametrize(
    "call",
    [
        lambda task: task.probe(0, task.sizes["train"] + 1),
        lambda task: task.probe(0, 0),
        lambda task: task.batches("valid", 4),
        lambda task: task.batches("test", 0),
        lambda task: task.batch(0, 0, 0, task.sizes["train"] + 1),
        lambda task: task.batch(0, 0, task.steps_per_epoch(SIZE), SIZE),
        lambda task: task.batch(0, 0, -1, SIZE),
        lambda task: task.steps_per_epoch(0),
    ],
)
def test_impossible_requests_are_refused(task: Task, call) -> None:
    with pytest.raises(InputError, match=r"[Ee]xpected"):
        call(task)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("digits", {"shift": -1}),
        ("digits", {"shift": 1.5}),
        ("digits", {"label_noise": 1.0}),
        ("digits", {"label_noise": True}),
        ("cifar10", {"label_noise": -0.1}),
        ("cifar100", {"label_noise": float("nan")}),
        ("hmm", {"token_noise": 1}),
        ("hmm", {"words": 10}),
        ("hmm", {"train": 0}),
        ("hmm", {"length": True}),
        ("cifar10", {"train_examples": 0}),
        ("cifar10", {"validation_examples": 0}),
        ("cifar100", {"train_examples": 0}),
        ("tiny_imagenet", {"classes": 201}),
        ("tiny_imagenet", {"augment": "mixup"}),
        ("tiny_imagenet", {"validation_examples": 0}),
        ("imagenet", {"classes": ("n01", "n01")}),
        ("imagenet", {"classes": ("n01",)}),
        ("imagenet", {"images_per_class": 0}),
        ("imagenet", {"side": 4}),
        ("imagenet", {"augment": "mixup"}),
        ("wikitext", {"config": "wikitext-3"}),
        ("wikitext", {"vocab_size": 100}),
        ("wikitext", {"length": 1}),
        ("wikitext", {"train_blocks": "all"}),
        ("wikitext", {"objective": "mlm"}),
        ("wikitext", {"tokenizer": "gpt2"}),
        ("wikitext", {"lowercase": 1}),
        ("hmm", {"objective": None}),
        ("hmm", {"source_seed": -1}),
        ("acceptability", {"window": 1}),
        ("acceptability", {"window": 25}),
        ("acceptability", {"words": 10}),
        ("glue", {"subset": "ax"}),
        ("glue", {"tokenizer": "wikitext-3"}),
        ("glue", {"length": 2}),
        ("glue", {"validation_examples": 0}),
        ("glue", {"validation_examples": 5, "subset": "mrpc"}),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict) -> None:
    with pytest.raises(InputError, match=f"{name} setting '{next(iter(settings))}'"):
        find("task", name).Settings(**settings)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet", "tiny_imagenet", "wikitext"])
def test_missing_data_folder_is_named(name: str, tmp_path: Path) -> None:
    module = find("task", name)
    for root, sought in ((tmp_path / "nowhere", "nowhere"), (tmp_path, name.replace("_", "-"))):
        with pytest.raises(InputError, match=sought) as caught:
            module.load(module.Settings(), root, tmp_path / "cache")
        assert "'data'" in str(caught.value)


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"'mnist'.*acceptability, cifar10, .*digits, glue, hmm, .*wikitext"):
        find("task", "mnist")


def test_fixed_order_is_the_same_everywhere() -> None:
    assert fixed_order(8, "a name").tolist() == GOLDEN_ORDER
