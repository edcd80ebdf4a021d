"""Families of models, each with what its modules own written by hand, and ways to change their units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torchvision
import transformers as hf
from torch import nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
IDS = torch.tensor([[3, 7, 1, 9, 4], [5, 2, 8, 6, 11]])
TEXT = {"input_ids": IDS}
PAIR = {"input_ids": IDS, "decoder_input_ids": IDS.flip(1)[:, :4]}
SIZES = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 20}
BERT = {**SIZES, "vocab_size": 20, "max_position_embeddings": 16}
T5 = {"vocab_size": 20, "d_model": 10, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 3}
LLAMA = {
    **{**SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4},
    **{"vocab_size": 20, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2},
}
GPT2 = {
    **{"n_positions": 16, "n_embd": 12, "n_head": 3, "n_layer": 2, "n_inner": 20},
    **{"vocab_size": 20, "bos_token_id": 1, "eos_token_id": 1},
}
WAVES = torch.linspace(-9, 9, 384, dtype=torch.float64).reshape(2, 3, 8, 8).sin()
BOTH = ("weight", "bias")


def rows(path: str, start: int, stop: int, parts: tuple[str, ...] = BOTH) -> list[tuple]:
    return [(f"{path}.{part}", 0, start, stop) for part in parts]


def turned(path: str, start: int, stop: int) -> list[tuple]:
    """Units of a map whose weight is (in, out)."""
    return [(f"{path}.weight", 1, start, stop), (f"{path}.bias", 0, start, stop)]


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
    return [r for n in ups for r in rows(f"{at}.{n}", start, stop, ("weight",))] + columns(f"{at}.wo", start, stop)


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
    return SwinTransformer([2, 2], 8, [2, 1], [2, 4], [2, 2], stochastic_depth_prob=0.0, num_classes=3, **versions)


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


HEADS_AND_FFNS = [("layer0.head0", "layer0.head2"), ("layer1.head0", "layer1.head1"), ("layer0.ffn0", "layer0.ffn1")]
GROUPED = [("layer0.head0", "layer0.head1"), ("layer1.head0", "layer1.head1"), ("layer1.ffn0", "layer1.ffn1")]
T5_SWAPS = [
    ("encoder0.head0", "encoder0.head2"),
    ("decoder1.head0", "decoder1.head1"),
    ("decoder0.cross.head1", "decoder0.cross.head2"),
    ("encoder1.ffn0", "encoder1.ffn1"),
    ("decoder0.ffn0", "decoder0.ffn1"),
]
T5_BIASES = tuple(
    f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for stack in ("encoder", "decoder")
)
T5_MASKED = ("decoder0.cross.head1", "decoder.block.0.layer.1.EncDecAttention.o")
SWIN_SWAPS = [("layer2.head0", "layer2.head3"), ("layer0.head0", "layer0.head1"), ("layer1.ffn0", "layer1.ffn1")]


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
            "layer0.head1": [r for n in "qkv" for r in rows(f"distilbert.transformer.layer.0.attention.{n}_lin", 4, 8)]
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
            "layer0.head1": [r for o in (0, 12, 24) for r in turned("transformer.h.0.attn.c_attn", o + 4, o + 8)]
            + [("transformer.h.0.attn.c_proj.weight", 0, 4, 8)],
            "layer1.ffn1": [
                *turned("transformer.h.1.mlp.c_fc", 10, 20),
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
            "layer1.cross.head2": turned("transformer.h.1.crossattention.q_attn", 8, 12)
            + turned("transformer.h.1.crossattention.c_attn", 8, 12)
            + turned("transformer.h.1.crossattention.c_attn", 20, 24)
            + [("transformer.h.1.crossattention.c_proj.weight", 0, 8, 12)]
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
        lambda: hf.ViTForImageClassification(hf.ViTConfig(image_size=8, patch_size=4, **SIZES)),
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
        {"x": WAVES},
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
        {"x": WAVES},
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
        {"x": WAVES},
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
            hf.MixtralConfig(**LLAMA, num_local_experts=3, num_experts_per_tok=2, experts_implementation="eager")
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
