"""Every task with settings and data that make it small."""

from __future__ import annotations

import pytest

from mat.experiments.config.plugins import find
from mat.experiments.contract.task import Case
from mat.experiments.tasks.base import Task

CASES = {  # name of the case: task, settings, the fixture that gives its data
    "digits": ("digits", {}, None),
    "digits-still": ("digits", {"shift": 0}, None),
    "hmm": ("hmm", {"length": 16, "train": 64, "validation": 16, "test": 16}, None),
    "hmm-causal": ("hmm", {"objective": "causal_lm", "length": 16, "train": 64, "validation": 16, "test": 16}, None),
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
    "wikitext-bert": ("wikitext", {"tokenizer": "google-bert/bert-base-uncased", "length": 16}, "text_mirror"),
    "wikitext-103": ("wikitext", {"config": "wikitext-103-v1", "vocab_size": 300, "length": 16}, "text_mirror"),
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


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, given, data = CASES[request.param]
    root = request.getfixturevalue(data) if data else None
    module = find("task", name)
    settings = module.Settings(**given)
    if data in ("real_mirror", "real_text"):
        for source in module.sources(settings):
            if not (root / source.repo / source.part).exists():
                pytest.skip(f"no real {source.repo}; MAT_DATA can name the root of a mirror that has it")
    return Case(module, settings, root, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def task(case: Case) -> Task:
    return case.task
