"""The sparse backward pass against plain autograd (exact) and models written out with .detach() (detach)."""

import copy
import functools
import gc
import io
import weakref
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.backward.operators.attention import Heads, attend
from mat.backward.operators.functions import Rows, Take
from mat.backward.operators.patching import StandIn
from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.partition.discovery import partition_model
from mat.partition.partition import Module, Partition, Slice
from tests.cases import CASES, bert_case, detached_reference, detached_resnet, logits, moved, vgg_case
from tests.rounding import assert_same_weights, spread

TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


def active_sets(case):
    return st.sets(st.sampled_from(case.partition.names))


def plain_gradients(case, loss):
    parameters = dict(case.model.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True))


def sparse_gradients(case, mode, active):
    """Gradient of every leaf by slice; leaves without one are left out."""
    sparse = SparseBackward(case.model, case.partition, mode)
    try:
        sparse.look(case.inputs)
        sparse.set_active(active)
        case.loss().backward()
        return {piece: leaf.grad for piece, leaf in sparse.leaves.items() if leaf.grad is not None}
    finally:
        sparse.close()


def expected_slices(case, active):
    slices = [piece for m in case.partition.modules if m.name in active for piece in m.slices]
    return [*slices, *case.partition.remainder]


def assert_equal_to(case, active, dense, got):
    wanted = expected_slices(case, active)
    assert set(got) <= set(wanted), "an inactive slice received a gradient"
    for piece in wanted:
        full = dense[piece.parameter]
        full = torch.zeros_like(case.model.get_parameter(piece.parameter)) if full is None else full
        reference = piece.of(full)
        actual = got.get(piece, torch.zeros_like(reference))
        torch.testing.assert_close(actual, reference, **TOLERANCE, msg=lambda m, p=piece: f"{p}: {m}")


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=4)
@given(data=st.data())
def test_exact_gives_active_modules_their_full_gradient(name, data):
    case = CASES[name]()
    active = data.draw(active_sets(case))
    dense = plain_gradients(case, case.loss())
    assert_equal_to(case, active, dense, sparse_gradients(case, "exact", active))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=4)
@given(data=st.data())
def test_detach_equals_a_model_written_with_detach(name, data):
    case = CASES[name]()
    active = data.draw(active_sets(case))
    loss = case.loss_of(detached_reference(case, active))
    assert_equal_to(case, active, plain_gradients(case, loss), sparse_gradients(case, "detach", active))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=4)
@given(data=st.data())
def test_detach_residual_is_exact_but_on_residual_branches(name, data):
    """All of a VGG is exact, all of a transformer is detached, bit for bit; of a ResNet blocks with an identity."""
    case = CASES[name]()
    active = data.draw(active_sets(case))
    got = sparse_gradients(case, "detach_residual", active)
    if name == "resnet":
        loss = case.loss_of(detached_resnet(case, active, residual=True))
        assert_equal_to(case, active, plain_gradients(case, loss), got)
    else:
        wanted = sparse_gradients(case, "exact" if name.startswith("vgg") else "detach", active)
        assert got.keys() == wanted.keys() and all(torch.equal(got[p], wanted[p]) for p in got)


@pytest.mark.parametrize("name", CASES)
def test_the_written_out_reference_is_the_model(name):
    """Control: with everything active the hand-written forward is the model's own."""
    case = CASES[name]()
    torch.testing.assert_close(
        detached_reference(case, set(case.partition.names)), logits(case.model, case.inputs), **TOLERANCE
    )


@pytest.mark.parametrize("name", CASES)
def test_detach_differs_from_exact(name):
    """Control: the two modes are not one and the same."""
    case = CASES[name]()
    active = set(case.partition.names[::2])
    exact, detach = (sparse_gradients(case, mode, active) for mode in ("exact", "detach"))
    assert any(not torch.allclose(exact[p], detach[p], rtol=1e-3) for p in exact if p in detach)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("mode", "optimizer"), [("exact", "adamw"), ("detach", "sgd")])
def test_inactive_modules_do_not_move(name, mode, optimizer):
    """Neither momentum nor decay: after training everything, then half, the other half is bit-identical."""
    case = CASES[name]()
    sparse = SparseBackward(case.model, case.partition, mode)
    kind, options = (torch.optim.AdamW, {}) if optimizer == "adamw" else (torch.optim.SGD, {"momentum": 0.9})
    opt = kind(sparse.parameters(), lr=0.1, weight_decay=0.5, **options)

    def train(steps):
        for _ in range(steps):
            opt.zero_grad()
            case.loss().backward()
            opt.step()

    train(2)
    active = set(case.partition.names[::2])
    sparse.set_active(active)
    before = copy.deepcopy(case.model.state_dict())
    train(2)
    after = case.model.state_dict()
    for module in case.partition.modules:
        assert module.name in active or not any(moved(module, before, after)), f"inactive {module.name} moved"
    assert any(not torch.equal(before[k], after[k]) for k in before)


def train(case, parameters, change=lambda model: None):
    opt = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        opt.zero_grad()
        case.loss().backward()
        change(case.model)
        opt.step()
    return case.model


@functools.cache
def allowed(name):
    def run(change):
        case = CASES[name]()
        return train(case, case.model.parameters(), change)

    return spread(run)


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", CASES)
def test_everything_active_trains_like_plain_pytorch(name, mode):
    plain, wrapped = CASES[name](), CASES[name]()
    sparse = SparseBackward(wrapped.model, wrapped.partition, mode)
    train(wrapped, sparse.parameters())
    assert_same_weights(wrapped.model, train(plain, plain.model.parameters()), allowed(name))


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", CASES)
def test_forward_state_and_class_are_untouched(name, mode):
    case, plain = CASES[name](), CASES[name]()
    keys, kinds = list(case.model.state_dict()), [type(m) for m in case.model.modules()]
    sparse = SparseBackward(case.model, case.partition, mode)
    sparse.set_active(case.partition.names[::2])
    assert torch.equal(logits(case.model, case.inputs), logits(plain.model, plain.inputs))
    assert list(case.model.state_dict()) == keys and [type(m) for m in case.model.modules()] == kinds
    sparse.close()
    assert not any("forward" in vars(module) for module in case.model.modules())


def test_somebody_elses_forward_is_called_and_is_there_again_afterwards():
    case = bert_case()
    core = case.model.bert.encoder.layer[0].attention.self
    plain, calls = core.forward, []

    def own(*args, **kwargs):
        calls.append(1)
        return plain(*args, **kwargs)

    core.forward = own
    sparse = SparseBackward(case.model, case.partition)
    case.loss()
    assert calls and vars(core)["forward"] is not own
    sparse.close()
    assert vars(core)["forward"] is own
    sparse = SparseBackward(case.model, case.partition)
    core.forward = plain  # put there after wrapping
    sparse.close()
    assert vars(core)["forward"] is plain


@pytest.mark.parametrize("name", CASES)
def test_a_copy_of_a_wrapped_model_is_a_plain_model(name):
    """Deep copies, saved models and averages of weights have no attribute, flag or class of ours."""
    case = CASES[name]()
    partition = partition_model(case.model, layers=True) if name == "vit" else case.partition
    attributes = [set(vars(module)) for module in case.model.modules()]
    sparse, pickled = SparseBackward(case.model, partition, "detach"), io.BytesIO()
    sparse.set_active([])
    copied, average = copy.deepcopy(case.model), torch.optim.swa_utils.AveragedModel(case.model).module
    torch.save(case.model, pickled)
    assert b"mat.backward" not in pickled.getvalue()
    pickled.seek(0)
    loaded = torch.load(pickled, weights_only=False)
    before = logits(case.model, case.inputs).detach()
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.add_(1.0)
    for other in (copied, loaded, average):
        assert [set(vars(module)) for module in other.modules()] == attributes
        torch.testing.assert_close(logits(other, case.inputs), before, **TOLERANCE)
        case.loss(other).backward()
        assert all(p.grad is not None for p in other.parameters())
        SparseBackward(other, Partition.of(other, partition.modules)).close()
    assert any(isinstance(value, StandIn) for module in case.model.modules() for value in vars(module).values())


def test_optimizer_state_is_that_of_the_modules_ever_active():
    case = bert_case()
    sparse = SparseBackward(case.model, case.partition, "detach")
    opt = torch.optim.AdamW(sparse.parameters())
    ever = set()
    for active in ({"layer1.head0"}, {"layer1.head0", "layer0.ffn1"}, {"layer0.head2"}):
        sparse.set_active(active)
        ever |= active
        opt.zero_grad()
        case.loss().backward()
        opt.step()
        slices = expected_slices(case, ever)
        moments = [state[key] for state in opt.state.values() for key in ("exp_avg", "exp_avg_sq")]
        assert sum(m.numel() for m in moments) == 2 * case.partition.size(slices)
        # and no more memory than that stands behind them
        assert sum(m.untyped_storage().nbytes() for m in moments) == 8 * 2 * case.partition.size(slices)


def test_accumulation_and_clipping_follow_the_active_slices():
    case = bert_case()
    active = {"layer0.head1", "layer1.ffn0"}
    sparse = SparseBackward(case.model, case.partition, "exact")
    sparse.set_active(active)
    case.loss().backward()
    once = {n: leaf.grad.clone() for n, leaf in sparse.named_parameters() if leaf.grad is not None}
    case.loss().backward()
    for name, leaf in sparse.named_parameters():
        if name in once:
            torch.testing.assert_close(leaf.grad, 2 * once[name], **TOLERANCE)
    norm = nn.utils.clip_grad_norm_(sparse.parameters(), 1e9)
    expected = torch.stack([(2 * g).norm() for g in once.values()]).norm()
    torch.testing.assert_close(norm, expected, **TOLERANCE)


def test_attention_dropout_keeps_its_random_stream():
    """With dropout the attention call stays whole, so the wrapped forward draws the same numbers."""
    outputs = []
    for wrap in (False, True):
        case = bert_case()
        for layer in case.model.bert.encoder.layer:
            layer.attention.self.dropout.p = 0.5
        case.model.train()
        if wrap:
            sparse = SparseBackward(case.model, case.partition, "detach")
            sparse.set_active({"layer0.head1"})
        torch.manual_seed(3)
        outputs.append(logits(case.model, case.inputs))
    torch.testing.assert_close(*outputs, **TOLERANCE)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda c: SparseBackward(c.model, c.partition, "mask"), "unknown backward mode"),
        (lambda c: SparseBackward(c.model, c.partition).set_active({"layer9.head0"}), "not modules"),
        (lambda c: _embedding(c, "position", 3), "Embedding"),
        (lambda c: _embedding(c, "word", 11), "tied"),
        (lambda c: _moved(c), "moved or replaced"),
        (lambda c: [SparseBackward(c.model, c.partition) for _ in range(2)], "wrapped already"),
        (lambda c: _lbfgs(c), "LBFGS moves all parameters"),
        (lambda c: _closed(c), "is closed"),
        (lambda c: _stepped_after_close(c), "was closed"),
    ],
)
def test_bad_use_is_refused_with_a_clear_error(break_it, message):
    with pytest.raises(InputError, match=message):
        break_it(bert_case())


def _embedding(case, what, stop):
    name = f"bert.embeddings.{what}_embeddings.weight"
    partition = Partition.of(case.model, [Module(what, "layer", 0, (Slice(name, 0, 0, stop),))])
    SparseBackward(case.model, partition)


def _moved(case):
    sparse = SparseBackward(case.model, case.partition)
    case.model.float()
    sparse.set_active(case.partition.names)


def _lbfgs(case):
    sparse = SparseBackward(case.model, case.partition)
    optimizer = torch.optim.LBFGS(sparse.parameters())
    try:
        optimizer.step(case.loss)
    finally:
        sparse.close()


def _closed(case):
    sparse = SparseBackward(case.model, case.partition)
    sparse.close()
    sparse.set_active(case.partition.names)


def _stepped_after_close(case):
    sparse = SparseBackward(case.model, case.partition)
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    sparse.close()
    case.loss().backward()
    optimizer.step()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", [torch.float64, torch.bool])
@pytest.mark.parametrize("shape", [(2, 1, 5, 5), (1, 4, 5, 5), (4, 5, 5), (5, 5), (2, 4, 5, 5)])
@pytest.mark.parametrize("grouped", [False, True])
def test_attention_with_masks_of_every_kind_and_shape(shape, kind, grouped, dropout):
    """Split by heads against the same call whole, with the inactive heads' outputs detached; the same bits."""
    draws = torch.Generator().manual_seed(0)
    mask = torch.randn(shape, generator=draws).double()
    mask = mask > -0.5 if kind == torch.bool else mask.requires_grad_()
    q, k, v = (
        torch.randn(2, heads, 5, 3, generator=draws).double().requires_grad_()
        for heads in (4, *((2, 2) if grouped else (4, 4)))
    )
    plain = F.scaled_dot_product_attention
    options = {"attn_mask": mask, "enable_gqa": grouped, "dropout_p": dropout}
    heads = Heads([1], 2)  # two modules: the last two query heads are active

    def drawn(run):
        torch.manual_seed(1)
        return run()

    outputs = drawn(lambda: attend(plain, heads, q, k, v, **options))
    whole = drawn(lambda: plain(q, k, v, **options))
    assert torch.equal(outputs, whole)
    reference = torch.cat([whole[:, :2].detach(), whole[:, 2:]], 1)
    leaves = (q, k, v, mask) if mask.requires_grad else (q, k, v)
    found = [torch.autograd.grad((out**2).sum(), leaves) for out in (outputs, reference)]
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, **TOLERANCE)


def test_without_an_active_head_nothing_flows_to_a_mask_that_trains():
    """T5's position bias, when W_O belongs to no head and so sends gradients to all of them."""
    q, mask = torch.randn(2, 4, 5, 3), torch.randn(1, 4, 5, 5).requires_grad_()
    plain = F.scaled_dot_product_attention
    assert plain(q, q, q, attn_mask=mask).requires_grad
    assert not attend(plain, Heads([], 4), q, q, q, attn_mask=mask).requires_grad


@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{"is_causal": True}, {"scale": 0.3}, {"scale": -0.7}, {"mask": True}])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_is_the_whole_call_bit_for_bit(kind, options, autocast):
    """With dropout and without, of heads that lie in memory as projections lay them, in any precision."""
    draws = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 5, 4, 8, generator=draws).to(kind).transpose(1, 2).requires_grad_() for _ in range(3))
    plain = F.scaled_dot_product_attention
    for p in (0.0, 0.2):
        given, found = dict(options), []
        if given.pop("mask", False):
            given["attn_mask"] = torch.randn(1, 4, 5, 5, generator=draws).to(kind).requires_grad_()
        for run in (plain, functools.partial(attend, plain, Heads([0, 2], 4))):
            torch.manual_seed(1)
            with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
                found.append(run(q, k, v, dropout_p=p, **given))
                assert all(g.isfinite().all() for g in torch.autograd.grad(found[-1].sum(), (q, k, v)))
        assert found[0].dtype == found[1].dtype and found[0].stride() == found[1].stride() and torch.equal(*found)


@given(data=st.data())
def test_rows_are_the_entries_of_their_runs(data):
    """Against indexing, in both directions, and with the gradients of indexing; strides of every kind."""
    total = data.draw(st.integers(1, 6))
    cuts = sorted(data.draw(st.sets(st.integers(0, total), min_size=2, max_size=total + 1)))
    pieces = [piece for piece in pairwise(cuts) if data.draw(st.booleans())]
    rows = Rows.of(pieces, total)
    index = torch.tensor([i for start, stop in pieces for i in range(start, stop)], dtype=torch.long)
    x = {
        "plain": torch.randn(3, total, 2),
        "turned": torch.randn(total, 3, 2).transpose(0, 1),
        "expanded": torch.randn(1, 1, 2).expand(3, total, 2),
    }[data.draw(st.sampled_from(["plain", "turned", "expanded"]))].double()
    assert (rows.whole, rows.empty) == (len(index) == total, not pieces)
    assert torch.equal(rows.take(x, 1), x[:, index]) and torch.equal(rows.copy(x, 1), x[:, index])
    full = torch.zeros(3, total, 2).double()
    full[:, index] = x[:, index]
    assert torch.equal(rows.put(x[:, index], 1), full)
    leaf = x.detach().requires_grad_()
    weights = torch.randn(3, len(index), 2).double()
    (Take.apply(leaf, rows, 1) * weights).sum().backward()
    wanted = torch.zeros(3, total, 2).double()
    wanted[:, index] = weights
    assert torch.equal(leaf.grad, wanted)


@pytest.mark.parametrize("build", ["distilbert", "roberta"])
def test_other_encoders_are_recognised(build):
    import transformers as hf

    small = {"vocab_size": 20}
    if build == "distilbert":
        model = hf.DistilBertForMaskedLM(hf.DistilBertConfig(dim=8, n_heads=2, n_layers=2, hidden_dim=16, **small))
    else:
        model = hf.RobertaForMaskedLM(
            hf.RobertaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16, **small)
        )
    partition = partition_model(model)
    assert [m.kind for m in partition.modules] == ["head", "head", "ffn"] * 2
    sparse = SparseBackward(model, partition, "detach")
    sparse.set_active({"layer0.head0", "layer1.ffn"})
    model(input_ids=torch.arange(2, 8)[None]).logits.sum().backward()
    moved = {m.name for m in partition.modules if any(p.grad is not None for p in sparse.module_parameters(m.name))}
    assert moved == {"layer0.head0", "layer1.ffn"}


def test_a_wide_batch_norm_free_net_keeps_its_gradient_path():
    """A convolution that is wholly inactive in detach stops the backward pass: nothing below it trains."""
    case = vgg_case(batch_norm=False)
    top = {name for name in case.partition.names if name.startswith("conv2")}
    got = sparse_gradients(case, "detach", set(case.partition.names) - top)
    assert {piece.parameter.split(".")[0] for piece in got} == {"classifier"}


class Borrowing(nn.Module):
    """Uses the weight of a layer that it never calls."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(x @ self.layer.weight.T)


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("stop", [2, 4])
def test_a_weight_used_without_calling_its_layer_is_refused_at_the_first_step(mode, stop):
    """Its leaves would never get a gradient, or its module be trained while it is not active."""
    model = Borrowing()
    partition = Partition.of(model, [Module("m", "layer", 0, (Slice("layer.weight", 0, 0, stop),))])
    sparse = SparseBackward(model, partition, mode)
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    sparse.set_active([])
    model(torch.randn(3, 4)).sum().backward()
    with pytest.raises(InputError, match=r"layer\.weight' got a gradient .* used without calling its layer"):
        optimizer.step()
    sparse.close()


def test_gradients_left_from_before_wrapping_are_no_reason_to_refuse():
    case = bert_case()
    case.loss().backward()
    sparse = SparseBackward(case.model, case.partition, "exact")
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    case.loss().backward()
    optimizer.step()
    sparse.close()


def test_dense_gradients_are_no_reason_to_refuse_and_strangers_are_left_alone():
    case = bert_case()
    sparse = SparseBackward(case.model, case.partition, "exact")
    with sparse.dense():
        case.loss().backward()
    stranger = nn.Linear(2, 2)
    torch.optim.SGD(stranger.parameters(), lr=0.1).step()
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    case.loss().backward()
    optimizer.step()
    sparse.close()


def test_heads_folded_into_the_batch_have_the_plain_gradient_in_detach():
    """Dimension 1 of what its attention computes is frames, as many as there are heads."""

    class Axial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_heads = 4
            self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(16, 16) for _ in range(4))

        def forward(self, x):
            n, frames, tokens, _ = x.shape

            def folded(layer):
                heads = layer(x).view(n, frames, tokens, 4, 4).permute(0, 3, 1, 2, 4)
                return heads.reshape(4 * n, frames, tokens, 4)

            y = nn.functional.scaled_dot_product_attention(*map(folded, (self.q_proj, self.k_proj, self.v_proj)))
            return self.o_proj(y.view(n, 4, frames, tokens, 4).permute(0, 2, 3, 1, 4).reshape(x.shape))

    torch.manual_seed(0)
    model, x = nn.ModuleDict({"axial": Axial()}).double(), torch.randn(3, 4, 5, 16, dtype=torch.float64)
    model["axial"](x).square().sum().backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    sparse = SparseBackward(model, partition_model(model), "detach")
    sparse.set_active({"layer0.head1"})
    model["axial"](x).square().sum().backward()
    leaves = dict(sparse.named_parameters())
    for name in ("q_proj", "k_proj", "v_proj"):
        got = leaves[f"axial.{name}.weight[4:8]"].grad
        torch.testing.assert_close(got, plain[f"axial.{name}.weight"][4:8])


def test_garbage_collected_between_the_hooks_of_a_step_disturbs_no_step():
    """Hooks of a model that is gone are taken out, but not while an optimizer goes through them."""
    case = bert_case()
    other = [SparseBackward(case.model, case.partition, "exact")]
    weights = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weights], lr=0.1)

    def collect(*args):
        other.clear()
        del case.model
        gc.collect()

    optimizer.register_step_post_hook(collect)
    gone = weakref.ref(other[0])
    weights.sum().backward()
    optimizer.step()
    assert gone() is None
