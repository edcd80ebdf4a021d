"""Small models of every family, with their partitions and a batch, and naive references written by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mat.flops import followed_experts, routed_rows
from mat.form import Form
from mat.models import bert, switch, vgg
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
    objective: str

    @property
    def form(self) -> Form:
        return Form(self.objective, self.example, self.outputs)

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
    return _case(vgg, settings, "image_classification", {"x": torch.randn(batch, 2, 8, 8)}, 3, (batch,), seed)


def bert_case(batch: int = 3, length: int = 6, ffn_groups: int = 2, seed: int = 0, heads: int = 3) -> Case:
    settings = bert.Settings(layers=2, width=12, heads=heads, ffn_groups=ffn_groups)
    return _case(
        bert, settings, "masked_lm", {"input_ids": torch.zeros(batch, length)}, 11, (batch, length), seed
    )


def switch_case(
    batch: int = 3, length: int = 12, heads: int = 3, capacity: float = 1.0, seed: int = 0
) -> Case:
    """Its experts' capacity is small, so that some tokens are dropped."""
    settings = switch.Settings(layers=2, width=12, heads=heads, experts=3, capacity=capacity)
    shapes = {"input_ids": torch.zeros(batch, length)}
    case = _case(switch, settings, "masked_lm", shapes, 11, (batch, length), seed)
    for module in case.model.modules():
        if type(module).__name__ == "SwitchTransformersLayerNorm":
            module.__class__ = RootMeanSquareNorm
    # what a step costs follows from the routing of its batch, which the case knows
    formula = partial(switch.closed_form, routed=routed(case))
    return replace(case, family=SimpleNamespace(**{**vars(switch), "closed_form": formula}))


class RootMeanSquareNorm(nn.Module):
    """T5's norm in the precision of its input; transformers' takes the variance in float32 even of doubles, which
    no comparison to ten digits survives."""

    def forward(self, x: Tensor) -> Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))


def routed(case: Case) -> dict[str, int]:
    """Tokens that each expert of a Switch is given for the case's batch."""
    experts = followed_experts(case.model, case.partition)
    with routed_rows(case.model, experts) as rows, torch.no_grad():
        case.model(**case.inputs)
    return {name: rows[name] for name in experts}


def _case(
    family, settings, objective: str, shapes: dict[str, Tensor], outputs: int, label_shape, seed: int
) -> Case:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inputs = {
            name: torch.randint(0, outputs, like.shape)
            if name == "input_ids"
            else torch.randn(like.shape).double()
            for name, like in shapes.items()
        }
        labels = torch.randint(0, outputs, label_shape)
        form = Form(objective, {name: value[:1] for name, value in inputs.items()}, outputs)
        model = family.build(settings, form).double()
        for parameter in model.parameters():  # no parameter keeps a value at which an error could hide
            nn.init.normal_(parameter, 0.1, 0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    partition = family.partition(settings, model)
    return Case(family, settings, model, partition, inputs, labels, outputs, objective)


CASES = {
    "vgg": vgg_case,
    "vgg_plain": lambda: vgg_case(batch_norm=False),
    "bert": bert_case,
    "switch": switch_case,
}


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


def detached_switch(case: Case, active: set[str]) -> Tensor:
    """The Switch encoder written out head by head and expert by expert, inactive contributions detached.

    The position bias is the remainder's, but an inactive head's scores are constants, so its entry gets none of
    their gradient. A router's probability is the remainder's too and stays differentiable on a constant.
    """
    p = dict(case.model.named_parameters())
    ids, s = case.inputs["input_ids"], case.settings
    width = s.width // s.heads

    def norm(x: Tensor, path: str) -> Tensor:
        return F.rms_norm(x, (s.width,), p[f"{path}.weight"], 1e-6)

    def kept(value: Tensor, name: str) -> Tensor:
        return value if name in active else value.detach()

    x = p["encoder.shared.weight"][ids]
    table = p["encoder.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    bias = table[_buckets(ids.shape[1])]
    for i in range(s.layers):
        at, normed = (
            f"encoder.encoder.block.{i}.layer",
            norm(x, f"encoder.encoder.block.{i}.layer.0.layer_norm"),
        )
        for h in range(s.heads):
            r = slice(h * width, (h + 1) * width)
            q, k, v = (normed @ p[f"{at}.0.SelfAttention.{n}.weight"][r].T for n in "qkv")
            mixed = (q @ k.transpose(1, 2) + bias[..., h]).softmax(-1) @ v
            x = x + kept(mixed @ p[f"{at}.0.SelfAttention.o.weight"][:, r].T, f"layer{i}.head{h}")
        normed = norm(x, f"{at}.1.layer_norm")
        if i % 2 == 0:
            hidden = F.relu(normed @ p[f"{at}.1.mlp.wi.weight"].T)
            x = x + kept(hidden @ p[f"{at}.1.mlp.wo.weight"].T, f"layer{i}.ffn")
            continue
        most = math.ceil(s.capacity * ids.shape[1] / s.experts)
        probability, choice = (normed @ p[f"{at}.1.mlp.router.classifier.weight"].T).softmax(-1).max(-1)
        for e in range(s.experts):
            chosen = choice == e
            chosen &= chosen.cumsum(1) <= most  # the first ones of each sequence; the others pass by
            expert = f"{at}.1.mlp.experts.expert_{e}"
            out = F.relu(normed @ p[f"{expert}.wi.weight"].T) @ p[f"{expert}.wo.weight"].T
            x = x + chosen[..., None] * probability[..., None] * kept(out, f"layer{i}.expert{e}")
    return norm(x, "encoder.encoder.final_layer_norm") @ p["head.weight"].T + p["head.bias"]


def _buckets(length: int) -> Tensor:
    """T5's 32 buckets of relative positions for distances under 16, of which the first 8 have one each."""
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    assert length <= 16
    far = 8 + (torch.log(distance.abs().clamp(min=1) / 8) / math.log(128 / 8) * 8).long()
    return torch.where(distance.abs() < 8, distance.abs(), far) + 16 * (distance > 0)


def detached_reference(case: Case, active: set[str]) -> Tensor:
    written = {bert.Settings: detached_bert, switch.Settings: detached_switch, vgg.Settings: detached_vgg}
    return written[type(case.settings)](case, active)
