"""What is promised holds in anyone's loop, or is refused: own optimizers, wrappers and lost gradients."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mat import InputError
from mat.backward.promises import EVERY, Promises, fingerprints
from mat.backward.sparse import SparseBackward
from mat.partition.partition import Module, Partition, Slice
from tests.cases import bert_case, vgg_case
from tests.zoo import animal, quietly


class Drifting(torch.optim.Optimizer):
    """Takes no gradient for zero; ``way`` is how it moves what it has."""

    def __init__(self, parameters, way, every=1):
        super().__init__(parameters, {})
        self.way, self.every, self.count = way, every, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            for p in group["params"]:
                if self.count % self.every == 0:
                    self.way(p)


def decay(p):
    p.mul_(0.999)


def decay_unseen(p):
    p.data.mul_(0.999)  # moves no version counter


def by_fixed_step(p):
    p.sub_(1e-3)


def wrapped(mode="exact", keep=1):
    case = bert_case()
    sparse = SparseBackward(case.model, case.partition, mode)
    sparse.set_active(case.partition.names[:keep])
    return case, sparse


def step(case, optimizer):
    case.loss().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("way", [decay, decay_unseen, by_fixed_step])
def test_an_optimizer_that_moves_what_is_asleep_is_refused_at_its_first_step(way):
    case, sparse = wrapped()
    with pytest.raises(InputError, match=r"a step of Drifting has moved modules that are not active \(layer"):
        step(case, Drifting(sparse.parameters(), way))
    sparse.close()


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("scaled", [False, True])
def test_clipping_the_models_own_parameters_passes_slices_by_which_is_said_once(batches, scaled):
    case, sparse = wrapped()
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.0)

    def steps(clipped, count=2):
        for _ in range(count):
            for _ in range(batches):
                case.loss().backward()
            if scaled:  # as a GradScaler divides its scale out
                torch._foreach_div_([leaf.grad for leaf in sparse.parameters() if leaf.grad is not None], 2.0)
            torch.nn.utils.clip_grad_norm_(clipped(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(sparse.parameters)
        steps(lambda: [leaf for leaf in sparse.parameters() if leaf.dim() == 1])  # a rule of somebody's own
    with pytest.warns(UserWarning, match=r"model\.parameters\(\) were changed .* controller\.parameters\(\)") as said:
        steps(case.model.parameters)
    assert len(said) == 1
    sparse.close()
    assert not any(p._post_accumulate_grad_hooks for p in case.model.parameters())


def test_what_an_optimizer_does_now_and_then_is_found_though_nobody_looks_at_every_step():
    _, sparse = wrapped()
    optimizer = Drifting(sparse.parameters(), decay, every=12)
    with pytest.raises(InputError, match="has moved modules"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no gradient reaches anything
        while optimizer.count < 12 * EVERY:
            optimizer.step()
    assert optimizer.count > 12, "control: its first move was not looked at"
    sparse.close()


@pytest.mark.parametrize("then", ["step", "selection", "close"])
def test_where_a_host_does_not_wait_a_broken_promise_is_found_at_the_next_look_a_selection_or_the_end(
    then, monkeypatch
):
    case, sparse = wrapped()
    # as on a device other than the CPU
    monkeypatch.setattr(Promises, "_when_read", lambda self, check, asleep: self._coming.append(check))
    optimizer = Drifting(sparse.parameters(), decay)
    step(case, optimizer)  # nobody has looked
    ways = {"step": optimizer.step, "selection": lambda: sparse.end_turns([]), "close": sparse.close}
    with pytest.raises(InputError, match="has moved modules that are not active"):
        ways[then]()
    sparse.close()
    assert "forward" not in vars(case.model.get_submodule("bert.encoder.layer.0.intermediate.dense"))


def test_every_change_of_a_bit_shows():
    for kind in (torch.float64, torch.float32, torch.bfloat16, torch.complex64, torch.uint8):
        leaf = torch.ones(3, 4).to(kind)[:, ::2]
        before, other = fingerprints([leaf, leaf]), leaf.clone()
        assert torch.equal(fingerprints([leaf, other]), before)
        other.view(-1)[3] = 2
        assert (fingerprints([leaf, other]) != before).tolist() == [False, True]


def test_a_decay_by_hand_is_said_once_and_an_optimizer_that_keeps_its_promise_is_not_blamed():
    case, sparse = wrapped()
    optimizer = torch.optim.AdamW(sparse.parameters(), weight_decay=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(case, optimizer)
        step(case, optimizer)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            step(case, optimizer)
            with torch.no_grad():
                for leaf in sparse.parameters():
                    leaf.mul_(0.999)
    assert ["changed while not active, between two steps" in str(w.message) for w in said] == [True]
    sparse.close()


@pytest.mark.parametrize("closure", [False, True])
def test_an_active_module_that_no_gradient_reaches_is_named_once(closure):
    case = vgg_case(batch_norm=False)
    sparse = SparseBackward(case.model, case.partition, "detach")
    sparse.set_active({name for name in case.partition.names if not name.startswith("conv2")})
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)

    def loss():
        value = case.loss()
        value.backward()
        return value

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            if closure:
                optimizer.step(loss)
            else:
                loss()
                optimizer.step()
    assert [str(w.message).startswith("no gradient reaches conv") for w in said] == [True]
    sparse.close()


def test_gradients_that_a_turn_ends_before_any_step_are_said_to_be_dropped():
    case, sparse = wrapped(keep=2)
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    first, second = case.partition.names[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.loss().backward()
        sparse.end_turns([first, second])
        optimizer.step()
        sparse.end_turns([second])  # they have been in a step
        sparse.model.zero_grad(set_to_none=False)
        sparse.end_turns([second])  # and these are none
        case.loss().backward()
    with pytest.warns(UserWarning, match=f"gradients of {first}, whose turn ends, are dropped"):
        sparse.end_turns([second])
    sparse.close()


@pytest.fixture
def one_process():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_wrapper_that_trains_in_another_way_than_data_parallel_is_refused_whenever_it_comes(one_process):
    case = bert_case()
    outside = DistributedDataParallel(case.model)
    with pytest.raises(InputError, match=r"give ddp\.module"):
        SparseBackward(outside, case.partition)
    sparse = SparseBackward(case.model, case.partition)
    outside(**case.inputs)  # made before
    DistributedDataParallel(case.model)(**case.inputs)  # made afterwards
    for wrapper in (DataParallel, type("DeepSpeedEngine", (nn.Sequential,), {})):
        with pytest.raises(InputError, match=f"does not work with {wrapper.__name__}"):
            wrapper(case.model)
    nn.Sequential(case.model)  # anything else may hold it
    sparse.close()
    DataParallel(case.model)


def as_zero(state, bucket):
    done = torch.futures.Future()
    done.set_result(torch.zeros_like(bucket.buffer()))
    return done


@pytest.mark.parametrize(
    ("options", "change", "what"),
    [
        ({"static_graph": True}, None, "static_graph"),
        ({}, lambda ddp: ddp.register_comm_hook(None, as_zero), "a communication hook"),
        ({}, lambda ddp: setattr(ddp, "_join_config", ddp._join_config._replace(enable=True)), r"its join\(\)"),
    ],
)
def test_what_only_the_reducer_of_ddp_could_follow_is_refused_by_name(one_process, options, change, what):
    case, sparse = wrapped()
    ddp = DistributedDataParallel(case.model, **options)
    if change:
        change(ddp)
    with pytest.raises(InputError, match=f"not with {what}"):
        ddp(**case.inputs)
    sparse.close()


def test_several_processes_without_what_joins_them_are_refused_in_the_first_pass(one_process, monkeypatch):
    case, sparse = wrapped()
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    with torch.no_grad():
        case.loss()
    with sparse.dense():
        case.loss()
    with pytest.raises(InputError, match=r"there are 2 processes, and the model is not called through a Distributed"):
        case.loss()
    sparse.close()


@pytest.mark.parametrize("build", [bert_case, vgg_case])
@pytest.mark.parametrize("mode", ["exact", "detach"])
def test_second_derivatives_are_refused_where_they_are_taken_and_not_before(build, mode):
    case = build()
    sparse = SparseBackward(case.model, case.partition, mode)
    sparse.set_active(case.partition.names[::2])
    leaves = [leaf for leaf in sparse.parameters() if leaf.requires_grad]
    plain, graphed = (torch.autograd.grad(case.loss(), leaves, create_graph=c, allow_unused=True) for c in (0, 1))
    pairs = [(a, b) for a, b in zip(plain, graphed, strict=True) if a is not None]
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(InputError, match="has no second derivatives"):
        sum(b.square().sum() for _, b in pairs).backward()
    sparse.close()


def by_gradients_of_gradients(f, x, leaves):
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(x), x, create_graph=True)
    torch.autograd.grad(first.sum(), leaves, allow_unused=True)


def by_gradients_of_weights(f, x, leaves):
    x = x.clone().requires_grad_()
    found = torch.autograd.grad(f(x), leaves, create_graph=True, allow_unused=True)
    torch.autograd.grad(sum(g.sum() for g in found if g is not None), x, allow_unused=True)


SECOND = {
    "gradients of gradients": by_gradients_of_gradients,
    "gradients of weights": by_gradients_of_weights,
    "hvp": lambda f, x, leaves: torch.autograd.functional.hvp(f, x, x),
    "vhp": lambda f, x, leaves: torch.autograd.functional.vhp(f, x, x),
    "func.grad": lambda f, x, leaves: torch.func.grad(f)(x),
    "func.jvp": lambda f, x, leaves: torch.func.jvp(f, (x,), (x,)),
}


@pytest.mark.parametrize("way", SECOND)
@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("name", ["vgg", "vit", "resnet"])
def test_no_way_to_a_second_derivative_gives_zeros_or_an_error_of_torch(name, mode, way):
    """Asked for with respect to some inputs only, too: autograd goes no path that leads to none of them."""
    one = animal(name)
    one.model.eval()
    partition = quietly(one.model, filter_groups=2)
    sparse = SparseBackward(one.model, partition, mode)
    sparse.set_active(partition.names[::2])
    with pytest.raises(InputError, match="has no second derivatives"):
        SECOND[way](lambda x: one.model(x).square().sum(), one.inputs["x"], list(sparse.parameters()))
    sparse.close()


class Choosing(nn.Module):
    """Two experts, of which a sample takes the first while ``choice`` is 0."""

    def __init__(self):
        super().__init__()
        self.experts, self.choice = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]), 0

    def forward(self, x):
        return self.experts[self.choice](x)


@pytest.mark.parametrize("kind", ["expert", "layer"])
def test_an_expert_that_no_sample_chooses_is_not_said_to_train_never(kind):
    model = Choosing()
    modules = [
        Module(f"e{e}", kind, 0, tuple(Slice(f"experts.{e}.{part}", 0, 0, 4) for part in ("weight", "bias")))
        for e in range(2)
    ]
    sparse = SparseBackward(model, Partition.of(model, modules))
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for choice in (0, 0, 1):
            model.choice = choice
            optimizer.zero_grad()
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
    assert ["no gradient reaches e1" in str(w.message) for w in said] == [True] * (kind == "layer")
    sparse.close()


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.low, self.block, self.top = nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, x):
        h = torch.tanh(self.low(x))
        return self.top(checkpoint(self.block, h, use_reentrant=self.reentrant))


@pytest.mark.parametrize("mode", ["exact", "detach"])
def test_what_reentrant_checkpointing_would_cut_off_is_refused_and_trains_without(mode):
    x, found = torch.randn(4, 6), {}
    for reentrant in (False, True):
        model = Checkpointed(reentrant)
        owned = {"low": ["low.weight", "low.bias"], "block": ["block.0.weight", "block.0.bias"]}
        modules = [
            Module(name, "layer", i, tuple(Slice(p, 0, 0, 8) for p in owned[name])) for i, name in enumerate(owned)
        ]
        sparse = SparseBackward(model, Partition.of(model, modules), mode)
        sparse.set_active(["block"])
        if reentrant:
            optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
            model(x).sum().backward()
            with pytest.raises(InputError, match="reentrant checkpointing cuts off the gradient of block"):
                optimizer.step()
            with torch.no_grad():
                model(x)  # nobody wants a gradient
            sparse.set_active(["low", "block"])
        model(x).sum().backward()
        found[reentrant] = model.block[0].weight.grad
        sparse.close()
    assert torch.equal(found[True], found[False])
