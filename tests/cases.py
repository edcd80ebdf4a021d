"""Small models of every family, with their partitions and a batch, and naive references written by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mat.models import bert, vgg
from mat.partition import Partition


@dataclass
class Case:
    """A model in float64 with a partition, inputs and labels; ``family`` is its file in mat.models."""

    family: object
    settings: object
    model: nn.Module
    partition: Partition
    inputs: dict[str, Tensor]
    labels: Tensor
    outputs: int

    @property
    def example(self) -> dict[str, Tensor]:
        return {name: value[:1] for name, value in self.inputs.items()}

    def loss(self, model: nn.Module | None = None) -> Tensor:
        return self.loss_of(logits(model or self.model, self.inputs))

    def loss_of(self, outputs: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, -2), self.labels.flatten())


def logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    output = model(**inputs)
    return output if isinstance(output, Tensor) else output.logits


def vgg_case(batch: int = 5, groups: int = 2, seed: int = 0, batch_norm: bool = True) -> Case:
    settings = vgg.Settings(plan=(4, "M", 6, 8, "M"), filter_groups=groups, batch_norm=batch_norm)
    return _case(vgg, settings, {"x": torch.randn(batch, 2, 8, 8)}, 3, (batch,), seed)


def bert_case(batch: int = 3, length: int = 6, ffn_groups: int = 2, seed: int = 0, heads: int = 3) -> Case:
    settings = bert.Settings(layers=2, width=12, heads=heads, ffn_groups=ffn_groups)
    return _case(bert, settings, {"input_ids": torch.zeros(batch, length)}, 11, (batch, length), seed)


def _case(family, settings, shapes: dict[str, Tensor], outputs: int, label_shape, seed: int) -> Case:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inputs = {
            name: torch.randint(0, outputs, like.shape)
            if name == "input_ids"
            else torch.randn(like.shape).double()
            for name, like in shapes.items()
        }
        labels = torch.randint(0, outputs, label_shape)
        model = family.build(settings, {name: value[:1] for name, value in inputs.items()}, outputs).double()
        for parameter in model.parameters():  # no parameter keeps a value at which an error could hide
            nn.init.normal_(parameter, 0.1, 0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return Case(family, settings, model, family.partition(settings, model), inputs, labels, outputs)


CASES = {"vgg": vgg_case, "vgg_plain": lambda: vgg_case(batch_norm=False), "bert": bert_case}


def detached_vgg(case: Case, active: set[str]) -> Tensor:
    """The VGG's training-mode forward with the output channels of inactive filter groups detached."""
    x, depth = case.inputs["x"], 0
    layers = list(case.model.features)
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.ReLU):
            x = F.relu(x)
        elif isinstance(layer, nn.BatchNorm2d):
            x = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)
        else:
            x = layer(x)
        normed = isinstance(following, nn.BatchNorm2d)
        if isinstance(layer, nn.BatchNorm2d) or (isinstance(layer, nn.Conv2d) and not normed):
            groups = x.chunk(case.settings.filter_groups, dim=1)
            names = [f"conv{depth}.filters{g}" for g in range(len(groups))]
            x = torch.cat(
                [g if name in active else g.detach() for g, name in zip(groups, names, strict=True)], 1
            )
            depth += 1
    return case.model.classifier(x.mean((2, 3)))


def detached_bert(case: Case, active: set[str]) -> Tensor:
    """BERT written out head by head and neuron group by neuron group, inactive contributions detached."""
    p = dict(case.model.named_parameters())
    ids, s = case.inputs["input_ids"], case.settings
    length, width = ids.shape[1], s.width // s.heads

    def norm(x: Tensor, path: str) -> Tensor:
        return F.layer_norm(x, (s.width,), p[f"{path}.weight"], p[f"{path}.bias"], 1e-12)

    def kept(value: Tensor, name: str) -> Tensor:
        return value if name in active else value.detach()

    e = "bert.embeddings"
    x = p[f"{e}.word_embeddings.weight"][ids] + p[f"{e}.token_type_embeddings.weight"][0]
    x = norm(x + p[f"{e}.position_embeddings.weight"][:length], f"{e}.LayerNorm")
    for i in range(s.layers):
        at = f"bert.encoder.layer.{i}"
        out = p[f"{at}.attention.output.dense.bias"]
        for h in range(s.heads):
            r = slice(h * width, (h + 1) * width)
            q, k, v = (
                x @ p[f"{at}.attention.self.{n}.weight"][r].T + p[f"{at}.attention.self.{n}.bias"][r]
                for n in ("query", "key", "value")
            )
            mixed = (q @ k.transpose(1, 2) / math.sqrt(width)).softmax(-1) @ v
            out = out + kept(mixed @ p[f"{at}.attention.output.dense.weight"][:, r].T, f"layer{i}.head{h}")
        x = norm(x + out, f"{at}.attention.output.LayerNorm")
        out, neurons = p[f"{at}.output.dense.bias"], 4 * s.width // s.ffn_groups
        for g in range(s.ffn_groups):
            r = slice(g * neurons, (g + 1) * neurons)
            hidden = F.gelu(
                x @ p[f"{at}.intermediate.dense.weight"][r].T + p[f"{at}.intermediate.dense.bias"][r]
            )
            name = f"layer{i}.ffn" + (str(g) if s.ffn_groups > 1 else "")
            out = out + kept(hidden @ p[f"{at}.output.dense.weight"][:, r].T, name)
        x = norm(x + out, f"{at}.output.LayerNorm")
    t = "cls.predictions"
    x = F.gelu(x @ p[f"{t}.transform.dense.weight"].T + p[f"{t}.transform.dense.bias"])
    x = norm(x, f"{t}.transform.LayerNorm")
    return x @ p[f"{e}.word_embeddings.weight"].T + p[f"{t}.bias"]


def detached_reference(case: Case, active: set[str]) -> Tensor:
    return detached_bert(case, active) if case.family is bert else detached_vgg(case, active)
