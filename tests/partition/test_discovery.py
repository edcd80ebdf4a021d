"""What a module owns in every family: slices written by hand, and permutations that only right ones survive."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
import torchvision
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
from torchvision.models.vgg import VGG, make_layers

from mat.errors import InputError
from mat.partition.convolutions import normalised_by
from mat.partition.discovery import partition_model, unrecognised
from mat.partition.partition import Attention
from tests.partition.test_partition import assert_disjoint_and_complete

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
IDS = torch.tensor([[3, 7, 1, 9, 4], [5, 2, 8, 6, 11]])
TEXT = {"input_ids": IDS}
PAIR = {"input_ids": IDS, "decoder_input_ids": IDS.flip(1)[:, :4]}
BERT = {
    "vocab_size": 20,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
T5 = {"vocab_size": 20, "d_model": 10, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 3}
LLAMA = {
    "vocab_size": 20,
    "hidden_size": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 20,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 20,
    "n_positions": 16,
    "n_embd": 12,
    "n_head": 3,
    "n_layer": 2,
    "n_inner": 20,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
BOTH = ("weight", "bias")


def rows(path: str, start: int, stop: int, parts: tuple[str, ...] = BOTH) -> list[tuple]:
    return [(f"{path}.{part}", 0, start, stop) for part in parts]


def columns(path: str, start: int, stop: int) -> list[tuple]:
    return [(f"{path}.weight", 1, start, stop)]


@dataclass
class Family:
    """A tiny model with inputs, its module names, and slices of some modules written by hand.

    ``swaps``: pairs of modules whose exchange leaves the output as it is. ``tables``: further entries that go
    with the head or expert of that number, as (parameter, dimension); ``same``: per-head tables shared by all
    layers, which are made equal over the heads instead. ``output``: the output projection of ``masked``.
    """

    build: Callable[[], nn.Module]
    inputs: dict
    count: int
    owns: dict[str, list[tuple]]
    swaps: list[tuple[str, str]]
    groups: int = 2
    tables: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    same: tuple[str, ...] = ()
    masked: tuple[str, str] | None = None
    missed: tuple[str, ...] = ()


def encoder(prefix: str) -> dict[str, list[tuple]]:
    """BERT's names, head 1 of 3 (width 4) in layer 0 and neurons 10:20 of 20 in layer 1."""
    at, up = f"{prefix}.encoder.layer.0.attention", f"{prefix}.encoder.layer.1"
    return {
        "layer0.head1": [r for n in ("query", "key", "value") for r in rows(f"{at}.self.{n}", 4, 8)]
        + columns(f"{at}.output.dense", 4, 8),
        "layer1.ffn1": rows(f"{up}.intermediate.dense", 10, 20) + columns(f"{up}.output.dense", 10, 20),
    }


def decoder_only(prefix: str, bias: bool = False) -> dict[str, list[tuple]]:
    """LLaMA's names, key/value group 1 of 2 in layer 0: 2 query heads and 1 key/value head of width 4."""
    at, up = f"{prefix}.layers.0.self_attn", f"{prefix}.layers.1.mlp"
    parts = BOTH if bias else ("weight",)
    return {
        "layer0.head1": rows(f"{at}.q_proj", 8, 16, parts)
        + rows(f"{at}.k_proj", 4, 8, parts)
        + rows(f"{at}.v_proj", 4, 8, parts)
        + columns(f"{at}.o_proj", 8, 16),
        "layer1.ffn1": rows(f"{up}.gate_proj", 10, 20, ("weight",))
        + rows(f"{up}.up_proj", 10, 20, ("weight",))
        + columns(f"{up}.down_proj", 10, 20),
    }


def t5_head(at: str, head: int) -> list[tuple]:
    run = (4 * head, 4 * head + 4)
    return [r for n in "qkv" for r in rows(f"{at}.{n}", *run, ("weight",))] + columns(f"{at}.o", *run)


def t5_ffn(at: str, start: int, stop: int, ups: tuple[str, ...] = ("wi",)) -> list[tuple]:
    return [r for n in ups for r in rows(f"{at}.{n}", start, stop, ("weight",))] + columns(
        f"{at}.wo", start, stop
    )


def switch() -> nn.Module:
    """Its second encoder and decoder layers have three experts; the router computes in double precision."""
    config = hf.SwitchTransformersConfig(
        **T5, num_decoder_layers=2, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_experts=3
    )
    model = hf.SwitchTransformersForConditionalGeneration(config)
    for part in model.modules():
        if hasattr(part, "jitter_noise"):
            part.dtype = torch.float64
    return model


def swin(**versions) -> SwinTransformer:
    return SwinTransformer(
        [2, 2], 8, [2, 1], [2, 4], [2, 2], stochastic_depth_prob=0.0, num_classes=3, **versions
    )


def swin_owns() -> dict[str, list[tuple]]:
    at = "features.3.0"  # the second stage: width 16, 4 heads, 64 neurons
    fused = [r for offset in (0, 16, 32) for r in rows(f"{at}.attn.qkv", offset + 4, offset + 8)]
    return {
        "layer2.head1": fused + columns(f"{at}.attn.proj", 4, 8),
        "layer2.ffn1": rows(f"{at}.mlp.0", 32, 64) + columns(f"{at}.mlp.3", 32, 64),
    }


class Wrapper(nn.Module):
    """A user's own model around a BertModel, with an output head that has the shapes of an FFN."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_encoder = hf.BertModel(hf.BertConfig(**BERT))
        self.head = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 12))

    def forward(self, input_ids):
        return self.head(self.cross_encoder(input_ids).last_hidden_state)


HEADS_AND_FFNS = [
    ("layer0.head0", "layer0.head2"),
    ("layer1.head0", "layer1.head1"),
    ("layer0.ffn0", "layer0.ffn1"),
]
GROUPED = [("layer0.head0", "layer0.head1"), ("layer1.head0", "layer1.head1"), ("layer1.ffn0", "layer1.ffn1")]
T5_SWAPS = [
    ("encoder0.head0", "encoder0.head2"),
    ("decoder1.head0", "decoder1.head1"),
    ("decoder0.cross.head1", "decoder0.cross.head2"),
    ("encoder1.ffn0", "encoder1.ffn1"),
    ("decoder0.ffn0", "decoder0.ffn1"),
]
T5_BIASES = tuple(
    f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    for stack in ("encoder", "decoder")
)
T5_MASKED = ("decoder0.cross.head1", "decoder.block.0.layer.1.EncDecAttention.o")
SWIN_SWAPS = [
    ("layer2.head0", "layer2.head3"),
    ("layer0.head0", "layer0.head1"),
    ("layer1.ffn0", "layer1.ffn1"),
]

FAMILIES = {
    "bert": Family(
        lambda: hf.BertForMaskedLM(hf.BertConfig(**BERT)),
        TEXT,
        10,
        encoder("bert"),
        HEADS_AND_FFNS,
        masked=("layer0.head1", "bert.encoder.layer.0.attention.output.dense"),
    ),
    "bert_alone": Family(
        lambda: hf.BertModel(hf.BertConfig(**BERT)),
        TEXT,
        10,
        {k: [(p.removeprefix("x."), *s) for p, *s in v] for k, v in encoder("x").items()},
        HEADS_AND_FFNS,
    ),
    "bert_wrapped": Family(Wrapper, TEXT, 10, encoder("cross_encoder"), HEADS_AND_FFNS),
    "roberta": Family(
        lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**BERT)),
        TEXT,
        10,
        encoder("roberta"),
        HEADS_AND_FFNS,
    ),
    "electra": Family(
        lambda: hf.ElectraForPreTraining(hf.ElectraConfig(embedding_size=6, **BERT)),
        TEXT,
        10,
        encoder("electra"),
        HEADS_AND_FFNS,
    ),
    "distilbert": Family(
        lambda: hf.DistilBertForMaskedLM(
            hf.DistilBertConfig(vocab_size=20, dim=12, n_heads=3, n_layers=2, hidden_dim=20)
        ),
        TEXT,
        10,
        {
            "layer0.head1": [
                r for n in "qkv" for r in rows(f"distilbert.transformer.layer.0.attention.{n}_lin", 4, 8)
            ]
            + columns("distilbert.transformer.layer.0.attention.out_lin", 4, 8),
            "layer1.ffn0": rows("distilbert.transformer.layer.1.ffn.lin1", 0, 10)
            + columns("distilbert.transformer.layer.1.ffn.lin2", 0, 10),
        },
        HEADS_AND_FFNS,
        masked=("layer0.head1", "distilbert.transformer.layer.0.attention.out_lin"),
    ),
    "gpt2": Family(
        lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2)),
        TEXT,
        10,
        {
            "layer0.head1": [
                piece
                for offset in (0, 12, 24)
                for piece in (
                    ("transformer.h.0.attn.c_attn.weight", 1, offset + 4, offset + 8),
                    ("transformer.h.0.attn.c_attn.bias", 0, offset + 4, offset + 8),
                )
            ]
            + [("transformer.h.0.attn.c_proj.weight", 0, 4, 8)],
            "layer1.ffn1": [
                ("transformer.h.1.mlp.c_fc.weight", 1, 10, 20),
                ("transformer.h.1.mlp.c_fc.bias", 0, 10, 20),
                ("transformer.h.1.mlp.c_proj.weight", 0, 10, 20),
            ],
        },
        HEADS_AND_FFNS,
        masked=("layer0.head1", "transformer.h.0.attn.c_proj"),
    ),
    "gpt2_cross": Family(
        lambda: hf.GPT2LMHeadModel(hf.GPT2Config(add_cross_attention=True, **GPT2)),
        {**TEXT, "encoder_hidden_states": torch.linspace(-1, 1, 72, dtype=torch.float64).reshape(2, 3, 12)},
        16,
        {
            "layer1.cross.head2": [
                ("transformer.h.1.crossattention.q_attn.weight", 1, 8, 12),
                ("transformer.h.1.crossattention.q_attn.bias", 0, 8, 12),
                ("transformer.h.1.crossattention.c_attn.weight", 1, 8, 12),
                ("transformer.h.1.crossattention.c_attn.bias", 0, 8, 12),
                ("transformer.h.1.crossattention.c_attn.weight", 1, 20, 24),
                ("transformer.h.1.crossattention.c_attn.bias", 0, 20, 24),
                ("transformer.h.1.crossattention.c_proj.weight", 0, 8, 12),
            ]
        },
        [("layer0.cross.head0", "layer0.cross.head1"), ("layer1.head0", "layer1.head2")],
        masked=("layer1.cross.head2", "transformer.h.1.crossattention.c_proj"),
    ),
    "t5": Family(
        lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)),
        PAIR,
        26,
        {
            "encoder1.head2": t5_head("encoder.block.1.layer.0.SelfAttention", 2),
            "decoder1.head0": t5_head("decoder.block.1.layer.0.SelfAttention", 0),
            "decoder0.cross.head1": t5_head("decoder.block.0.layer.1.EncDecAttention", 1),
            "encoder0.ffn1": t5_ffn("encoder.block.0.layer.1.DenseReluDense", 6, 12),
            "decoder0.ffn0": t5_ffn("decoder.block.0.layer.2.DenseReluDense", 0, 6),
        },
        T5_SWAPS,
        same=T5_BIASES,
        masked=T5_MASKED,
    ),
    "t5_gated_square": Family(  # as many neurons as channels: only names tell the maps apart
        lambda: hf.T5ForConditionalGeneration(
            hf.T5Config(**{**T5, "d_ff": 10}, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
        ),
        PAIR,
        26,
        {"decoder1.ffn1": t5_ffn("decoder.block.1.layer.2.DenseReluDense", 5, 10, ("wi_0", "wi_1"))},
        T5_SWAPS,
        same=T5_BIASES,
        masked=T5_MASKED,
    ),
    "switch": Family(
        switch,
        PAIR,
        28,
        {
            "encoder0.head1": t5_head("encoder.block.0.layer.0.SelfAttention", 1),
            "decoder1.cross.head2": t5_head("decoder.block.1.layer.1.EncDecAttention", 2),
            "encoder0.ffn1": t5_ffn("encoder.block.0.layer.1.mlp", 6, 12),
            "encoder1.expert2": [
                ("encoder.block.1.layer.1.mlp.experts.expert_2.wi.weight", 0, 0, 12),
                ("encoder.block.1.layer.1.mlp.experts.expert_2.wo.weight", 0, 0, 10),
            ],
        },
        [
            ("encoder1.head0", "encoder1.head2"),
            ("decoder0.cross.head1", "decoder0.cross.head2"),
            ("decoder0.ffn0", "decoder0.ffn1"),
            ("encoder1.expert0", "encoder1.expert2"),
            ("decoder1.expert1", "decoder1.expert2"),
        ],
        tables={
            f"{s}1.expert": [(f"{s}.block.1.layer.{i}.mlp.router.classifier.weight", 0)]
            for s, i in (("encoder", 1), ("decoder", 2))
        },
        same=T5_BIASES,
        masked=T5_MASKED,
    ),
    "vit_hf": Family(
        lambda: hf.ViTForImageClassification(
            hf.ViTConfig(
                hidden_size=12,
                num_attention_heads=3,
                num_hidden_layers=2,
                intermediate_size=20,
                image_size=8,
                patch_size=4,
            )
        ),
        {"pixel_values": torch.linspace(-1, 1, 384, dtype=torch.float64).reshape(2, 3, 8, 8).sin()},
        10,
        {
            "layer0.head1": [r for n in "qkv" for r in rows(f"vit.layers.0.attention.{n}_proj", 4, 8)]
            + columns("vit.layers.0.attention.o_proj", 4, 8),
            "layer1.ffn1": rows("vit.layers.1.mlp.fc1", 10, 20) + columns("vit.layers.1.mlp.fc2", 10, 20),
        },
        HEADS_AND_FFNS,
        masked=("layer0.head1", "vit.layers.0.attention.o_proj"),
    ),
    "vit_torchvision": Family(
        lambda: torchvision.models.VisionTransformer(8, 4, 2, 3, 12, 20, num_classes=5),
        {"x": torch.linspace(-9, 9, 384, dtype=torch.float64).reshape(2, 3, 8, 8).sin()},
        10,
        {
            "layer0.head1": [
                (f"encoder.layers.encoder_layer_0.self_attention.in_proj_{part}", 0, offset + 4, offset + 8)
                for offset in (0, 12, 24)
                for part in BOTH
            ]
            + columns("encoder.layers.encoder_layer_0.self_attention.out_proj", 4, 8),
            "layer1.ffn1": rows("encoder.layers.encoder_layer_1.mlp.0", 10, 20)
            + columns("encoder.layers.encoder_layer_1.mlp.3", 10, 20),
        },
        HEADS_AND_FFNS,
    ),
    "swin": Family(
        swin,
        {"x": torch.linspace(-9, 9, 384, dtype=torch.float64).reshape(2, 3, 8, 8).sin()},
        2 * (2 + 2) + 4 + 2,
        swin_owns(),
        SWIN_SWAPS,
        tables={
            f"layer{d}.head": [(f"{path}.attn.relative_position_bias_table", 1)]
            for d, path in ((0, "features.1.0"), (2, "features.3.0"))
        },
        missed=("features.2.reduction.weight",),
    ),
    "swin_v2": Family(
        lambda: swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2),
        {"x": torch.linspace(-9, 9, 384, dtype=torch.float64).reshape(2, 3, 8, 8).sin()},
        2 * (2 + 2) + 4 + 2,
        swin_owns(),
        SWIN_SWAPS,
        tables={
            f"layer{d}.head": [(f"{path}.attn.logit_scale", 0), (f"{path}.attn.cpb_mlp.2.weight", 0)]
            for d, path in ((0, "features.1.0"), (2, "features.3.0"))
        },
        missed=("features.2.reduction.weight",),
    ),
    "llama": Family(
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA)),
        TEXT,
        8,
        decoder_only("model"),
        GROUPED,
        masked=("layer0.head1", "model.layers.0.self_attn.o_proj"),
    ),
    "mistral": Family(
        lambda: hf.MistralForCausalLM(hf.MistralConfig(**LLAMA)), TEXT, 8, decoder_only("model"), GROUPED
    ),
    "qwen2": Family(
        lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**{**LLAMA, "hidden_size": 16})),
        TEXT,
        8,
        decoder_only("model", bias=True),
        GROUPED,
    ),
    "mixtral": Family(
        lambda: hf.MixtralForCausalLM(
            hf.MixtralConfig(
                **LLAMA, num_local_experts=3, num_experts_per_tok=2, experts_implementation="eager"
            )
        ),
        TEXT,
        10,
        {
            "layer0.head1": decoder_only("model")["layer0.head1"],
            "layer1.expert2": [
                (f"model.layers.1.mlp.experts.{name}", 0, 2, 3) for name in ("gate_up_proj", "down_proj")
            ],
        },
        [("layer0.head0", "layer0.head1"), ("layer0.expert0", "layer0.expert2")],
        tables={"layer0.expert": [("model.layers.0.mlp.gate.weight", 0)]},
    ),
}


def built(family: Family) -> nn.Module:
    """The family's model in float64; no parameter keeps a value at which an error could hide."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = family.build().double().eval()
        for name, parameter in model.named_parameters():
            nn.init.normal_(parameter, 0.1, 0.3)
            if name in family.same:
                parameter.data[:] = parameter.data[:, :1]
    return model


def quietly(model: nn.Module, **choices):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return partition_model(model, **choices)


def output(model: nn.Module, inputs: dict) -> torch.Tensor:
    with torch.no_grad():
        out = model(**inputs)
    if isinstance(out, torch.Tensor):
        return out
    return out.logits if "logits" in out else out.last_hidden_state


def module(partition, name: str):
    return next(m for m in partition.modules if m.name == name)


def slices(partition, name: str) -> set[tuple]:
    return {(s.parameter, s.dim, s.start, s.stop) for s in module(partition, name).slices}


def exchange(model: nn.Module, one, other, leave_out: int | None = None) -> None:
    """Exchange the values of two modules, slice by slice."""
    for i, (a, b) in enumerate(zip(one.slices, other.slices, strict=True)):
        if i != leave_out:
            x, y = a.of(model.get_parameter(a.parameter).data), b.of(model.get_parameter(b.parameter).data)
            kept = x.clone()
            x.copy_(y)
            y.copy_(kept)


def exchange_entries(tensor: torch.Tensor, dim: int, a, b) -> None:
    order = torch.arange(tensor.shape[dim])
    order[a], order[b] = order[b].clone(), order[a].clone()
    tensor.copy_(tensor.index_select(dim, order))


def split_name(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_partition_is_complete_and_owns_what_is_written_here(name):
    family = FAMILIES[name]
    model = built(family)
    partition = quietly(model, ffn_groups=family.groups)
    assert_disjoint_and_complete(model, partition)
    sizes = sum(row["parameters"] for row in partition.table()) + partition.size(partition.remainder)
    assert sizes == sum(p.numel() for p in model.parameters())
    assert len(partition.modules) == family.count
    for module_name, expected in family.owns.items():
        assert slices(partition, module_name) == set(expected), module_name
    assert unrecognised(model, partition) == list(family.missed)
    heads = [module.name for module in partition.modules if module.kind == "head"]
    assert [name for attention in partition.attentions for name in attention.heads] == heads


@pytest.mark.parametrize("name", FAMILIES)
def test_two_units_of_a_kind_can_change_places(name):
    """Exchanging all that two heads (FFN groups, experts) own leaves the output; leaving one slice out does not."""
    family = FAMILIES[name]
    model = built(family)
    partition = quietly(model, ffn_groups=family.groups)
    before = output(model, family.inputs)
    for one, other in family.swaps:
        a, b = module(partition, one), module(partition, other)
        changed = copy.deepcopy(model)
        exchange(changed, a, b)
        (stem, i), (_, j) = split_name(one), split_name(other)
        for parameter, dim in family.tables.get(stem, []):
            exchange_entries(changed.get_parameter(parameter).data, dim, i, j)
        torch.testing.assert_close(
            output(changed, family.inputs), before, **TOLERANCE, msg=lambda m, o=one: f"{o}: {m}"
        )
        for left_out, piece in enumerate(a.slices):
            if "bias" in piece.parameter:
                continue  # a key's bias has no effect: the softmax does not see what all keys share
            broken = copy.deepcopy(changed)
            exchange(broken, a, b)
            exchange(broken, a, b, leave_out=left_out)
            assert not torch.allclose(output(broken, family.inputs), before, **TOLERANCE), (one, piece)


def maskable():
    for name, family in FAMILIES.items():
        if family.masked:
            yield name, *family.masked
        for unit, owned in family.owns.items():
            if "ffn" in unit:
                yield name, unit, owned[-1][0].removesuffix(".weight")


@pytest.mark.parametrize(("name", "unit", "path"), list(maskable()))
def test_zeroing_a_head_or_neurons_is_masking_what_they_put_out(name, unit, path):
    """``path`` is the map behind them: W_O, or the FFN's way out. All activations here send 0 to 0."""
    family = FAMILIES[name]
    model = built(family)
    owned = module(quietly(model, ffn_groups=family.groups), unit).slices
    piece = next(s for s in owned if s.parameter == f"{path}.weight")

    def mask(_, args):
        return (args[0].index_fill(-1, torch.arange(piece.start, piece.stop), 0.0), *args[1:])

    plain = output(model, family.inputs)
    handle = model.get_submodule(path).register_forward_pre_hook(mask)
    wanted = output(model, family.inputs)
    handle.remove()
    for s in owned:
        s.of(model.get_parameter(s.parameter).data).zero_()
    torch.testing.assert_close(output(model, family.inputs), wanted, **TOLERANCE)
    assert not torch.allclose(wanted, plain)


def resnet(block=BasicBlock) -> ResNet:
    class Narrow(ResNet):
        """ResNet at an eighth of its width, otherwise torchvision's own code."""

        def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
            self.inplanes = 8 if planes == 64 else self.inplanes
            return super()._make_layer(block, planes // 8, blocks, stride, dilate)

    model = Narrow(block, [2, 1, 1, 1], num_classes=3)
    model.conv1, model.bn1 = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
    model.fc = nn.Linear(64 * block.expansion, 3)
    return model


def densenet() -> DenseNet:
    return DenseNet(4, (2, 2, 1), 8, bn_size=2, num_classes=3)


def narrow_vgg() -> VGG:
    features = make_layers([8, "M", 8, 12, "M"], batch_norm=True)
    with torch.device("meta"):
        model = VGG(features.cpu(), num_classes=2, init_weights=False)
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    return model


IMAGES = {"x": torch.linspace(-20, 20, 2 * 3 * 16 * 16, dtype=torch.float64).reshape(2, 3, 16, 16).sin()}


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_every_resnet_convolution_has_the_norm_of_its_own_output(block):
    model = resnet(block)
    last = "3" if block is Bottleneck else "2"
    norms = {conv: norm for conv, (norm, _) in normalised_by(model).items()}
    expected = {"conv1": "bn1"}
    for path, m in model.named_modules():
        if isinstance(m, nn.Conv2d) and path != "conv1":
            expected[path] = path.replace("conv", "bn") if "conv" in path else path[:-1] + "1"
    assert norms == expected
    assert norms["layer2.0.downsample.0"] == "layer2.0.downsample.1"
    assert norms[f"layer2.0.conv{last}"] == f"layer2.0.bn{last}"


def test_densenet_norms_ahead_of_a_convolution_belong_to_none():
    partition = partition_model(densenet(), filter_groups=2)
    norms = {conv: norm for conv, (norm, _) in normalised_by(densenet()).items()}
    blocks = [f"features.denseblock{b}.denselayer{i}" for b, i in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1))]
    assert norms == {"features.conv0": "features.norm0"} | {f"{p}.conv1": f"{p}.norm2" for p in blocks}
    order = [path for path, m in densenet().named_modules() if isinstance(m, nn.Conv2d)]
    where = {path: f"conv{d}.filters1" for d, path in enumerate(order)}
    layer = "features.denseblock1.denselayer2"
    assert slices(partition, where[f"{layer}.conv2"]) == {(f"{layer}.conv2.weight", 0, 2, 4)}
    assert slices(partition, where["features.transition1.conv"]) == {
        ("features.transition1.conv.weight", 0, 4, 8)
    }
    assert slices(partition, where[f"{layer}.conv1"]) == {
        (f"{layer}.conv1.weight", 0, 4, 8),
        (f"{layer}.norm2.weight", 0, 4, 8),
        (f"{layer}.norm2.bias", 0, 4, 8),
    }


@pytest.mark.parametrize(
    ("build", "conv", "norm", "consumer"),
    [
        (resnet, "layer2.0.conv1", "layer2.0.bn1", "layer2.0.conv2"),
        (
            densenet,
            *(f"features.denseblock2.denselayer1.{name}" for name in ("conv1", "norm2", "conv2")),
        ),
        (narrow_vgg, "features.4", "features.5", "features.7"),
    ],
)
def test_filter_groups_can_change_places_with_what_reads_them(build, conv, norm, consumer):
    family = Family(build, IMAGES, 0, {}, [])
    model = built(family)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_mean, -0.5, 0.5)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
            nn.init.uniform_(m.weight, 0.5, 2.0)
    partition = partition_model(model, filter_groups=2)
    depth = [p for p, m in model.named_modules() if isinstance(m, nn.Conv2d)].index(conv)
    pair = [module(partition, f"conv{depth}.filters{g}") for g in range(2)]
    assert f"{norm}.bias" in {s.parameter for s in pair[0].slices}
    before = output(model, IMAGES)
    exchange(model, *pair)
    assert not torch.allclose(output(model, IMAGES), before, **TOLERANCE)
    half = model.get_submodule(conv).out_channels // 2
    runs = slice(0, half), slice(half, 2 * half)
    exchange_entries(model.get_parameter(f"{consumer}.weight").data, 1, *runs)
    for buffer in ("running_mean", "running_var"):
        exchange_entries(model.get_buffer(f"{norm}.{buffer}"), 0, *runs)
    torch.testing.assert_close(output(model, IMAGES), before, **TOLERANCE)


def test_depthwise_convolutions_are_cut_along_their_outputs():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8, affine=False), nn.Conv2d(8, 4, 1))
    partition = partition_model(model)
    assert slices(partition, "conv0.filters3") == {("0.weight", 0, 6, 8), ("0.bias", 0, 6, 8)}


class Untraceable(nn.Module):
    """Its norm has as many channels as the convolution ahead of it, and normalises something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.tail = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        if x.sum() > 0:
            return self.tail(self.conv(self.norm(x)))
        return x


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.calls = 0

    def forward(self, x):
        self.calls = x
        return self.norm(self.two(self.norm(self.one(x))))


class Ahead(Untraceable):
    def forward(self, x):
        return self.tail(self.conv(self.norm(x)))


@pytest.mark.parametrize("build", [Untraceable, Ahead])
def test_a_norm_is_attached_only_where_the_data_flow_shows_it(build):
    assert {k: v for k, (v, _) in normalised_by(build()).items()} == {"tail.0": "tail.1"}


def test_a_norm_used_twice_belongs_to_no_convolution_and_tracing_leaves_the_model_alone():
    model = Shared()
    assert normalised_by(model) == {}
    assert model.calls == 0


LAYERS = {
    "bert": (
        lambda: hf.BertForMaskedLM(hf.BertConfig(**BERT)),
        {f"layer{i}": f"bert.encoder.layer.{i}" for i in (0, 1)},
    ),
    "t5": (
        lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)),
        {f"{s}{i}": f"{s}.block.{i}" for s in ("encoder", "decoder") for i in (0, 1)},
    ),
    "swin": (swin, {f"layer{i}": f"features.{p}" for i, p in enumerate(("1.0", "1.1", "3.0"))}),
    "resnet": (
        resnet,
        {
            f"layer{i}": p
            for i, p in enumerate(("", "layer1.0", "layer1.1", "layer2.0", "layer3.0", "layer4.0"))
        },
    ),
    "densenet": (
        densenet,
        {f"layer{2 * b - 1}": f"features.denseblock{b}" for b in (1, 2, 3)},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_whole_layers_hold_all_their_parameters(name):
    build, expected = LAYERS[name]
    model = build()
    partition = quietly(model, layers=True)
    assert_disjoint_and_complete(model, partition)
    assert {m.kind for m in partition.modules} == {"layer"}
    for layer, path in expected.items():
        names = {s.parameter for s in module(partition, layer).slices}
        wanted = {n for n, _ in model.named_parameters() if n.startswith(f"{path}.")}
        assert names == (wanted if path else {"conv1.weight", "bn1.weight", "bn1.bias"})
    assert all(partition.is_whole(s) for m in partition.modules for s in m.slices)


def test_a_vgg_layer_is_a_convolution_with_its_norm():
    partition = partition_model(narrow_vgg(), layers=True)
    assert partition.names == ("layer0", "layer1", "layer2")
    assert {s.parameter for s in partition.modules[1].slices} == {
        f"features.{i}.{part}" for i in (4, 5) for part in BOTH
    }


def test_without_head_outputs_the_output_projection_is_remainder():
    model = built(FAMILIES["llama"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition = partition_model(model, head_outputs=False)
    owned = {s.parameter.split(".")[-2] for s in module(partition, "layer0.head0").slices}
    assert owned == {"q_proj", "k_proj", "v_proj"}
    left = [f"model.layers.{i}.self_attn.o_proj.weight" for i in (0, 1)]
    assert unrecognised(model, partition) == left


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("switch", {"experts": False}),
        ("mixtral", {"heads": False}),
        ("bert", {"ffn_groups": 0}),
        ("vit_torchvision", {"filter_groups": 0}),
        ("bert_wrapped", {"heads": False}),
    ],
)
def test_what_a_keyword_leaves_out_is_listed_but_does_not_warn(name, choices):
    model = built(FAMILIES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full, partition = partition_model(model), partition_model(model, **choices)
    assert set(partition.names) < set(full.names) or name == "vit_torchvision"
    gone = {s.parameter for m in full.modules for s in m.slices} - {
        s.parameter for m in partition.modules for s in m.slices
    }
    assert set(unrecognised(model, partition)) == {n for n in gone if model.get_parameter(n).dim() > 1}


class Strange(nn.Module):
    """A block whose feed-forward part is a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mix = nn.MultiheadAttention(8, 2, batch_first=True), nn.GRU(8, 8, batch_first=True)


def test_what_is_not_recognised_is_named_in_one_warning():
    with pytest.warns(UserWarning) as caught:
        partition = partition_model(swin())
    assert len(caught) == 1
    assert "features.2.reduction.weight" in str(caught[0].message)
    assert caught[0].filename == __file__
    for count in (1, 3):
        model = nn.Module()
        model.blocks = nn.ModuleList(Strange() for _ in range(count))
        model.head = nn.Linear(8, 2)
        with pytest.warns(UserWarning, match=r"blocks\.0\.mix\.weight_ih_l0, blocks\.0\.mix\.weight_hh_l0"):
            partition = partition_model(model)
        assert partition.names == tuple(f"layer{i}.head{h}" for i in range(count) for h in (0, 1))
        assert len(unrecognised(model, partition)) == 2 * count


def test_a_transformer_of_unknown_attention_beside_a_known_one_is_named():
    model = nn.Module()
    model.known = hf.BertModel(hf.BertConfig(**BERT), add_pooling_layer=False)
    model.unknown = hf.GPTNeoXModel(
        hf.GPTNeoXConfig(
            vocab_size=20, hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16
        )
    )
    with pytest.warns(UserWarning, match="8 weight"):
        partition = partition_model(model)
    assert {n.split(".")[0] for n in unrecognised(model, partition)} == {"unknown"}


def test_an_unknown_model_is_refused_with_what_was_looked_for():
    with pytest.raises(InputError, match=r"at least one module.*LSTM.*query, key, value.*nn\.Conv2d"):
        partition_model(nn.LSTM(4, 4))
    with pytest.raises(InputError, match="at least one module"):
        partition_model(built(FAMILIES["bert"]), heads=False, ffn_groups=0)


def bert_attention(model: nn.Module) -> nn.Module:
    return model.bert.encoder.layer[0].attention


def test_heads_that_do_not_fit_their_projections_are_refused():
    model = built(FAMILIES["bert"])
    bert_attention(model).self.num_attention_heads = 5
    with pytest.raises(InputError, match=r"layer\.0\.attention\.self: 5 heads.*12 query rows"):
        partition_model(model)
    model = built(FAMILIES["bert"])
    for name in ("query", "key", "value"):  # one head pruned, the head count not told
        setattr(bert_attention(model).self, name, nn.Linear(12, 8))
    bert_attention(model).output.dense = nn.Linear(8, 12)
    with pytest.raises(InputError, match=r"3 heads of width 4 do not fit 8 query rows"):
        partition_model(model)
    bert_attention(model).self.num_attention_heads = 2
    assert sum(m.kind == "head" for m in partition_model(model).modules) == 5
    model = built(FAMILIES["llama"])
    model.model.layers[1].self_attn.k_proj = nn.Linear(12, 12, bias=False)
    model.model.layers[1].self_attn.v_proj = nn.Linear(12, 12, bias=False)
    with pytest.raises(
        InputError, match=r"layers\.1\.self_attn: 4 query heads of width 4 cannot share 12 key rows"
    ):
        partition_model(model)


@pytest.mark.parametrize(("name", "groups"), [("bert", 3), ("gpt2", 7), ("t5", 5), ("llama", 8)])
def test_neuron_groups_must_divide(name, groups):
    with pytest.raises(InputError, match="do not divide"):
        partition_model(built(FAMILIES[name]), ffn_groups=groups)


def test_attention_entries_name_heads_in_order():
    partition = partition_model(built(FAMILIES["t5"]))
    assert partition.attentions[2] == Attention(
        "decoder.block.0.layer.0.SelfAttention", tuple(f"decoder0.head{h}" for h in range(3))
    )
    assert partition.attentions[3].heads == tuple(f"decoder0.cross.head{h}" for h in range(3))
    many = hf.LlamaForCausalLM(hf.LlamaConfig(**{**LLAMA, "num_key_value_heads": 4}))
    assert partition_model(many).attentions[1].heads == tuple(f"layer1.head{h}" for h in range(4))


@given(heads=st.integers(1, 4), width=st.integers(1, 4), neurons=st.integers(1, 4), groups=st.integers(1, 3))
def test_bert_of_any_size(heads, width, neurons, groups):
    d, f = heads * width, neurons * groups
    config = {**BERT, "hidden_size": d, "num_attention_heads": heads, "intermediate_size": f}
    model = hf.BertModel(hf.BertConfig(**{**config, "num_hidden_layers": 1}))
    partition = partition_model(model, ffn_groups=groups)
    assert_disjoint_and_complete(model, partition)
    ffns = ["layer0.ffn"] if groups == 1 else [f"layer0.ffn{g}" for g in range(groups)]
    assert partition.names == (*(f"layer0.head{h}" for h in range(heads)), *ffns)
    sizes = {row["module"]: row["parameters"] for row in partition.table()}
    assert all(sizes[f"layer0.head{h}"] == 4 * d * width + 3 * width for h in range(heads))
    assert all(sizes[name] == neurons * (2 * d + 1) for name in ffns)
    last = slices(partition, f"layer0.head{heads - 1}")
    assert ("encoder.layer.0.attention.output.dense.weight", 1, d - width, d) in last


@given(
    shared=st.integers(1, 3),
    groups=st.integers(1, 3),
    half=st.integers(1, 3),
    neurons=st.integers(1, 4),
    cut=st.integers(1, 3),
    d=st.integers(1, 3),
)
def test_llama_of_any_size(shared, groups, half, neurons, cut, d):
    width, heads = 2 * half, shared * groups
    config = {
        **LLAMA,
        "hidden_size": d * heads,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": width,
        "intermediate_size": neurons * cut,
        "num_hidden_layers": 1,
    }
    model = hf.LlamaModel(hf.LlamaConfig(**config))
    d *= heads
    partition = partition_model(model, ffn_groups=cut)
    assert_disjoint_and_complete(model, partition)
    sizes = {row["module"]: row["parameters"] for row in partition.table()}
    assert [n for n in sizes if "head" in n] == [f"layer0.head{g}" for g in range(groups)]
    assert all(sizes[f"layer0.head{g}"] == 2 * d * width * (shared + 1) for g in range(groups))
    assert [sizes[n] for n in sizes if "ffn" in n] == [3 * d * neurons] * cut
    last = slices(partition, f"layer0.head{groups - 1}")
    span = shared * width
    assert ("layers.0.self_attn.o_proj.weight", 1, (groups - 1) * span, groups * span) in last
    assert [a.heads for a in partition.attentions] == [tuple(f"layer0.head{g}" for g in range(groups))]


def test_patch_embeddings_of_every_tower_are_remainder():
    small = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    vision = {**small, "image_size": 8, "patch_size": 4}
    config = hf.CLIPConfig(text_config={**small, "vocab_size": 20}, vision_config=vision, projection_dim=6)
    model = hf.CLIPModel(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition = partition_model(model)
    assert {m.kind for m in partition.modules} == {"head", "ffn"}
    assert "vision_model.embeddings.patch_embedding.weight" in {s.parameter for s in partition.remainder}
    assert unrecognised(model, partition) == []


def test_a_convolutional_stem_is_no_patch_embedding():
    stem = torchvision.models.vision_transformer.ConvStemConfig(4, 3, 2)
    model = torchvision.models.VisionTransformer(
        8, 4, 1, 2, 8, 16, num_classes=5, conv_stem_configs=[stem, stem]
    )
    partition = partition_model(model, filter_groups=2)
    first = {
        s.parameter.removeprefix("conv_proj.conv_bn_relu_0.")
        for s in module(partition, "conv0.filters0").slices
    }
    assert first == {"0.weight", "1.weight", "1.bias"}
    layers = partition_model(model, layers=True)
    assert layers.names == tuple(f"layer{i}" for i in range(4))
    assert {s.parameter.split(".")[0] for s in layers.modules[0].slices} == {"conv_proj"}


def test_a_stage_that_holds_transformer_blocks_is_no_layer_itself():
    config = hf.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 2], hidden_sizes=[4, 8], num_attention_heads=[1, 2], sr_ratios=[2, 1]
    )
    model = hf.SegformerModel(config)
    partition = partition_model(model, layers=True)
    assert_disjoint_and_complete(model, partition)
    held = [{".".join(s.parameter.split(".")[:4]) for s in m.slices} for m in partition.modules]
    blocks = [{f"stages.{i}.blocks.{j}"} for i, j in ((0, 0), (1, 0), (1, 1))]
    assert [h for h in held if h in blocks] == blocks


def test_two_towers_are_numbered_one_after_the_other():
    model = nn.ModuleDict({name: hf.BertModel(hf.BertConfig(**BERT)) for name in ("query", "passage")})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [m.name for m in partition_model(model).modules if m.kind == "ffn"]
    assert names == [f"layer{i}.ffn" for i in range(4)]


def test_a_square_ffn_without_names_or_order_is_not_guessed():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn, self.a, self.b = nn.MultiheadAttention(8, 2), nn.Linear(8, 8), nn.Linear(8, 8)

    class Ordered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(8, 2)
            self.mlp = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    with pytest.warns(UserWarning, match=r"0\.a\.weight, 0\.b\.weight"):
        assert {m.kind for m in partition_model(nn.Sequential(Block(), Block())).modules} == {"head"}
    partition = partition_model(nn.Sequential(Ordered(), Ordered()))
    assert slices(partition, "layer1.ffn") == {*rows("1.mlp.0", 0, 8), *columns("1.mlp.2", 0, 8)}


def test_frozen_modules_are_no_part_of_a_partition():
    model = built(FAMILIES["gpt2"])
    model.transformer.h[0].requires_grad_(False)
    model.transformer.h[1].attn.requires_grad_(False)
    partition = partition_model(model)
    assert {module.name for module in partition.modules} == {"layer1.ffn"} and not partition.attentions
    model.transformer.h[1].mlp.c_fc.bias.requires_grad_(False)
    with pytest.raises(InputError, match=r"'layer1.ffn' is frozen in part: 'transformer.h.1.mlp.c_fc.bias'"):
        partition_model(model)
    with pytest.raises(InputError, match="at least one module"):
        partition_model(model.requires_grad_(False))
