"""What a probe costs beside a training step and beside other ways to a kernel: ``python -m tests.benchmarks.kernel``.

A probe is one of ``sum_of_logits``, unless another estimator is named, and a later one of a controller's, unless it
is called the first: the first traces rows to their samples by one backward pass more, where some function might have
moved them. Both compare one sample with automatic differentiation. Every row is a ratio of runs that took turns in one
process, by the clock and in CPU seconds, which other processes disturb less. No test asserts these numbers. Parts are
chosen by name (``--only step others``); ``--device cuda`` runs the timings on a GPU.
"""

from __future__ import annotations

import argparse
import functools
import platform
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mat.experiments.models import vgg
from mat.experiments.task_signature import Signature
from mat.partition.discovery import partition_model
from mat.partition.partition import Module, Partition, Slice
from tests import zoo
from tests.benchmarks.timing import peak_memory, ratio, side_by_side, table

modular_ntk = zoo.modular_ntk
later_probe = functools.partial(modular_ntk, verify=False)
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def bert(layers: int, width: int, heads: int, n: int, length: int = 128, labels: int | None = 2, words: int = 30522):
    """(model, inputs, labels) of a BERT with a classifier, or with its vocabulary head (``labels`` None)."""
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=length,
        num_labels=labels or 2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    ids = torch.randint(words, (n, length))
    if labels is None:
        return BertForMaskedLM(config), {"input_ids": ids}, ids
    return BertForSequenceClassification(config), {"input_ids": ids}, torch.randint(labels, (n,))


def vgg16(n: int = 64):
    torch.manual_seed(0)
    images = torch.randn(n, 3, 32, 32)
    model = vgg.build(vgg.Settings(plan=VGG16), Signature("image_classification", {"x": images[:1]}, 10))
    return model, {"x": images}, torch.randint(10, (n,))


def outputs(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    out = model(**inputs)
    return out if isinstance(out, Tensor) else out.logits


def step(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> None:
    """Forward and backward with every weight gradient, by plain PyTorch, without the optimizer."""
    model.train()
    F.cross_entropy(outputs(model, inputs).flatten(0, -2), labels.flatten()).backward()
    model.zero_grad(set_to_none=True)


SHAPES = {
    "BERT-small (4 × 512, 8 heads, S 128), n = 32, classifier": lambda: bert(4, 512, 8, 32),
    "the same with a head of 30,522 words": lambda: bert(4, 512, 8, 32, labels=None),
    "VGG16 at 32×32, n = 64": vgg16,
}


def beside_a_step(device: str, rounds: int) -> None:
    rows = []
    for name, make in SHAPES.items():
        model, inputs, labels = make()
        model.to(device)
        inputs, labels = {k: v.to(device) for k, v in inputs.items()}, labels.to(device)
        partition = partition_model(model)
        seconds = side_by_side(
            {
                "step": functools.partial(step, model, inputs, labels),
                "first": functools.partial(modular_ntk, model, partition, inputs),
                "later": functools.partial(modular_ntk, model, partition, inputs, verify=False),
            },
            rounds,
        )
        modules = str(len(partition.modules))
        rows.append([name, modules, ratio(seconds, "first", "step"), ratio(seconds, "later", "step")])
    table(
        "Probe / one forward and backward pass of the same batch",
        ["model", "modules", "first probe", "later probe"],
        rows,
    )


def vmap_grad(
    model: nn.Module, partition: Partition, inputs: dict[str, Tensor], everything: bool = False
) -> dict[str, Tensor]:
    """The ordinary way: per-sample gradients by ``vmap(grad)``, then a Gram matrix per module.

    ``everything``: of all parameters, as the tutorials do; else of those that modules own.
    """
    function, parameters = _of_one_sample(model, partition, inputs, everything)

    def scalar(p: dict[str, Tensor], x: Tensor) -> Tensor:
        out = function(p, x)
        return out.sum() / out.numel() ** 0.5

    gradients = torch.func.vmap(torch.func.grad(scalar), (None, 0))(parameters, *inputs.values())
    return {m.name: gram([_rows(gradients, piece) for piece in m.slices]) for m in partition.modules}


def _of_one_sample(model: nn.Module, partition: Partition, inputs: dict[str, Tensor], everything: bool = False):
    """(function of the modules' parameters and one sample's input to its logits, the parameters)."""
    model.eval()
    named = {name: p.detach() for name, p in model.named_parameters()}
    owned = {piece.parameter for module in partition.modules for piece in module.slices}
    owned = set(named) if everything else owned
    rest = {name: p for name, p in named.items() if name not in owned}
    (key,) = inputs

    def function(p: dict[str, Tensor], x: Tensor) -> Tensor:
        out = torch.func.functional_call(model, {**rest, **p}, kwargs={key: x[None]})
        return (out if isinstance(out, Tensor) else out.logits).flatten()

    return function, {name: named[name] for name in owned}


def _rows(gradients: dict[str, Tensor], piece: Slice) -> Tensor:
    return gradients[piece.parameter].narrow(piece.dim + 1, piece.start, piece.stop - piece.start).flatten(1)


def gram(rows: list[Tensor]) -> Tensor:
    return sum(part @ part.T for part in rows)


def jacobian_contraction(model: nn.Module, partition: Partition, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """``full`` by the tutorial's way: ``vmap(jacrev)`` over the samples, contracted per module."""
    function, parameters = _of_one_sample(model, partition, inputs)
    jacobians = torch.func.vmap(torch.func.jacrev(function), (None, 0))(parameters, *inputs.values())
    flat = {name: j.flatten(0, 1) for name, j in jacobians.items()}
    return {m.name: gram([_rows(flat, piece) for piece in m.slices]) for m in partition.modules}


def beside_others(device: str, rounds: int) -> None:
    rows = []
    shapes = {
        "BERT-small (4 × 512, 8 heads, S 128), n = 32": lambda: bert(4, 512, 8, 32),
        "BERT (4 × 256, 4 heads, S 64), n = 16": lambda: bert(4, 256, 4, 16, 64),
        "VGG16 at 32×32, n = 64": vgg16,
        "small VGG (16 … 64) at 32×32, n = 16": lambda: small_vgg(10),
    }
    for name, make in shapes.items():
        for label, everything in (("the modules'", False), ("all", True)):
            other = functools.partial(vmap_grad, everything=everything)
            seconds, off = _compare(make, {"other": other, "probe": later_probe}, device, rounds)
            way = f"vmap(grad) of {label} parameters, a Gram matrix per module"
            rows.append([name, way, "probe", ratio(seconds, "other", "probe"), off])
    full = functools.partial(later_probe, estimator="full")
    name = "small VGG with 100 classes, n = 16"
    for label, ours in (("probe", later_probe), ("full", full)):
        runs = {"other": jacobian_contraction, "probe": ours}
        seconds, off = _compare(lambda: small_vgg(100), runs, device, min(rounds, 3))
        rows.append(
            [name, "vmap(jacrev), contracted", label, ratio(seconds, "other", "probe"), off if ours is full else "–"]
        )
    table("Other ways / this one", ["model", "other way", "this one", "other / this", "largest difference"], rows)


def _compare(make, ways, device: str, rounds: int) -> tuple[dict[str, list[float]], str]:
    """Seconds of both ways, and their largest difference relative to the largest entry of a module's kernel."""
    model, inputs, _ = make()
    model.to(device)
    inputs = {k: v.to(device) for k, v in inputs.items()}
    partition = partition_model(model)
    runs = {name: functools.partial(way, model, partition, inputs) for name, way in ways.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = (run() for run in runs.values())
        seconds = side_by_side(runs, rounds)
    if ours[partition.names[0]].shape != theirs[partition.names[0]].shape:
        return seconds, ""
    return seconds, f"{max(float((ours[m] - theirs[m]).abs().max() / ours[m].abs().max()) for m in ours):.0e}"


def small_vgg(classes: int):
    torch.manual_seed(0)
    images = torch.randn(16, 3, 32, 32)
    model = vgg.build(vgg.Settings(), Signature("image_classification", {"x": images[:1]}, classes))
    return model, {"x": images}, torch.randint(classes, (16,))


def growth(device: str, rounds: int) -> None:
    layers = {}
    for depth in (1, 2, 4, 8):
        model, inputs, _ = bert(depth, 256, 4, 16, 64, words=100)
        model.to(device)
        inputs = {k: v.to(device) for k, v in inputs.items()}
        layers[f"{depth}"] = functools.partial(later_probe, model, partition_model(model), inputs)
    seconds = side_by_side(layers, rounds)
    table(
        "BERT (256, 4 heads, S 64), n = 16: time / time of one layer",
        [f"{depth} layers" for depth in layers],
        [[ratio(seconds, depth, "1") for depth in layers]],
    )
    model, inputs, _ = bert(2, 768, 12, 16, 128, words=100)
    model.to(device)
    inputs = {k: v.to(device) for k, v in inputs.items()}
    slices = {
        str(count): functools.partial(later_probe, model, _cut(model, count), inputs, check=0)
        for count in (1, 4, 12, 48)
    }
    seconds = side_by_side(slices, rounds)
    table(
        "BERT (2 × 768, S 128), n = 16, every projection cut into slices: time / time of one slice",
        [f"{count} slices" for count in slices],
        [[ratio(seconds, count, "1") for count in slices]],
    )


def _cut(model: nn.Module, count: int) -> Partition:
    """Every Linear of the encoder cut into ``count`` equal groups of rows."""
    modules = []
    for path, layer in model.bert.encoder.named_modules():
        if isinstance(layer, nn.Linear):
            name, rows = f"bert.encoder.{path}.weight", layer.out_features // count
            modules += [
                Module(f"{path}.{g}", "layer", 0, (Slice(name, 0, g * rows, (g + 1) * rows),)) for g in range(count)
            ]
    return Partition.of(model, modules)


MEMORY_SHAPES = {
    "BERT-small, n = 32, classifier": lambda: bert(4, 512, 8, 32),
    "VGG16 at 32×32, n = 64": vgg16,
    "BERT-base (12 × 768), n = 64, S 128, head of 30,522 words": lambda: bert(12, 768, 12, 64, labels=None),
}


def prepared(name: str):
    """A step or a probe of a shape, ready to run; ``name`` is 'step|probe: shape'."""
    what, _, shape = name.partition(": ")
    model, inputs, labels = MEMORY_SHAPES[shape]()
    if what == "step":
        return functools.partial(step, model, inputs, labels)
    return functools.partial(later_probe, model, partition_model(model), inputs)


def memory(threads: int) -> None:
    rows = []
    for shape in MEMORY_SHAPES:
        found = {what: peak_memory(prepared, f"{what}: {shape}", threads) for what in ("step", "probe")}
        added = {what: after - before for what, (before, after) in found.items()}
        rows.append(
            [shape, *(f"{after / 2**30:.2f}" for _, after in found.values()), f"{added['probe'] / added['step']:.2f}"]
        )
    table(
        "Peak memory of a process (GiB), and what the run added to the model",
        ["model", "step", "probe", "probe / step, added"],
        rows,
    )


def neural_tangents(rounds: int) -> None:
    try:
        from tests.benchmarks.neural_tangents_beside import compare
    except ImportError as error:
        print(f"\nneural-tangents: skipped, {error} (tests/benchmarks/neural_tangents_beside.py says what is needed)")
        return
    compare(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("step", "others", "growth", "memory", "neural-tangents")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(
        f"torch {torch.__version__}, {platform.machine()}, {given.device}, {given.threads} threads; median of "
        f"{given.rounds} rounds [range]"
    )
    if "step" in given.only:
        beside_a_step(given.device, given.rounds)
    if "others" in given.only:
        beside_others(given.device, given.rounds)
    if "growth" in given.only:
        growth(given.device, given.rounds)
    if "memory" in given.only:
        memory(given.threads)
    if "neural-tangents" in given.only:
        neural_tangents(given.rounds)


if __name__ == "__main__":
    main()
