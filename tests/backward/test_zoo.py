"""The sparse backward pass on unmodified models of every family, and in what a training loop may do with it."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.flops.executed import executed_macs
from mat.partition.partition import Module, Partition, Slice
from tests.cases import logits, moved
from tests.naive_detach import constants
from tests.rounding import ROUNDING
from tests.zoo import ZOO, animal, quietly

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}
on_devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")),
    ],
)


def on(device, one):
    one.model.to(device)
    one.inputs = {name: value.to(device) for name, value in one.inputs.items()}
    return one


def scalar(output):
    """Not a sum: its gradient must differ from entry to entry."""
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype, device=output.device)
    return (output * weights.view_as(output)).sum()


def loss(one, training=False):
    one.model.train(training)
    # torch.manual_seed would record a stack trace each time
    torch.default_generator.manual_seed(0)
    return scalar(logits(one.model, one.inputs))


def dense_gradients(one, training=False):
    one.model.zero_grad(set_to_none=True)
    loss(one, training).backward()
    found = {name: p.grad for name, p in one.model.named_parameters()}
    one.model.zero_grad(set_to_none=True)
    return found


def sparse_gradients(one, partition, mode, active, training=False):
    sparse = SparseBackward(one.model, partition, mode)
    try:
        sparse.set_active(active)
        loss(one, training).backward()
        return {piece: leaf.grad for piece, leaf in sparse.leaves.items()}
    finally:
        sparse.close()
        one.model.zero_grad(set_to_none=True)


def assert_same(partition, active, reference, got):
    for module in [*partition.modules, Module("remainder", "", 0, partition.remainder)]:
        for piece in module.slices:
            if module.name not in active and module.name != "remainder":
                assert got[piece] is None, f"inactive {module.name} has a gradient in {piece}"
                continue
            wanted = reference[piece.parameter]
            if wanted is None or got[piece] is None:
                assert wanted is None or not piece.of(wanted).any(), f"{module.name} has no gradient in {piece}"
                assert got[piece] is None or not got[piece].any(), f"{module.name}: a gradient too many"
                continue
            torch.testing.assert_close(got[piece], piece.of(wanted), **TOLERANCE, msg=lambda m, p=piece: f"{p}: {m}")


@functools.cache
def prepared(name, device):
    one = on(device, animal(name))
    return one, quietly(one.model, filter_groups=2)


@on_devices
@pytest.mark.parametrize("name", sorted(ZOO))
@settings(max_examples=6)
@given(data=st.data())
def test_exact_gives_active_modules_their_full_gradient(name, device, data):
    one, partition = prepared(name, device)
    active = data.draw(st.sets(st.sampled_from(partition.names)))
    assert_same(partition, active, dense_gradients(one), sparse_gradients(one, partition, "exact", active))


@on_devices
@pytest.mark.parametrize("name", sorted(ZOO))
@settings(max_examples=6)
@given(data=st.data())
def test_detach_equals_products_cut_and_detached_by_hand(name, device, data):
    one, partition = prepared(name, device)
    active = data.draw(st.sets(st.sampled_from(partition.names)))
    with constants(one.model, partition, active):
        reference = dense_gradients(one)
    assert_same(partition, active, reference, sparse_gradients(one, partition, "detach", active))


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "resnet", "switch", "t5"])
def test_whole_layers(name, mode):
    """Layers own norms of the model's own classes too: those let the residual path's gradient through."""
    one = animal(name)
    partition = quietly(one.model, layers=True)
    active = set(partition.names[::2])
    dense = dense_gradients(one)
    got = sparse_gradients(one, partition, mode, active)
    if mode == "exact":
        assert_same(partition, active, dense, got)
    else:
        with constants(one.model, partition, active):
            assert_same(partition, active, dense_gradients(one), got)
    assert all(p.requires_grad for p in one.model.parameters())


def test_a_layer_of_an_unknown_type_can_be_a_module_only_as_a_whole():
    model = nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 4))
    model.forward = lambda x: model[1](model[0](x), model[0](x))
    x = torch.randn(3, 4)

    def partition(stop):
        slices = (Slice("1.weight", 0, 0, stop), Slice("1.bias", 0, 0, stop))
        return Partition.of(model, [Module("b", "layer", 0, slices)])

    with pytest.raises(InputError, match="'1' is a Bilinear, or has a forward"):
        SparseBackward(model, partition(2))
    for mode, below in (("exact", True), ("detach", False)):
        sparse = SparseBackward(model, partition(4), mode)
        sparse.set_active([])
        output = model(x).sum()
        assert output.requires_grad is below  # a constant has nothing to send back
        if below:
            output.backward()
        assert model[1].weight.grad is None and (model[0].weight.grad is not None) is below
        sparse.close()
        model.zero_grad()


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "vit", "hf_vit", "llama", "switch"])
def test_dropout_keeps_its_random_stream_and_its_gradients(name):
    """In training mode, dropout on attention weights included: same numbers drawn, same outputs, same gradients."""
    one = animal(name)
    for module in one.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
        for attribute in ("attention_dropout", "dropout_prob", "attn_dropout", "dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.3)
    partition = quietly(one.model)
    active = set(partition.names[1::2])
    one.model.train()
    torch.manual_seed(0)
    plain = logits(one.model, one.inputs).detach()
    with constants(one.model, partition, active):
        reference = dense_gradients(one, training=True)
    sparse = SparseBackward(one.model, partition, "detach")
    sparse.set_active(active)
    torch.manual_seed(0)
    wrapped = logits(one.model, one.inputs).detach()
    after = torch.rand(1)
    sparse.close()
    torch.manual_seed(0)
    assert not torch.equal(logits(one.model.eval(), one.inputs), plain), "nothing was dropped"
    torch.manual_seed(0)
    logits(one.model.train(), one.inputs)
    assert torch.equal(after, torch.rand(1)), "the streams have parted"
    torch.testing.assert_close(wrapped, plain, rtol=1e-12, atol=1e-12)
    assert_same(partition, active, reference, sparse_gradients(one, partition, "detach", active, training=True))


@on_devices
@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "vgg", "vit", "t5", "resnet"])
def test_bfloat16_autocast(name, mode, device):
    """Under autocast the sparse gradients are those of plain PyTorch under autocast, to bfloat16's rounding."""
    one = animal(name)
    on(device, one).model.float()
    one.inputs = {k: v.float() if v.is_floating_point() else v for k, v in one.inputs.items()}
    partition = quietly(one.model, filter_groups=2)
    active = set(partition.names[::2])
    full = dense_gradients(one) if mode == "exact" else None
    with torch.autocast(device, dtype=torch.bfloat16):
        if mode == "exact":
            reference = dense_gradients(one)
        else:
            with constants(one.model, partition, active):
                reference = dense_gradients(one)
        got = sparse_gradients(one, partition, mode, active)
    for module in partition.modules:  # as a whole: a key's bias has a gradient of rounding errors only
        if module.name in active and reference[module.slices[0].parameter] is not None:
            wanted, found = (
                torch.cat([part.flatten() for part in parts])
                for parts in zip(*((p.of(reference[p.parameter]), got[p]) for p in module.slices), strict=True)
            )
            assert found.dtype == torch.float32
            assert (found - wanted).norm() <= 0.02 * wanted.norm(), module.name
    if full is not None:  # control: it did run in bfloat16
        assert any(not torch.allclose(full[n], reference[n], rtol=1e-5) for n in full if reference[n] is not None)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_gradient_checkpointing(name, mode, reentrant):
    one = animal(name)
    partition = quietly(one.model)
    active = set(partition.names[::2])
    calls = []
    for module in one.model.modules():
        module.register_forward_hook(lambda *_: calls.append(1))
    reference = sparse_gradients(one, partition, mode, active, training=True)
    once = len(calls)
    one.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    one.model.enable_input_require_grads()
    got = sparse_gradients(one, partition, mode, active, training=True)
    assert len(calls) > 2 * once, "nothing was computed again"
    for piece, gradient in reference.items():
        assert (gradient is None) == (got[piece] is None), piece
        if gradient is not None:
            torch.testing.assert_close(got[piece], gradient, **TOLERANCE)


@pytest.mark.parametrize(("name", "mode"), [("vit", "detach"), ("vit", "exact"), ("resnet", "detach_residual")])
def test_a_compiled_forward_follows_the_active_set_and_gives_gradients_where_the_plain_one_does(name, mode):
    one = animal(name)
    one.model.eval()
    partition = quietly(one.model, filter_groups=2)
    torch._dynamo.reset()
    sparse = SparseBackward(one.model, partition, mode)
    sparse.look(one.inputs)
    compiled = torch.compile(one.model, backend="aot_eager")
    for start in (0, 1) if name == "vit" else (0,):
        active = set(partition.names[start::2])
        sparse.set_active(active)
        found = []
        for model in (one.model, compiled):
            for leaf in sparse.parameters():
                leaf.grad = None
            scalar(logits(model, one.inputs)).backward()
            found.append([(n, leaf.grad) for n, leaf in sparse.named_parameters()])
        for (leaf, plain), (_, fast) in zip(*found, strict=True):
            assert (plain is None) == (fast is None), leaf
            if plain is not None:
                torch.testing.assert_close(fast, plain, **TOLERANCE)
    sparse.close()
    torch._dynamo.reset()


def test_a_parameter_beside_layers_that_only_constants_read_gets_no_gradient_in_a_compiled_model_either():
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift, self.up = nn.Parameter(torch.ones(4)), nn.Linear(4, 4)

        def forward(self, x):
            y = 3 * x
            return y + self.up(y + self.shift)

    model = nn.Sequential(nn.Linear(3, 4), Shifted(), nn.Linear(4, 2))
    module = Module("up", "layer", 0, (Slice("1.up.weight", 0, 0, 4), Slice("1.up.bias", 0, 0, 4)))
    sparse = SparseBackward(model, Partition.of(model, [module]), "detach")
    sparse.set_active(())
    torch._dynamo.reset()
    torch.compile(model, backend="aot_eager")(torch.randn(5, 3)).sum().backward()
    assert {n for n, leaf in sparse.named_parameters() if leaf.grad is None} == {"1.up.weight", "1.up.bias", "1.shift"}
    sparse.close()
    torch._dynamo.reset()


@on_devices
@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
def test_fused_steps_are_the_plain_ones_and_leave_inactive_columns_alone(name, optimizer, device):
    """Fused steps read memory in a row: leaves that are columns must be dense (a fused step over a leaf with gaps
    writes into its neighbours)."""
    finals, largest = [], 0.0
    for fused in (False, True):
        one = on(device, animal(name))
        partition = quietly(one.model)
        sparse = SparseBackward(one.model, partition, "detach")
        opt = optimizer(sparse.parameters(), lr=0.01, weight_decay=0.1, fused=fused)
        for active in (partition.names, partition.names[::2]):
            sparse.set_active(active)
            before = {n: p.detach().clone() for n, p in one.model.named_parameters()}
            for _ in range(2):
                opt.zero_grad()
                loss(one).backward()
                largest = max(largest, *(float(p.grad.abs().max()) for p in sparse.parameters() if p.grad is not None))
                opt.step()
        finals.append({n: p.detach().clone() for n, p in one.model.named_parameters()})
        for module in partition.modules:
            assert set(moved(module, before, finals[-1])) == {module.name in active}, module.name
    # four steps of AdamW move an entry without gradient by lr / 1e-8 times what rounding makes of it
    bound = 4 * 0.01 / 1e-8 * ROUNDING * largest
    for key, value in finals[0].items():
        torch.testing.assert_close(finals[1][key], value, rtol=ROUNDING, atol=bound)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_unwrapping_leaves_no_trace(name):
    one = animal(name)
    partition = quietly(one.model, filter_groups=2)

    def trace():
        tensors = [(k, v.stride(), v.clone()) for k, v in one.model.state_dict().items()]
        flags = [(p.requires_grad, p.grad) for p in one.model.parameters()]
        return tensors, flags, [(type(m), sorted(vars(m))) for m in one.model.modules()]

    loss(one)  # some forward passes leave attributes behind
    before = trace()
    sparse = SparseBackward(one.model, partition, "detach")
    sparse.set_active(partition.names[::2])
    assert [(k, v.shape) for k, v in one.model.state_dict().items()] == [(k, v.shape) for k, _, v in before[0]]
    loss(one).backward()
    sparse.close()
    one.model.zero_grad(set_to_none=True)
    after = trace()
    assert after[1:] == before[1:]
    for (key, stride, value), (same, steps, now) in zip(before[0], after[0], strict=True):
        assert (key, stride) == (same, steps) and torch.equal(value, now)


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", sorted(ZOO))
def test_whole_layers_leave_the_bits_of_the_forward_pass(name, mode):
    """Whatever sleeps: an attention chooses its kernel by what takes a gradient, a table of position biases too."""
    one = animal(name)
    one.model.eval()
    partition = quietly(one.model, layers=True)
    before = logits(one.model, one.inputs).detach()
    sparse = SparseBackward(one.model, partition, mode)
    for active in ([], partition.names[::2], partition.names):
        sparse.set_active(active)
        assert torch.equal(logits(one.model, one.inputs), before), len(active)
    sparse.close()


def test_nothing_below_the_lowest_module_that_trains_is_differentiated():
    """With everything frozen but the last layer's modules the backward pass ends at the lowest active one."""
    one = animal("gpt2")
    one.model.requires_grad_(False)
    top = one.model.transformer.h[1]
    for part in (top.attn, top.mlp):
        part.requires_grad_()
    partition = quietly(one.model)
    assert {m.name.split(".")[0] for m in partition.modules} == {"layer1"} and len(partition.modules) == 3
    sparse = SparseBackward(one.model, partition, "detach")
    for attribute in ("attn", "mlp"):  # the biases of the outputs are the remainder, and would always train
        getattr(top, attribute).c_proj.bias.requires_grad_(False)
    forward, _ = executed_macs(lambda: logits(one.model, one.inputs))
    counts = {}
    for active in ((), ("layer1.ffn",), ("layer1.head0",)):
        sparse.set_active(active)

        def step():
            output = loss(one)
            if output.requires_grad:
                output.backward()

        counts[active] = executed_macs(step)[0] - forward
    batch, length, d, f, words = 3, 5, 8, 32, 13
    tokens, width = batch * length, d // 2
    head = tokens * d * words  # the output head is frozen: its input's gradient only
    scores = 4 * batch * length * length * width
    assert counts[()] == 0
    assert counts[("layer1.ffn",)] == head + tokens * 3 * d * f  # both weights, and between them one input
    # the feed-forward part is a constant; W_O's columns and what goes through them; the rows of Q, K, V
    assert counts[("layer1.head0",)] == head + tokens * 2 * d * width + scores + tokens * 3 * width * d


def test_the_gradient_of_constant_filters_is_not_computed_above_them():
    """Counted by hand in a chain of convolutions; where something else reads the gradient it is computed in full."""

    def count(between, stop=2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), between, nn.Conv2d(4, 6, 3, padding=1)).double()
        groups = [("low", "0", 0, 2), ("rest", "0", 2, 4), ("high", "2", 0, 6)]
        partition = Partition.of(
            model,
            [
                Module(name, "filters", 0, tuple(Slice(f"{path}.{part}", 0, a, b) for part in ("weight", "bias")))
                for name, path, a, b in groups
            ],
        )
        x = torch.randn(5, 2, 4, 4).double()
        one = type("", (), {"model": model, "inputs": {"input": x}})()
        active = {"low", "high"}
        with constants(model, partition, active):
            reference = dense_gradients(one)
        assert_same(partition, active, reference, sparse_gradients(one, partition, "detach", active))
        sparse = SparseBackward(model, partition, "detach")
        sparse.set_active(active)
        macs, _ = executed_macs(lambda: scalar(model(x)).backward())
        sparse.close()
        return macs // (9 * 5 * 16)

    forward, weights, wanted, full = 2 * 4 + 4 * 6, 2 * 2 + 4 * 6, 2 * 6, 4 * 6
    assert count(nn.ReLU()) == forward + weights + wanted
    assert count(nn.Sequential(nn.GELU(), nn.Identity())) == forward + weights + wanted
    assert count(nn.PReLU(4)) == forward + weights + full  # its slopes train, and need all of it
    assert count(nn.BatchNorm2d(4)) == forward + weights + full  # so do scale and shift in the remainder
    assert count(nn.Softmax(1)) == forward + weights + full  # channels are not kept apart
