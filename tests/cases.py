"""Small models of every family, with their partitions and a batch, and naive references written by hand."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mat.experiments.models import bert, resnet, switch, vgg, vit
from mat.experiments.task_signature import Signature
from mat.flops.executed import followed_experts, routed_rows
from mat.partition.partition import Module, Partition


@dataclass
class Case:
    """A model in float64 with a partition, inputs and labels; ``family`` is its file in mat.experiments.models."""

    family: object
    settings: object
    model: nn.Module
    partition: Partition
    inputs: dict[str, Tensor]
    labels: Tensor
    outputs: int
    objective: str
    vocabulary: int | None = None

    @property
    def signature(self) -> Signature:
        return Signature(self.objective, self.example, self.outputs, self.vocabulary)

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


def copied(make: Callable[..., Case]) -> Callable[..., Case]:
    """``make`` with each of its cases made once; what is returned is a copy that may be trained."""
    made = functools.cache(make)

    @functools.wraps(make)
    def copy_of(*args, **options) -> Case:
        case = made(*args, **options)
        return replace(case, model=copy.deepcopy(case.model), inputs=dict(case.inputs))

    return copy_of


@copied
def vgg_case(batch: int = 5, groups: int = 2, seed: int = 0, batch_norm: bool = True) -> Case:
    settings = vgg.Settings(plan=(4, "M", 6, 8, "M"), filter_groups=groups, batch_norm=batch_norm)
    return _case(vgg, settings, "image_classification", {"x": torch.randn(batch, 2, 8, 8)}, 3, (batch,), seed)


@copied
def bert_case(
    batch: int = 3, length: int = 6, ffn_groups: int = 2, seed: int = 0, heads: int = 3, head_outputs: bool = True
) -> Case:
    settings = bert.Settings(layers=2, width=12, heads=heads, ffn_groups=ffn_groups, head_outputs=head_outputs)
    return _case(bert, settings, "masked_lm", {"input_ids": torch.zeros(batch, length)}, 11, (batch, length), seed)


@copied
def bert_classification_case(batch: int = 4, length: int = 6, seed: int = 0) -> Case:
    """Pairs of sentences; the first text is full, the others are padded."""
    settings = bert.Settings(layers=2, width=12, heads=3, ffn_groups=2, positions=length + 2)
    place = torch.arange(length)
    lengths = torch.arange(length, length - batch, -1)[:, None]
    inputs = {
        "input_ids": torch.zeros(batch, length),
        "attention_mask": (place < lengths).long(),
        "token_type_ids": (place >= lengths // 2).long(),
    }
    return _case(bert, settings, "text_classification", inputs, 3, (batch,), seed, vocabulary=11)


@copied
def resnet_case(batch: int = 5, groups: int = 2, seed: int = 0) -> Case:
    """Its first block has an identity for a shortcut, the others a convolution; odd sizes are halved."""
    settings = resnet.Settings(blocks=(1, 1, 1, 1), stem="small", width=4, filter_groups=groups)
    return _case(resnet, settings, "image_classification", {"x": torch.randn(batch, 2, 9, 10)}, 3, (batch,), seed)


@copied
def vit_case(batch: int = 4, ffn_groups: int = 2, seed: int = 0, heads: int = 3, head_outputs: bool = True) -> Case:
    """Four patches and the class token."""
    settings = vit.Settings(
        patch=4, layers=2, width=12, heads=heads, mlp=20, ffn_groups=ffn_groups, head_outputs=head_outputs
    )
    return _case(vit, settings, "image_classification", {"x": torch.randn(batch, 2, 8, 8)}, 3, (batch,), seed)


@copied
def switch_case(
    batch: int = 3,
    length: int = 12,
    heads: int = 3,
    capacity: float = 1.0,
    seed: int = 62,
    objective: str = "masked_lm",
    head_outputs: bool = True,
) -> Case:
    """Its experts' capacity is small, so that some tokens are dropped; with these seeds every expert gets some."""
    settings = switch.Settings(layers=2, width=12, heads=heads, experts=3, capacity=capacity, head_outputs=head_outputs)
    shapes = {"input_ids": torch.zeros(batch, length)}
    case = _case(switch, settings, objective, shapes, 11, (batch, length), seed)
    for module in case.model.modules():
        if type(module).__name__ == "SwitchTransformersLayerNorm":
            module.__class__ = RootMeanSquareNorm
    # what a step costs follows from the routing of its batch, which the case knows
    work = partial(switch.work, routed=routed(case))
    return replace(case, family=SimpleNamespace(**{**vars(switch), "work": work}))


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


def moved(module: Module, before: dict[str, Tensor], after: dict[str, Tensor]) -> list[bool]:
    """Of each slice of a module, whether any bit of it changed between two states of a model."""
    return [
        not torch.equal(*(piece.of(state[piece.parameter]) for state in (before, after))) for piece in module.slices
    ]


def per_sample(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each sample over its positions, (n,)."""
    losses = F.cross_entropy(outputs.movedim(-1, 1), labels, reduction="none")
    return losses.reshape(len(labels), -1).mean(1)


def _case(
    family,
    settings,
    objective: str,
    shapes: dict[str, Tensor],
    outputs: int,
    label_shape,
    seed: int,
    vocabulary: int | None = None,
) -> Case:
    """``shapes``: word ids and images are drawn, of these shapes; any other input is as it is given."""
    with torch.random.fork_rng():
        # torch.manual_seed would record a stack trace each time
        torch.default_generator.manual_seed(seed)
        inputs = dict(shapes)
        if "x" in shapes:
            inputs["x"] = torch.randn(shapes["x"].shape).double()
        else:
            inputs["input_ids"] = torch.randint(0, vocabulary or outputs, shapes["input_ids"].shape)
        labels = torch.randint(0, outputs, label_shape)
        signature = Signature(objective, {name: value[:1] for name, value in inputs.items()}, outputs, vocabulary)
        model = family.build(settings, signature).double()
        for parameter in model.parameters():  # no parameter keeps a value at which an error could hide
            nn.init.normal_(parameter, 0.1, 0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    partition = family.partition(settings, model)
    return Case(family, settings, model, partition, inputs, labels, outputs, objective, vocabulary)


CASES = {
    "vgg": vgg_case,
    "vgg_plain": lambda: vgg_case(batch_norm=False),
    "resnet": resnet_case,
    "vit": vit_case,
    "bert": bert_case,
    "bert_classification": bert_classification_case,
    "bert_heads_only": lambda: bert_case(ffn_groups=0),
    "bert_rows_only": lambda: bert_case(ffn_groups=1, head_outputs=False),
    "vit_rows_and_heads_only": lambda: vit_case(ffn_groups=0, head_outputs=False),
    "switch_rows_only": lambda: switch_case(head_outputs=False),
    "switch": switch_case,
    "switch_causal": lambda: switch_case(length=6, seed=27, objective="causal_lm"),
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
            x, depth = filter_groups(case, x, depth, active), depth + 1
    return case.model.classifier(x.mean((2, 3)))


def kept(value: Tensor, active: bool) -> Tensor:
    return value if active else value.detach()


def filter_groups(case: Case, x: Tensor, depth: int, active: set[str]) -> Tensor:
    groups = enumerate(x.chunk(case.settings.filter_groups, dim=1))
    return torch.cat([kept(group, f"conv{depth}.filters{g}" in active) for g, group in groups], 1)


def neuron_groups(settings, x: Tensor, into: nn.Module, out: nn.Module, layer: int, active: set[str]) -> Tensor:
    """What a feed-forward block of the maps ``into`` and ``out`` adds to the stream, group by group."""
    groups = settings.ffn_groups or 1
    total, neurons = out.bias, len(into.bias) // groups
    for g in range(groups):
        r = slice(g * neurons, (g + 1) * neurons)
        value = F.gelu(x @ into.weight[r].T + into.bias[r]) @ out.weight[:, r].T
        name = f"layer{layer}.ffn" + (str(g) if groups > 1 else "")
        total = total + kept(value, name in active or not settings.ffn_groups)
    return total


def projected(settings, mixed: Tensor, outer: Tensor, active: bool) -> Tensor:
    """One head's contribution through its columns ``outer`` of W_O; of an inactive one all is constant, but not the
    columns where they are the remainder's."""
    return kept(mixed @ outer.T, active) if settings.head_outputs else kept(mixed, active) @ outer.T


def detached_bert(case: Case, active: set[str]) -> Tensor:
    """BERT written out head by head and neuron group by neuron group, inactive contributions detached."""
    p = dict(case.model.named_parameters())
    ids, s = case.inputs["input_ids"], case.settings
    length, width = ids.shape[1], s.width // s.heads

    def norm(x: Tensor, path: str) -> Tensor:
        return F.layer_norm(x, (s.width,), p[f"{path}.weight"], p[f"{path}.bias"], 1e-12)

    e = "bert.embeddings"
    types = case.inputs.get("token_type_ids", torch.zeros_like(ids))
    seen = case.inputs.get("attention_mask", torch.ones_like(ids))[:, None].bool()
    x = p[f"{e}.word_embeddings.weight"][ids] + p[f"{e}.token_type_embeddings.weight"][types]
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
            scores = (q @ k.transpose(1, 2) / math.sqrt(width)).masked_fill(~seen, -math.inf)
            mixed = scores.softmax(-1) @ v
            outer = p[f"{at}.attention.output.dense.weight"][:, r]
            out = out + projected(s, mixed, outer, f"layer{i}.head{h}" in active)
        x = norm(x + out, f"{at}.attention.output.LayerNorm")
        layer = case.model.get_submodule(at)
        out = neuron_groups(s, x, layer.intermediate.dense, layer.output.dense, i, active)
        x = norm(x + out, f"{at}.output.LayerNorm")
    if case.objective == "text_classification":
        pooled = torch.tanh(F.linear(x[:, 0], p["bert.pooler.dense.weight"], p["bert.pooler.dense.bias"]))
        return F.linear(pooled, p["classifier.weight"], p["classifier.bias"])
    t = "cls.predictions"
    x = F.gelu(x @ p[f"{t}.transform.dense.weight"].T + p[f"{t}.transform.dense.bias"])
    x = norm(x, f"{t}.transform.LayerNorm")
    return x @ p[f"{e}.word_embeddings.weight"].T + p[f"{t}.bias"]


def detached_switch(case: Case, active: set[str]) -> Tensor:
    """The Switch written out head by head and expert by expert, inactive contributions detached.

    The position bias is the remainder's, but an inactive head's scores are constants, so its entry gets none of
    their gradient. A router's probability is the remainder's too and stays differentiable on a constant.
    """
    p = dict(case.model.named_parameters())
    ids, s = case.inputs["input_ids"], case.settings
    width = s.width // s.heads

    def norm(x: Tensor, path: str) -> Tensor:
        return F.rms_norm(x, (s.width,), p[f"{path}.weight"], 1e-6)

    x = p["stack.embed_tokens.weight"][ids]
    table = p["stack.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    causal = case.objective == "causal_lm"
    bias = table[_buckets(ids.shape[1], causal)]
    if causal:
        later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        bias = bias.masked_fill(later[..., None], -math.inf)
    for i in range(s.layers):
        at, normed = (f"stack.block.{i}.layer", norm(x, f"stack.block.{i}.layer.0.layer_norm"))
        for h in range(s.heads):
            r = slice(h * width, (h + 1) * width)
            q, k, v = (normed @ p[f"{at}.0.SelfAttention.{n}.weight"][r].T for n in "qkv")
            mixed = (q @ k.transpose(1, 2) + bias[..., h]).softmax(-1) @ v
            outer = p[f"{at}.0.SelfAttention.o.weight"][:, r]
            x = x + projected(s, mixed, outer, f"layer{i}.head{h}" in active)
        normed = norm(x, f"{at}.1.layer_norm")
        if i % 2 == 0:
            hidden = F.relu(normed @ p[f"{at}.1.mlp.wi.weight"].T)
            x = x + kept(hidden @ p[f"{at}.1.mlp.wo.weight"].T, f"layer{i}.ffn" in active)
            continue
        most = math.ceil(s.capacity * ids.shape[1] / s.experts)
        probability, choice = (normed @ p[f"{at}.1.mlp.router.classifier.weight"].T).softmax(-1).max(-1)
        for e in range(s.experts):
            chosen = choice == e
            chosen &= chosen.cumsum(1) <= most  # the first ones of each sequence; the others pass by
            expert = f"{at}.1.mlp.experts.expert_{e}"
            out = F.relu(normed @ p[f"{expert}.wi.weight"].T) @ p[f"{expert}.wo.weight"].T
            x = x + chosen[..., None] * probability[..., None] * kept(out, f"layer{i}.expert{e}" in active)
    return norm(x, "stack.final_layer_norm") @ p["head.weight"].T + p["head.bias"]


def _buckets(length: int, causal: bool) -> Tensor:
    """T5's 32 buckets of relative positions for distances under 16: a causal model has one for each; without it, half
    are for either direction, of which the first 8 have one each."""
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    assert length <= 16
    if causal:
        return (-distance).clamp(min=0)
    far = 8 + (torch.log(distance.abs().clamp(min=1) / 8) / math.log(128 / 8) * 8).long()
    return torch.where(distance.abs() < 8, distance.abs(), far) + 16 * (distance > 0)


def detached_resnet(case: Case, active: set[str], residual: bool = False) -> Tensor:
    """The ResNet's training-mode forward with the output channels of inactive filter groups detached; where only what
    is ``residual`` is, those of a block with an identity beside it, of the second convolution if none of the first is
    active."""
    depth = 0

    def conv(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, cut: bool = not residual) -> Tensor:
        nonlocal depth
        x = F.conv2d(x, conv.weight, None, conv.stride, conv.padding)
        x = F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
        depth += 1
        return filter_groups(case, x, depth - 1, active) if cut else x

    model = case.model
    x = F.relu(conv(case.inputs["x"], model.conv1, model.bn1))
    for (block,) in (model.layer1, model.layer2, model.layer3, model.layer4):
        plain = block.downsample is None
        trained = any(f"conv{depth}.filters{g}" in active for g in range(case.settings.filter_groups))
        inner = F.relu(conv(x, block.conv1, block.bn1, plain or not residual))
        out = conv(inner, block.conv2, block.bn2, (plain and not trained) or not residual)
        x = F.relu(out + (x if plain else conv(x, *block.downsample)))
    return F.linear(x.mean((2, 3)), model.fc.weight, model.fc.bias)


def detached_vit(case: Case, active: set[str]) -> Tensor:
    """The ViT written out head by head and neuron group by neuron group, inactive contributions detached."""
    p, s = dict(case.model.named_parameters()), case.settings
    width = s.width // s.heads

    def norm(x: Tensor, path: str) -> Tensor:
        return F.layer_norm(x, (s.width,), p[f"{path}.weight"], p[f"{path}.bias"], 1e-6)

    patches = F.unfold(case.inputs["x"], s.patch, stride=s.patch).transpose(1, 2)
    patches = patches @ p["conv_proj.weight"].flatten(1).T + p["conv_proj.bias"]
    x = torch.cat([p["class_token"].expand(len(patches), 1, s.width), patches], 1) + p["encoder.pos_embedding"]
    for i in range(s.layers):
        at = f"encoder.layers.encoder_layer_{i}"
        normed, out = norm(x, f"{at}.ln_1"), p[f"{at}.self_attention.out_proj.bias"]
        for h in range(s.heads):
            r = slice(h * width, (h + 1) * width)
            q, k, v = (
                normed @ weight[r].T + bias[r]
                for weight, bias in zip(
                    p[f"{at}.self_attention.in_proj_weight"].chunk(3),
                    p[f"{at}.self_attention.in_proj_bias"].chunk(3),
                    strict=True,
                )
            )
            mixed = (q @ k.transpose(1, 2) / math.sqrt(width)).softmax(-1) @ v
            outer = p[f"{at}.self_attention.out_proj.weight"][:, r]
            out = out + projected(s, mixed, outer, f"layer{i}.head{h}" in active)
        x = x + out
        mlp = case.model.get_submodule(f"{at}.mlp")
        x = x + neuron_groups(s, norm(x, f"{at}.ln_2"), mlp[0], mlp[3], i, active)
    return F.linear(norm(x, "encoder.ln")[:, 0], p["heads.head.weight"], p["heads.head.bias"])


def detached_reference(case: Case, active: set[str]) -> Tensor:
    written = {
        bert.Settings: detached_bert,
        resnet.Settings: detached_resnet,
        switch.Settings: detached_switch,
        vgg.Settings: detached_vgg,
        vit.Settings: detached_vit,
    }
    return written[type(case.settings)](case, active)
