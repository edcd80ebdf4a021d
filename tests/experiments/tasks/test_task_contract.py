"""What tasks keep beside the contract: threads, masks, noise, the data they always had, and bad settings."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mat.errors import InputError
from mat.experiments.config.plugins import find
from mat.experiments.contract.task import SIZE, Case, same
from mat.experiments.tasks.base import Task, fixed_order
from tests.contract.task_cases import CASES

GOLDEN_ORDER = [7, 2, 5, 1, 4, 6, 3, 0]
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


def test_batches_of_other_threads_are_the_same(case, task: Task) -> None:
    asked = [(epoch, step) for step in (0, 1) for epoch in (0, 1)] * 3
    alone = case.again()
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


def test_seed_epoch_and_step_each_change_masks_and_augmentation(task: Task) -> None:
    still = task.name == "digits" and not task._augment
    if still or task.signature.objective in ("causal_lm", "text_classification"):
        pytest.skip("nothing is drawn beside the samples")
    index = torch.arange(SIZE)
    reference = task._training_batch(index, 3, 0, 0)
    assert same(task._training_batch(index, 3, 0, 0), reference)
    for other in ((4, 0, 0), (3, 1, 0), (3, 0, 1)):
        assert not same(task._training_batch(index, *other), reference)


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
    again, same_true = case.again().corrupted()
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
    with pytest.raises(InputError, match=f"{next(iter(settings))} must be"):
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
