"""What people do to a wrapped model: it is right, or it is refused before anything trains wrongly."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from mat import MAT, Controller, InputError, partition_model
from mat.backward.sparse import SparseBackward
from mat.partition.partition import Module, Partition, Slice
from tests.cases import bert_case, vgg_case
from tests.zoo import animal, quietly


def chain(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).double()


def rows(model, **modules):
    """A partition of named modules: path=[(parameter, start, stop), …], along dimension 0."""
    return Partition.of(
        model,
        [
            Module(name, "layer", i, tuple(Slice(p, 0, a, b) for p, a, b in pieces))
            for i, (name, pieces) in enumerate(modules.items())
        ],
    )


def gradients(sparse):
    return {name: leaf.grad for name, leaf in sparse.named_parameters()}


class Scaled(nn.Linear):
    """A subclass whose forward is more than the product."""

    def forward(self, input):
        return 2 * super().forward(input)


@pytest.mark.parametrize("mode", ["exact", "detach"])
def test_a_layer_whose_forward_is_more_than_its_product_is_not_replaced_by_it(mode):
    model = chain(nn.Linear(4, 4), Scaled(4, 4))
    x = torch.randn(3, 4).double()
    with pytest.raises(InputError, match="'1' is a Scaled, or has a forward"):
        SparseBackward(model, rows(model, a=[("1.weight", 0, 2)]), mode)
    patched = chain(nn.Linear(4, 4))
    patched[0].forward = lambda input: F.linear(input, patched[0].weight) * 3
    with pytest.raises(InputError, match="'0' is a Linear, or has a forward"):
        SparseBackward(patched, rows(patched, a=[("0.weight", 0, 2)]), mode)
    assert not any("zero_grad" in vars(m) for m in (model, patched)), "a refused model is left as it was"
    whole = SparseBackward(model, rows(model, a=[("1.weight", 0, 4), ("1.bias", 0, 4)]), mode)
    assert torch.equal(model(x), 2 * F.linear(model[0](x), model[1].weight, model[1].bias))
    model(x).sum().backward()
    assert all(gradient is not None for gradient in gradients(whole).values())
    whole.close()


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize(
    "reparametrise",
    [torch.nn.utils.parametrizations.weight_norm, functools.partial(prune.l1_unstructured, name="weight", amount=0.3)],
)
def test_computed_weights_train_as_wholes_and_are_refused_in_slices(reparametrise, mode):
    model = chain(nn.Linear(4, 4), nn.Linear(4, 2))
    reparametrise(model[0])
    names = [name for name, _ in model[0].named_parameters(prefix="0") if name != "0.bias"]
    with pytest.raises(InputError, match="parametrisation of its own"):
        SparseBackward(model, rows(model, a=[(names[-1], 0, 1), ("0.bias", 0, 1)]), mode)
    sizes = {name: len(p) for name, p in model.named_parameters()}
    sparse = SparseBackward(model, rows(model, a=[(name, 0, sizes[name]) for name in [*names, "0.bias"]]), mode)
    model(torch.randn(3, 4).double()).square().sum().backward()
    assert all(leaf.grad is not None for leaf in sparse.module_parameters("a"))
    sparse.close()


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("layer", [lambda: nn.Linear(4, 4), lambda: nn.Conv2d(4, 4, 1)])
def test_a_frozen_weight_under_a_trainable_bias_lets_gradients_through(layer, mode):
    """Biases as modules, as in BitFit: with all of them active every one has its full gradient."""
    model = chain(*(layer() for _ in range(3)))
    for one in model:
        one.weight.requires_grad_(False)
    partition = rows(model, **{f"b{i}{h}": [(f"{i}.bias", 2 * h, 2 * h + 2)] for i in range(3) for h in (0, 1)})
    x = torch.randn(2, 4, 3, 3).double() if isinstance(model[0], nn.Conv2d) else torch.randn(2, 4).double()
    model(x).square().sum().backward()
    dense = [one.bias.grad.clone() for one in model]
    sparse = SparseBackward(model, partition, mode)
    sparse.set_active([*partition.names[:-1]])
    model(x).square().sum().backward()
    found = [sparse.module_parameters(name)[0].grad for name in partition.names]
    assert found[-1] is None
    for i, gradient in enumerate(found[:-1]):
        torch.testing.assert_close(gradient, dense[i // 2][2 * (i % 2) : 2 * (i % 2) + 2])


def test_a_module_that_owns_a_containers_parameter_does_not_close_the_way_around():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.inner = nn.Parameter(torch.ones(1, 4)), nn.Linear(4, 4)

        def forward(self, x):
            return x + self.scale * self.inner(x)

    model = chain(nn.Linear(4, 4), Block(), nn.Linear(4, 2))
    partition = rows(model, low=[("0.weight", 0, 4)], block=[("1.scale", 0, 1)])
    sparse = SparseBackward(model, partition, "detach")
    sparse.set_active(["low"])
    model(torch.randn(3, 4).double()).sum().backward()
    assert model[0].weight.grad.any() and model[1].inner.weight.grad.any() and model[1].scale.grad is None
    sparse.close()


def test_a_partition_of_another_model_or_of_what_was_frozen_since_is_refused():
    model = chain(nn.Linear(4, 4), nn.Linear(4, 4))
    partition = rows(model, a=[("1.weight", 0, 4)])
    with pytest.raises(InputError, match=r"made of another model: it has '1.weight' .* has no such parameter"):
        SparseBackward(chain(nn.Linear(4, 4)), partition)
    model[1].requires_grad_(False)
    with pytest.raises(InputError, match=r"'1\.weight' was frozen after the partition was made"):
        SparseBackward(model, partition)


@pytest.mark.parametrize("mode", ["exact", "detach"])
def test_a_layer_in_several_places_trains_as_one_and_a_weight_of_several_layers_is_refused(mode):
    layer = nn.Linear(4, 4)
    model, x = chain(layer, nn.Tanh(), layer, nn.Linear(4, 2)), torch.randn(3, 4).double()
    model(x).sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    partition = rows(model, a=[("0.weight", 0, 4), ("0.bias", 0, 4)], b=[("3.weight", 0, 2)])
    sparse = SparseBackward(model, partition, mode)
    model(x).sum().backward()
    assert gradients(sparse).keys() == expected.keys()
    for name, gradient in gradients(sparse).items():
        torch.testing.assert_close(gradient, expected[name])
    sparse.close()
    model[0] = nn.Linear(4, 4).double()
    model[0].weight = layer.weight
    with pytest.raises(InputError, match=r"'0\.weight' is tied"):
        SparseBackward(model, partition, mode)


def test_zero_grad_of_the_model_clears_the_slices():
    case, plain = bert_case(), bert_case()
    sparse = SparseBackward(case.model, case.partition, "exact")
    for one, parameters in ((case, sparse.parameters()), (plain, plain.model.parameters())):
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        for _ in range(3):
            one.model.zero_grad()
            one.loss().backward()
            optimizer.step()
    for key, value in plain.model.state_dict().items():
        torch.testing.assert_close(case.model.state_dict()[key], value)
    case.model.zero_grad(set_to_none=False)
    assert all(g is not None and not g.any() for g in gradients(sparse).values())
    sparse.close()
    assert "zero_grad" not in vars(case.model)


def stepped(case, break_it):
    controller = Controller(case.model, case.partition, MAT(mode="exact"), case.inputs, every=100)
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
    controller.adopt(optimizer)
    controller.sparse.set_active(case.partition.names)
    optimizer = break_it(case, controller) or optimizer
    case.loss().backward()
    optimizer.step()


def moved(case, controller):
    case.model.float()
    case.inputs = {k: v.float() if v.is_floating_point() else v for k, v in case.inputs.items()}


def assigned(case, controller):
    case.model.load_state_dict({k: v.clone() for k, v in case.model.state_dict().items()}, assign=True)


def frozen(case, controller):
    case.model.features[0].requires_grad_(False)


def second_optimizer(case, controller):
    return torch.optim.AdamW(case.model.parameters())


def selection_between(case, controller):
    controller.sparse.set_active(case.partition.names[:1])
    loss = case.loss()
    controller.sparse.set_active(case.partition.names[1:])
    loss.backward()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (moved, "moved or replaced after wrapping"),
        (assigned, "moved or replaced after wrapping"),
        (frozen, "was frozen after wrapping"),
        (second_optimizer, "holds .* as a whole, but its slices have the gradients"),
        (selection_between, "changed between a forward pass and its backward pass"),
    ],
)
def test_what_would_train_wrongly_is_refused_at_the_next_step(break_it, message):
    with pytest.raises(InputError, match=message):
        stepped((bert_case if break_it is moved else vgg_case)(), break_it)


def test_a_step_between_a_forward_pass_and_its_backward_pass_is_noticed_as_ever():
    case = bert_case()
    sparse = SparseBackward(case.model, case.partition, "exact")
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    case.loss().backward()
    loss = case.loss()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    sparse.close()


@pytest.mark.parametrize("build", [bert_case, vgg_case])
def test_functional_calls_differentiate_what_they_are_given(build):
    case = build()
    sparse = SparseBackward(case.model, case.partition, "detach")
    sparse.set_active(case.partition.names[:1])
    lent = {k: v.detach().clone().requires_grad_() for k, v in case.model.named_parameters()}
    output = torch.func.functional_call(case.model, lent, kwargs=case.inputs)
    output = output if isinstance(output, torch.Tensor) else output.logits
    found = torch.autograd.grad(output.square().sum(), list(lent.values()), allow_unused=True)
    assert [name for name, g in zip(lent, found, strict=True) if g is None] == [] and not any(
        g is not None for g in gradients(sparse).values()
    )
    sparse.close()


@pytest.mark.parametrize("name", ["vit", "bert", "gpt2"])
def test_forward_results_are_the_same_bits_with_everything_active(name):
    one = animal(name)
    one.model.float().eval()
    one.inputs = {k: v.float() if v.is_floating_point() else v for k, v in one.inputs.items()}
    partition = quietly(one.model)
    before = one.model(**one.inputs)
    sparse = SparseBackward(one.model, partition, "detach")
    after = one.model(**one.inputs)
    sparse.close()
    before, after = (out if isinstance(out, torch.Tensor) else out.logits for out in (before, after))
    assert torch.equal(before, after)


def test_multihead_attention_rounds_as_the_plain_one():
    """Its inputs are not contiguous, and how they are folded depends on whether the weight is to be trained."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(256, 4, 512, 0.0, batch_first=True)
    x = torch.randn(2, 64, 256)
    before = model(x)
    sparse = SparseBackward(model, partition_model(model), "exact")
    assert torch.equal(model(x), before)
    sparse.close()


def test_images_without_a_batch_and_scalars_and_norms_of_two_dimensions():
    model = chain(nn.Conv2d(2, 4, 1))
    sparse = SparseBackward(model, rows(model, a=[("0.weight", 0, 2)]), "detach")
    model(torch.randn(2, 3, 3).double()).sum().backward()
    assert sparse.module_parameters("a")[0].grad.any()
    sparse.close()

    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.t = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return x * self.t

    model = Scalar()
    sparse = SparseBackward(model, rows(model, a=[("t", 0, 1)]), "detach")
    model(torch.ones(3)).sum().backward()
    assert model.t.grad == 3
    sparse.close()
    model = chain(nn.LayerNorm((4, 6)))
    partition = Partition.of(
        model, [Module(n, "layer", 0, (Slice("0.weight", 1, a, a + 3),)) for n, a in (("a", 0), ("b", 3))]
    )
    sparse = SparseBackward(model, partition, "exact")
    sparse.set_active(["b"])
    x = torch.randn(5, 4, 6).double()
    model(input=x).square().sum().backward()
    (leaf,) = sparse.module_parameters("b")
    weight = torch.ones(4, 6).double().requires_grad_()
    F.layer_norm(x, (4, 6), weight, torch.zeros(4, 6).double()).square().sum().backward()
    torch.testing.assert_close(leaf.grad, weight.grad[:, 3:])
    with pytest.raises(InputError, match="does not fit"):
        Partition.of(model, [Module("a", "layer", 0, (Slice("0.weight", -1, 0, 3),))])
