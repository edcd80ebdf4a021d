"""Feed-forward blocks and whole layers of models whose attention, or what stands in its place, is not recognised."""

import warnings

import pytest
import torch
import transformers as hf
from torch import nn

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.forward import forward
from mat.kernels.premise import FEW
from mat.partition.discovery import partition_model
from mat.partition.unrecognised import unrecognised
from tests.partition.families import BERT, IDS, columns, module, rows, slices
from tests.zoo import kernel_of, mean_logit, modular_ntk, naive_rows, of_slices, randomise

SIZES = {"vocab_size": 20, "hidden_size": 12, "num_hidden_layers": 2}
TEXT = {"input_ids": IDS.repeat(2, 1)[: FEW - 1]}


def mamba():
    return hf.MambaForCausalLM(hf.MambaConfig(**SIZES, state_size=4, time_step_rank=2))


def layer_of(prefix, up, down, bias=True):
    parts = ("weight", "bias") if bias else ("weight",)
    return {*(rows(f"{prefix}.{up}", 10, 20, parts)), *columns(f"{prefix}.{down}", 10, 20)}


# a model, and what the second half of its second block's neurons is
MODELS = {
    "falcon": (
        lambda: hf.FalconForCausalLM(hf.FalconConfig(**SIZES, num_attention_heads=2, ffn_hidden_size=20)),
        layer_of("transformer.h.1.mlp", "dense_h_to_4h", "dense_4h_to_h", False),
    ),
    "gpt_neox": (
        lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SIZES, num_attention_heads=2, intermediate_size=20)),
        layer_of("gpt_neox.layers.1.mlp", "dense_h_to_4h", "dense_4h_to_h"),
    ),
    "fnet": (
        lambda: hf.FNetForSequenceClassification(hf.FNetConfig(**SIZES, intermediate_size=20, tpu_short_seq_length=5)),
        layer_of("fnet.encoder.layer.1", "intermediate.dense", "output.dense"),
    ),
    "rwkv": (
        lambda: hf.RwkvForCausalLM(
            hf.RwkvConfig(**SIZES, attention_hidden_size=12, intermediate_size=20, context_length=8, use_cache=False)
        ),
        layer_of("rwkv.blocks.1.feed_forward", "key", "value", False),
    ),
    "conv_bert": (
        lambda: hf.ConvBertForSequenceClassification(
            hf.ConvBertConfig(**BERT, embedding_size=12, head_ratio=1, conv_kernel_size=3)
        ),
        layer_of("convbert.encoder.layer.1", "intermediate.dense", "output.dense"),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_neurons_are_found_confirmed_exact_and_trained(name):
    build, owned = MODELS[name]
    model = randomise(build())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is not recognised
        partition, confirmed = (partition_model(model, ffn_groups=2, example=inputs) for inputs in (None, TEXT))
    cut = next(m.name for m in partition.modules if slices(partition, m.name) & owned)
    assert slices(partition, cut) == owned
    assert [m for m in confirmed.modules if m.kind == "ffn"] == list(partition.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*could confirm|.*comparison with plain")
        kernels = modular_ntk(model, partition, TEXT)
    found = naive_rows(model, TEXT, mean_logit)
    for part in partition.modules:
        torch.testing.assert_close(kernels[part.name], kernel_of(of_slices(found, part.slices)[:, 0]))
    forward(model, TEXT).square().sum().backward()
    dense = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    try:
        sparse = SparseBackward(model, partition, "exact")
    except InputError as error:  # Falcon's layers are linear maps by code of their own
        assert name == "falcon" and "forward" in str(error)
        return
    sparse.set_active([cut])
    forward(model, TEXT).square().sum().backward()
    for part in partition.modules:
        for piece in part.slices:
            gradient = sparse.leaves[piece].grad
            if part.name == cut:
                torch.testing.assert_close(gradient, piece.of(dense[piece.parameter]))
            else:
                assert gradient is None
    sparse.close()


def test_the_attention_that_is_not_recognised_is_named_in_one_warning():
    model = MODELS["gpt_neox"][0]()
    with pytest.warns(UserWarning) as said:
        partition = partition_model(model)
    assert len(said) == 1 and partition.names == ("layer0.ffn", "layer1.ffn")
    left = [f"gpt_neox.layers.{i}.attention.{name}.weight" for i in (0, 1) for name in ("query_key_value", "dense")]
    assert unrecognised(model, partition) == left
    assert all(name in str(said[0].message) for name in left)


class Normed(nn.Module):
    """Two maps with a norm between them, which mixes neurons."""

    def __init__(self, norm=True):
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(4, 8), nn.LayerNorm(8) if norm else nn.GELU(), nn.Linear(8, 4)

    def forward(self, x):
        return x + self.down(self.norm(self.up(x)))


def test_maps_that_may_not_be_cut_or_stand_alone_are_not_guessed():
    assert len(partition_model(nn.Sequential(Normed(False), Normed(False))).names) == 2
    for model in (nn.Sequential(Normed(), Normed()), nn.Sequential(Normed(False), nn.Linear(4, 4)), Normed(False)):
        with pytest.raises(InputError, match="at least one module"):
            partition_model(model)


def test_layers_of_a_model_in_which_nothing_is_recognised_are_its_repeated_parts():
    model = mamba()
    with pytest.raises(InputError, match="layers=True takes repeated parts as a whole"):
        partition_model(model)
    partition = partition_model(model, layers=True)
    assert partition.names == ("layer0", "layer1")
    own = {name for name, _ in model.named_parameters() if name.startswith("backbone.layers.1.")}
    assert {piece.parameter for piece in module(partition, "layer1").slices} == own
