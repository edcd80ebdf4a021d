"""Experts in common parameters: gradients, constants and steps of each by itself, however its layer computes them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.backward.sparse import SparseBackward
from mat.partition.partition import Module, Partition, Slice
from tests.zoo import quietly, randomise

IDS = torch.randint(3, 20, (3, 6), generator=torch.Generator().manual_seed(1))
SIZES = {
    **{"vocab_size": 20, "hidden_size": 12, "intermediate_size": 8, "num_hidden_layers": 2, "head_dim": 6},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2},
}
EXACT = {"rtol": 1e-9, "atol": 1e-11}
COUNT = 4


def longcat():
    latent = {"q_lora_rank": 6, "kv_lora_rank": 4, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
    sizes = {"vocab_size": 20, "hidden_size": 12, "num_attention_heads": 2, "num_layers": 1, "ffn_hidden_size": 20}
    mixture = {"expert_ffn_hidden_size": 8, "n_routed_experts": COUNT, "zero_expert_num": 2, "moe_topk": 2}
    return hf.LongcatFlashForCausalLM(hf.LongcatFlashConfig(**sizes, **latent, **mixture, head_dim=4))


FAMILIES = {
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**SIZES, num_local_experts=COUNT)),
    "gpt_oss": lambda: hf.GptOssForCausalLM(hf.GptOssConfig(**SIZES, num_local_experts=COUNT, num_experts_per_tok=2)),
    "llama4": lambda: hf.Llama4ForCausalLM(
        hf.Llama4TextConfig(**SIZES, intermediate_size_mlp=8, num_local_experts=COUNT, interleave_moe_layer_step=1)
    ),
    "longcat": longcat,
}


def built(name):
    model = randomise(FAMILIES[name]())
    model.config._experts_implementation = "eager"
    return model.eval(), quietly(model)


def gradients(model):
    logits = model(input_ids=IDS).logits
    (logits * torch.linspace(-1, 2, logits.numel()).view_as(logits)).sum().backward()


@pytest.mark.parametrize("name", FAMILIES)
def test_active_experts_have_their_full_gradients_and_others_neither_one_nor_a_step(name):
    model, partition = built(name)
    experts = [module for module in partition.modules if module.kind == "expert"]
    assert [module.name.rpartition(".")[2] for module in experts[:COUNT]] == [f"expert{e}" for e in range(COUNT)]
    gradients(model)
    dense = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    sparse = SparseBackward(model, partition, "exact")
    optimizer = torch.optim.AdamW(sparse.parameters(), lr=0.1, weight_decay=0.1)
    gradients(model)
    active = {module.name for module in partition.modules[::2]}
    for _ in range(2):  # the second moves by the momentum of the first
        optimizer.step()
        optimizer.zero_grad()
        sparse.set_active(active)
        gradients(model)
        before = copy.deepcopy(model.state_dict())
    optimizer.step()
    after = model.state_dict()
    for module in experts:
        for piece in module.slices:
            moved = not torch.equal(piece.of(before[piece.parameter]), piece.of(after[piece.parameter]))
            leaf = sparse.leaves[piece]
            assert (leaf.grad is not None) == (module.name in active) or not piece.of(dense[piece.parameter]).any()
            assert moved is (module.name in active)
    sparse.close()


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_the_full_ones_in_mode_exact(name):
    model, partition = built(name)
    gradients(model)
    dense = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    sparse = SparseBackward(model, partition, "exact")
    active = {module.name for module in partition.modules[1::2]}
    sparse.set_active(active)
    gradients(model)
    for module in [*partition.modules, Module("remainder", "", 0, partition.remainder)]:
        for piece in module.slices:
            gradient, wanted = sparse.leaves[piece].grad, dense[piece.parameter]
            if module.name in active or module.name == "remainder":
                zeros = torch.zeros_like(sparse.leaves[piece])
                wanted = zeros if wanted is None else piece.of(wanted)
                torch.testing.assert_close(zeros if gradient is None else gradient, wanted, **EXACT)
            else:
                assert gradient is None
    sparse.close()


class Mixture(nn.Module):
    """Experts x W_e V_e + b_e, computed one by one, as a batch, or in groups of rows."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.w, self.v = nn.Parameter(torch.randn(COUNT, 8, 16)), nn.Parameter(torch.randn(COUNT, 16, 8))
        self.b = nn.Parameter(torch.randn(COUNT, 8))

    def forward(self, x):  # (experts, rows, 8)
        if self.way == "loop":
            pairs = ((x[e] @ self.w[e]).tanh() for e in range(COUNT))
            return torch.stack([F.linear(h, self.v[e].T, self.b[e]) for e, h in enumerate(pairs)])
        if self.way == "batch":
            return torch.bmm(torch.bmm(x, self.w).tanh(), self.v) + self.b[:, None]
        offsets = torch.arange(1, COUNT + 1, dtype=torch.int32) * x.shape[1]
        hidden = F.grouped_mm(x.flatten(0, 1), self.w, offs=offsets).tanh()
        return F.grouped_mm(hidden, self.v, offs=offsets).view_as(x) + self.b[:, None]


@pytest.mark.parametrize("way", ["loop", "batch", "groups"])
@settings(max_examples=12)
@given(active=st.sets(st.integers(0, COUNT - 1)), detach=st.booleans())
def test_inactive_experts_are_constants_in_mode_detach(way, active, detach):
    torch.manual_seed(0)
    dtype = torch.float32 if way == "groups" else torch.float64  # grouped products know no float64
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if way == "groups" else EXACT
    layer = Mixture(way).to(dtype)
    model = nn.ModuleDict({"below": nn.Linear(8, 8), "experts": layer}).to(dtype)
    model.forward = lambda x: layer(model["below"](x))
    owned = [tuple(Slice(f"experts.{name}", 0, e, e + 1) for name in "wvb") for e in range(COUNT)]
    partition = Partition.of(model, [Module(f"e{e}", "expert", 0, own) for e, own in enumerate(owned)])
    x, cotangent = (torch.randn(COUNT, 3, 8, dtype=dtype) for _ in range(2))
    sparse = SparseBackward(model, partition, "detach" if detach else "exact")
    sparse.set_active({f"e{e}" for e in active})
    output = model.forward(x)
    if output.requires_grad:  # one by one, experts that are all constants end the backward pass
        output.backward(cotangent)
    got = {piece: leaf.grad for piece, leaf in sparse.leaves.items()}
    sparse.close()
    model.zero_grad()
    plain = Mixture("loop").to(dtype)
    plain.load_state_dict(layer.state_dict())
    below = model["below"](x)
    kept = torch.tensor([e in active or not detach for e in range(COUNT)])[:, None, None]
    expected = plain(torch.where(kept, below, below.detach()))
    torch.testing.assert_close(output, expected, **tolerance)
    expected.backward(cotangent)  # of biases, if of nothing else
    for e, own in enumerate(owned):
        for piece in own:
            if e in active:
                whole = plain.get_parameter(piece.parameter.removeprefix("experts."))
                torch.testing.assert_close(got[piece], piece.of(whole.grad), **tolerance)
            else:
                assert got[piece] is None
    for piece in partition.remainder:
        whole = model.get_parameter(piece.parameter)
        gradients = (torch.zeros_like(whole) if g is None else g for g in (got[piece], whole.grad))
        torch.testing.assert_close(*gradients, **tolerance)
