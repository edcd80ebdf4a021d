"""Every optimizer of torch.optim, adopted: against plain PyTorch, with inactive modules, through checkpoints."""

import copy
import functools
import io

import pytest
import torch

from mat import MAT, Controller, InputError, Slice
from mat.backward.optimizer_state import merge_state, split_state
from mat.methods.multirate import Multirate
from mat.methods.vanilla import Vanilla
from tests.cases import bert_case, moved, vgg_case
from tests.rounding import ROUNDING, assert_same_weights, largest_gradient, spread

STEPS = 4
o = torch.optim
ELEMENTWISE = {
    "sgd": lambda p, **k: o.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1, **k),
    "adam": lambda p, **k: o.Adam(p, lr=0.01, amsgrad=True, **k),
    "adamw": lambda p, **k: o.AdamW(p, lr=0.01, weight_decay=0.1, **k),
    "adamax": lambda p, **k: o.Adamax(p, lr=0.01, **k),
    "nadam": lambda p, **k: o.NAdam(p, lr=0.01, weight_decay=0.1, **k),
    "radam": lambda p, **k: o.RAdam(p, lr=0.01, **k),
    "rmsprop": lambda p, **k: o.RMSprop(p, lr=0.01, momentum=0.9, centered=True, **k),
    "rprop": lambda p, **k: o.Rprop(p, lr=0.01, **k),
    "adagrad": lambda p, **k: o.Adagrad(p, lr=0.05, lr_decay=0.1, initial_accumulator_value=0.1, **k),
    "adadelta": lambda p, **k: o.Adadelta(p, lr=0.5, **k),
    "asgd": lambda p, **k: o.ASGD(p, lr=0.05, t0=1, **k),
}
# these use means or products over a whole matrix; adopted, over each slice: not what plain training does
BY_MATRIX = {"adafactor": lambda p, **k: o.Adafactor(p, lr=0.05, **k), "muon": lambda p, **k: o.Muon(p, lr=0.05)}
EVERY = {**ELEMENTWISE, **BY_MATRIX}
WAYS = [(name, {"foreach": foreach}) for name in EVERY for foreach in (False, True)]
WAYS += [(name, {"fused": True}) for name in ("sgd", "adam", "adamw", "adagrad")]


def built(model, name, **options):
    """The optimizer ``name`` over all parameters; Muon takes matrices only and leaves the rest to SGD."""
    if name != "muon":
        return [EVERY[name](model.parameters(), **options)]
    matrices, rest = ([p for p in model.parameters() if (p.dim() == 2) is two] for two in (True, False))
    return [EVERY[name](matrices), o.SGD(rest, lr=0.05, momentum=0.9)]


def controlled(case, optimizers, method=None):
    controller = Controller(case.model, case.partition, method or MAT(mode="exact"), case.inputs, every=100)
    controller.adopt(*optimizers)
    return controller


def train(case, optimizers, steps, change=lambda model: None):
    for _ in range(steps):
        case.loss().backward()
        change(case.model)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


@functools.cache
def allowed(build, name):
    """What rounding makes of ``STEPS`` steps of plain training."""

    def run(change):
        case = build()
        train(case, built(case.model, name), STEPS, change)
        return case.model

    return spread(run)


def weights(case):
    return {name: value.clone() for name, value in case.model.state_dict().items()}


def saved(optimizer):
    """Through a file, as a later process reads it."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def flat(value, path=()):
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, (*path, key)).items()}
    if isinstance(value, list | tuple):
        return flat(dict(enumerate(value)), path)
    return {path: value}


def same(a, b):
    a, b = flat(a), flat(b)
    return a.keys() == b.keys() and all(
        torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k] for k, v in a.items()
    )


@pytest.mark.parametrize(
    ("name", "build", "way"),
    [(name, vgg_case if way.get("foreach") else bert_case, way) for name, way in WAYS if name in ELEMENTWISE],
)
def test_with_all_modules_active_it_is_plain_training(name, build, way):
    case, plain = build(), build()
    adopted, reference = (built(one.model, name, **way) for one in (case, plain))
    controlled(case, adopted)
    train(case, adopted, STEPS)
    train(plain, reference, STEPS)
    assert_same_weights(case.model, plain.model, allowed(build, name))


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_inactive_modules_do_not_move_by_a_bit(name, way):
    case = bert_case()
    optimizers = built(case.model, name, **way)
    controller = controlled(case, optimizers)
    train(case, optimizers, 3)
    active = set(case.partition.names[::2])
    controller.sparse.set_active(active)
    before = weights(case)
    train(case, optimizers, 3)
    after = weights(case)
    for module in case.partition.modules:
        assert any(moved(module, before, after)) == (module.name in active), module.name


@pytest.mark.parametrize("name", EVERY)
def test_a_module_has_state_once_it_has_trained(name):
    """Adagrad makes its state when it is built, so there all slices have theirs from the start."""
    case = bert_case()
    optimizers = built(case.model, name)
    controller = controlled(case, optimizers)
    controller.sparse.set_active({"layer1.head0"})
    train(case, optimizers, 1)
    for module in ("layer1.head0", "layer0.head1"):
        leaves = controller.sparse.module_parameters(module)
        stated = [any(optimizer.state.get(leaf) for optimizer in optimizers) for leaf in leaves]
        assert set(stated) == {module == "layer1.head0" or name == "adagrad"}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_state_from_before_adoption_is_kept(name):
    case, plain = bert_case(), bert_case()
    adopted, reference = built(case.model, name), built(plain.model, name)
    train(case, adopted, 2)
    controlled(case, adopted)
    train(case, adopted, 2)
    train(plain, reference, STEPS)
    assert_same_weights(case.model, plain.model, allowed(bert_case, name))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_state_survives_closing_where_all_slices_trained_equally(name):
    case, plain = vgg_case(), vgg_case()
    adopted, reference = built(case.model, name), built(plain.model, name)
    controller = controlled(case, adopted)
    train(case, adopted, 2)
    controller.close()
    train(case, adopted, 2)
    train(plain, reference, STEPS)
    assert_same_weights(case.model, plain.model, allowed(vgg_case, name))


def test_unequally_trained_slices_leave_no_state_behind():
    case = bert_case()
    optimizers = built(case.model, "adamw")
    controller = controlled(case, optimizers)
    train(case, optimizers, 1)
    controller.sparse.set_active({"layer1.head0"})
    train(case, optimizers, 1)
    controller.close()
    stated = {name for name, p in case.model.named_parameters() if p in optimizers[0].state}
    assert "bert.encoder.layer.1.attention.self.query.weight" not in stated
    assert {"bert.encoder.layer.0.attention.self.query.weight", "cls.predictions.bias"} <= stated
    train(case, optimizers, 1)


@pytest.mark.parametrize("name", EVERY)
def test_resuming_is_exact(name):
    """Uneven training before the checkpoint: some slices have no state, others have made fewer steps."""
    ways = []
    for order in ("whole", "adopted, then loaded", "loaded, then adopted"):
        case = bert_case()
        case.model.float()  # torch itself casts NAdam's products to a double's precision when it loads them
        optimizers = built(case.model, name)
        controller = controlled(case, optimizers)
        controller.sparse.set_active(case.partition.names[::2])
        train(case, optimizers, 2)
        controller.sparse.set_active(case.partition.names[1:4])
        train(case, optimizers, 1)
        states = [saved(optimizer) for optimizer in optimizers]
        if order != "whole":
            later = bert_case()
            later.model.float()
            later.model.load_state_dict(case.model.state_dict())
            fresh = built(later.model, name)
            if order == "adopted, then loaded":
                controller = controlled(later, fresh)
            for optimizer, state in zip(fresh, states, strict=True):
                optimizer.load_state_dict(state)
            if order == "loaded, then adopted":
                controller = controlled(later, fresh)
            case, optimizers = later, fresh
            assert all(same(saved(one), state) for one, state in zip(optimizers, states, strict=True))
        controller.sparse.set_active(case.partition.names[2:5])
        before = [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers]
        train(case, optimizers, 2)
        ways.append((weights(case), [optimizer.state_dict() for optimizer in optimizers], before))
    whole, *resumed = (found[:2] for found in ways)
    assert all(same(whole, found) for found in resumed)
    assert not same(ways[0][1], ways[0][2]), "control: two different states do not compare equal"


def test_a_checkpoint_has_the_plain_layout():
    """One entry per whole parameter, and a plain optimizer's checkpoint where all slices trained equally."""
    case, plain = bert_case(), bert_case()
    (adopted,), (reference,) = built(case.model, "adamw"), built(plain.model, "adamw")
    controller = controlled(case, [adopted])
    train(case, [adopted], 1)
    plain.loss().backward()
    scale = max(largest_gradient(plain.model), largest_gradient(plain.model) ** 2)
    reference.step()
    reference.zero_grad()
    got, expected = adopted.state_dict(), reference.state_dict()
    assert got["param_groups"] == expected["param_groups"]
    assert flat(got["state"]).keys() == flat(expected["state"]).keys()
    for path, value in flat(expected["state"]).items():  # averages of gradients and of their squares
        torch.testing.assert_close(flat(got["state"])[path], value, rtol=ROUNDING, atol=ROUNDING * scale)
    controller.sparse.set_active({"layer0.head1"})
    train(case, [adopted], 1)
    query = [n for n, _ in case.model.named_parameters()].index("bert.encoder.layer.0.attention.self.query.weight")
    state = adopted.state_dict()["state"]
    steps = {key: int(part["step"]) for key, part in state["slices"][query].items()}
    assert steps == {"0:0:4": 1, "0:4:8": 2, "0:8:12": 1} and query not in state
    assert len({*state} - {"slices"} | {*state["slices"]}) == len(list(case.model.parameters()))


def test_groups_keep_their_options_order_and_names():
    case = bert_case()
    named = list(case.model.named_parameters())
    groups = [{"params": [named[i]], "lr": 0.1 / (i + 1), "weight_decay": i / 100} for i in range(len(named))]
    optimizer = o.AdamW(groups)
    before = [dict(group) for group in optimizer.param_groups]
    controller = controlled(case, [optimizer])
    leaves = {leaf: name for name, leaf in controller.named_parameters()}
    for old, new in zip(before, optimizer.param_groups, strict=True):
        plain = ("params", "param_names")
        assert {k: v for k, v in old.items() if k not in plain} == {k: v for k, v in new.items() if k not in plain}
        assert sum(leaf.numel() for leaf in new["params"]) == old["params"][0].numel()
        assert new["param_names"] == [leaves[leaf] for leaf in new["params"]]
    assert optimizer.state_dict()["param_groups"] == [{**group, "params": [i]} for i, group in enumerate(before)]
    controller.close()
    assert all(new["params"][0] is old["params"][0] for old, new in zip(before, optimizer.param_groups, strict=True))
    assert [group["param_names"] for group in optimizer.param_groups] == [[name] for name, _ in named]


SCHEDULES = {
    "lambda": lambda opt: o.lr_scheduler.LambdaLR(opt, lambda step: 0.5**step),
    "cosine": lambda opt: o.lr_scheduler.CosineAnnealingLR(opt, 5, eta_min=1e-3),
    "one cycle": lambda opt: o.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=6, cycle_momentum=False),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_scheduler_made_before_adoption_goes_on(schedule):
    case, plain = bert_case(), bert_case()
    rates = []
    for one in (case, plain):
        optimizer = o.SGD(one.model.parameters(), lr=0.1, momentum=0.9)
        scheduler = SCHEDULES[schedule](optimizer)
        if one is case:
            controlled(case, [optimizer])
        for _ in range(4):
            train(one, [optimizer], 1)
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:4] == rates[4:] and len(set(rates)) == 4
    assert_same_weights(case.model, plain.model, allowed(bert_case, "sgd"))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_slow_modules_have_k_times_the_rate_under_every_scheduler(schedule):
    """Cosine with a floor and one-cycle set both groups to the same numbers; the ratio holds all the same."""
    case = bert_case()
    optimizer = o.SGD([{"params": [p]} for p in case.model.parameters()], lr=0.1)
    controller = controlled(case, [optimizer], Multirate(k=4))
    slow = {p for name in controller.periods for p in controller.sparse.module_parameters(name)}
    scheduler, reference = SCHEDULES[schedule](optimizer), o.SGD(bert_case().model.parameters(), lr=0.1)
    expected = SCHEDULES[schedule](reference)
    for _ in range(4):
        before = weights(case)
        controller.begin_step()
        case.loss().backward()
        grads = {name: (leaf, leaf.grad) for name, leaf in controller.named_parameters() if leaf.grad is not None}
        optimizer.step()
        rate = reference.param_groups[0]["lr"]
        for piece, leaf in controller.sparse.leaves.items():
            if leaf.grad is not None:
                step = rate * (4 if leaf in slow else 1) * leaf.grad
                expected_leaf = piece.of(before[piece.parameter]) - step
                torch.testing.assert_close(leaf.data, expected_leaf, rtol=0, atol=ROUNDING)  # of numbers below 1
        assert any(leaf in slow for leaf, _ in grads.values()) == (controller.step == 4)
        optimizer.zero_grad()
        reference.step()
        scheduler.step()
        expected.step()


@pytest.mark.parametrize("order", ["adopted, then loaded", "loaded, then adopted"])
def test_a_multirate_checkpoint_is_resumed_with_its_rates(order):
    case, later = bert_case(), bert_case()
    optimizer, fresh = (o.SGD(one.model.parameters(), lr=0.1, momentum=0.9) for one in (case, later))
    controller = controlled(case, [optimizer], Multirate(k=4))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.4]
    SCHEDULES["lambda"](optimizer)
    for _ in range(5):
        controller.begin_step()
        train(case, [optimizer], 1)
    state = saved(optimizer)
    assert len(state["param_groups"]) == 1
    state["param_groups"][0]["lr"], state["param_groups"][0]["slow"][4]["lr"] = 0.025, 0.1
    if order == "adopted, then loaded":
        other = controlled(later, [fresh], Multirate(k=4))
    fresh.load_state_dict(state)
    if order == "loaded, then adopted":
        fresh.param_groups[0].pop("initial_lr")  # the new scheduler is made afterwards
        other = controlled(later, [fresh], Multirate(k=4))
    assert [group["lr"] for group in fresh.param_groups] == [0.025, 0.1]
    other.close()
    assert len(fresh.param_groups) == 1 and "slow" not in fresh.param_groups[0]


def test_a_dense_method_leaves_the_optimizer_as_it_is():
    case = bert_case()
    optimizer = o.SGD(case.model.parameters(), lr=0.1)
    before = [id(p) for p in optimizer.param_groups[0]["params"]]
    controlled(case, [optimizer], Vanilla())
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == before


def test_strangers_and_later_groups_are_left_alone():
    case, stranger, other = bert_case(), torch.nn.Linear(2, 2), torch.nn.Linear(3, 1)
    optimizer = o.AdamW([*case.model.parameters(), *stranger.parameters()], lr=0.1)
    controller = controlled(case, [optimizer])
    optimizer.add_param_group({"params": list(other.parameters()), "lr": 0.7})
    (stranger(torch.ones(2)).sum() + other(torch.ones(3)).sum()).backward()
    train(case, [optimizer], 1)
    state = saved(optimizer)
    count = len(list(case.model.parameters()))
    assert [len(group["params"]) for group in state["param_groups"]] == [count + 2, 2]
    optimizer.load_state_dict(state)
    assert same(saved(optimizer), state)
    controller.close()
    assert same(saved(optimizer), state)
    assert optimizer.param_groups[1]["lr"] == 0.7


def test_splitting_and_merging_by_hand():
    whole = torch.arange(12.0).view(3, 4)
    pieces = [(Slice("w", 1, 0, 1), torch.zeros(3, 1)), (Slice("w", 1, 1, 4), torch.zeros(3, 3))]
    state = {"step": torch.tensor(3.0), "m": whole.clone(), "row": torch.ones(3, 1), "col": whole[:1].clone(), "n": 2}
    parts = split_state(state, whole, pieces)
    assert same(parts[0], {"step": torch.tensor(3.0), "m": whole[:, :1], "row": torch.ones(3, 1),
                           "col": whole[:1, :1], "n": 2})  # fmt: skip
    assert same(parts[1]["m"], whole[:, 1:]) and same(parts[1]["col"], whole[:1, 1:])
    plain = [{k: part[k] for k in ("step", "m", "n")} for part in parts]
    assert same(merge_state(plain, whole, pieces), {k: state[k] for k in ("step", "m", "n")})
    plain[0]["step"] += 1
    assert merge_state(plain, whole, pieces) is None
    assert merge_state([plain[0], {}], whole, pieces) is None
    with pytest.raises(InputError, match=r"shape \(5,\), which cannot be cut"):
        split_state({"absmax": torch.ones(5)}, whole, pieces)


def _without(model, part):
    return [p for name, p in model.named_parameters() if part not in name]


def _twice(case):
    optimizer = o.SGD(case.model.parameters(), lr=0.1)
    controller = controlled(case, [optimizer])
    controller.adopt(optimizer)


def _again(case):
    with Controller(case.model, case.partition, MAT(), case.inputs, every=100) as first:
        optimizer = o.SGD(first.parameters(), lr=0.1)
        first.adopt(optimizer)


def _other_partition(case):
    optimizer = o.SGD(case.model.parameters(), lr=0.1, momentum=0.9)
    controller = controlled(case, [optimizer])
    controller.sparse.set_active({"layer0.head0"})
    train(case, [optimizer], 1)
    other = bert_case(heads=2)
    fresh = o.SGD(other.model.parameters(), lr=0.1, momentum=0.9)
    controlled(other, [fresh])
    fresh.load_state_dict(saved(optimizer))


def _scheduled(case):
    optimizer = o.SGD(case.model.parameters(), lr=0.1)
    o.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    controlled(case, [optimizer], Multirate(k=2))


def _other_groups(case):
    optimizer = o.SGD(case.model.parameters(), lr=0.1)
    controlled(case, [optimizer])
    optimizer.load_state_dict(o.SGD(list(case.model.parameters())[1:], lr=0.1).state_dict())


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda c: controlled(c, [o.LBFGS(c.model.parameters())]), "LBFGS moves all parameters"),
        (lambda c: controlled(c, [o.SparseAdam(list(c.model.parameters()))]), "SparseAdam takes sparse"),
        (lambda c: controlled(c, [c.model]), "expected a torch.optim optimizer, got BertForMaskedLM"),
        (lambda c: controlled(c, []), "no parameter of module 'layer0.head0' is in the optimizer"),
        (lambda c: controlled(c, [o.SGD(_without(c.model, "layer.1"))]), "module 'layer1.head0'"),
        (lambda c: controlled(c, [o.SGD(c.model.parameters())] * 2), "updated twice in one step"),
        (lambda c: controlled(c, [o.SGD(c.model.parameters()), o.Muon([next(c.model.parameters())])]), "twice"),
        (_twice, "give them all in one call"),
        (_again, "already holds slices of 'bert.encoder.layer"),
        (_other_partition, r"resume with the partition"),
        (_scheduled, "make the scheduler afterwards"),
        (_other_groups, "load the state of an optimizer that was built in the same way"),
    ],
)
def test_what_would_not_train_as_selected_is_refused(break_it, message):
    with pytest.raises(InputError, match=message):
        break_it(bert_case())
