"""What people call the tasks, families and methods that configs have keys for; a label without words is its own."""

from __future__ import annotations

import re

from mat.evidence.text import format
from mat.evidence.text.format import ALL

TUNED = "_best"  # ends the label of what was tuned
TASKS = {
    "digits": "digits, small VGG", "hmm": "Markov text, small BERT", "acceptability": "acceptability, small BERT",
    "cifar10_small": "CIFAR-10, small VGG", "tiny_imagenet_small": "Tiny-ImageNet, small ResNet",
    "wikitext2_small": "WikiText-2, small BERT", "experts_small": "WikiText-2, small Switch",
    "sst2_small": "SST-2, small BERT",
    "cifar10_converged": "CIFAR-10, converged VGG", "tiny_imagenet_converged": "Tiny-ImageNet, converged ResNet",
    "wikitext2_converged": "WikiText-2, converged BERT", "experts_converged": "WikiText-2, converged Switch",
    "experts_shares": "WikiText-2, Switch in float32",
    "experts_budgets": "WikiText-2, Switch over budgets",
    "tiny_imagenet_shares": "Tiny-ImageNet, ResNet in float32",
    "sst2_converged": "SST-2, converged BERT", "cola_converged": "CoLA, converged BERT",
    "mrpc_converged": "MRPC, converged BERT", "rte_converged": "RTE, converged BERT",
    "wikitext2_methods": "WikiText-2, methods", "tiny_imagenet_choices": "Tiny-ImageNet, choices",
    "tiny_imagenet_budgets": "Tiny-ImageNet, budgets", "wikitext2_budgets": "WikiText-2, budgets",
    "cifar10": "CIFAR-10, VGG", "cifar100": "CIFAR-100, VGG", "tiny_imagenet": "Tiny-ImageNet, ResNet",
    "tiny_imagenet_vit": "Tiny-ImageNet, ViT", "wikitext2": "WikiText-2, BERT", "wikitext103": "WikiText-103, BERT",
    "experts_wikitext2": "WikiText-2, Switch", "experts_wikitext103": "WikiText-103, Switch",
    "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI",
    "rte": "RTE", "wnli": "WNLI", "cola_from_mat": "CoLA, after MAT", "sst2_from_mat": "SST-2, after MAT",
    "bert_wikitext2": "WikiText-2, BERT-base", "bert_wikitext103": "WikiText-103, BERT-base",
    "switch_wikitext103": "WikiText-103, Switch", "switch_wikitext2": "WikiText-2, Switch",
    "vgg16_cifar10": "CIFAR-10, VGG16", "vgg16_cifar100": "CIFAR-100, VGG16",
    "resnet18_tiny_imagenet": "Tiny-ImageNet, ResNet-18", "vit_tiny_imagenet": "Tiny-ImageNet, ViT",
    "resnet18_imagenet": "ImageNet, ResNet-18",
    "bert": "BERT", "resnet": "ResNet", "switch": "Switch", "vgg": "VGG", "vgg_noisy": "VGG, noisy labels",
    "bert_noisy": "BERT, noisy words", "bert_base": "BERT-base", "vgg16": "VGG16", "vit": "ViT",
}  # fmt: skip
METHODS = {
    "vanilla": "vanilla", "mat": "MAT", "random": "random", "multirate": "multirate",
    "mat_modular": "MAT (modular policy)", "mat_temporal": "MAT (temporal policy)",
    "misa": "MISA", "lisa": "LISA", "badam": "BAdam", "freezeout": "FreezeOut", "autofreeze": "AutoFreeze",
    "grades": "GradES", "ssprop": "ssProp", "lcsb": "LCSB", "frozen_bottom": "frozen bottom",
    "vanilla_short_exact": "vanilla (short, exact)", "vanilla_short_residual": "vanilla (short, residual)",
    "largest": "largest λ_max", "smallest": "smallest λ_max", "shuffled": "λ_max shuffled",
    "shuffled_kind": "λ_max shuffled within kinds", "shuffled_layer": "λ_max shuffled within kinds and layers",
    "gradient_norm": "gradient norm", "random_once": "random, drawn once", "depth_low": "lowest layers first",
    "depth_high": "highest layers first", "kind_head": "heads first", "kind_ffn": "FFNs first",
    "vanilla_lr_half": "vanilla, lr × ½", "vanilla_lr_double": "vanilla, lr × 2", "mat_lr_half": "MAT, lr × ½",
    "mat_lr_double": "MAT, lr × 2",
}  # fmt: skip


def task(label: str) -> str:
    """A task, or a family of models, as people call it."""
    return TASKS.get(label, label)


def on(label: str) -> str:
    """A task inside a sentence: its data, and the model in brackets."""
    data, _, model = task(label).partition(", ")
    return f"{data} ({model})" if model else data


def family(label: str, of: str) -> str:
    """A family of models trained on the data of the task ``of``."""
    return f"{task(of).partition(',')[0]}, {task(label)}"


def place(label: str) -> str:
    """Where a verdict holds: on a task, or over all of them."""
    return "over all" if label == ALL else task(label)


def method(label: str) -> str:
    """A method as people call it: a word of its own, or that of what it varies and in brackets how; ``…_best`` was
    tuned, ``…_b25`` had 25 % of the steps, ``…_s10`` trains 10 % of the modules."""
    if label in METHODS:
        return METHODS[label]
    if label.endswith(TUNED):
        return f"{method(label.removesuffix(TUNED))} (tuned)"
    if found := re.fullmatch(r"(\w+)_([bs])(\d+)", label):
        return f"{method(found[1])}, {found[3]} % of the {'steps' if found[2] == 'b' else 'modules'}"
    base, _, how = label.partition("_")
    return f"{METHODS[base]} ({how.replace('_', ' ')})" if how and base in METHODS else label


def heading(label: str) -> str:
    """A task as a heading of Markdown: as people call it, and the key that commands and tables know it by."""
    said = task(label)
    return format.plain(said) if said == label else f"{format.plain(said)} ({format.code(label)})"


def text(said: str) -> str:
    """A text with the methods and tasks that it names by a key, such as mat_exact, as people call them."""
    return re.sub(r"\b(?:mat|\w+_\w+)\b", lambda found: task(method(found[0])), said)
