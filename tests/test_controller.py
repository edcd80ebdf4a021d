"""The controller in a plain training loop."""

import math
import warnings

import pytest
import torch
from torch import nn

from mat import MAT, Controller, InputError, partition_model
from mat.backward.sparse import SparseBackward
from mat.kernels.estimators import Estimator
from mat.kernels.ntk import modular_ntk
from mat.kernels.probes.budget import Extent, choose
from mat.kernels.probes.growth import Growth
from mat.methods.base import Method, Selection, highest
from mat.methods.random import Random
from mat.methods.vanilla import Vanilla
from mat.partition.partition import Module, Partition, Slice
from mat.prices import counted_prices
from mat.records.columns import PROBE_RECORD
from mat.seeds import stream_seed
from tests.cases import bert_case, logits, moved, per_sample, resnet_case, routed, switch_case, vgg_case


def step(case, controller, optimizer):
    """One of an ordinary training loop."""
    controller.begin_step()
    optimizer.zero_grad()
    case.loss().backward()
    optimizer.step()


def test_probes_come_at_every_interval_and_leave_training_alone():
    """A dense run that observes spectra trains to the same weights as one that does not."""
    finals = []
    for observe in (False, True):
        case = bert_case()
        controller = Controller(case.model, case.partition, Vanilla(observe=observe), case.inputs, every=2)
        optimizer = torch.optim.AdamW(case.model.parameters(), lr=1e-2)
        controller.adopt(optimizer)
        for _ in range(5):
            step(case, controller, optimizer)
        assert len(controller.history) == (3 if observe else 0)
        finals.append(case.model.state_dict())
    assert all(torch.equal(finals[0][key], finals[1][key]) for key in finals[0])


def test_only_the_selected_modules_train():
    case = vgg_case()
    before = {k: v.clone() for k, v in case.model.named_parameters()}
    controller = Controller(case.model, case.partition, MAT(alpha=0.2, mode="exact"), case.inputs, every=1)
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1, weight_decay=0.1, momentum=0.9)
    controller.adopt(optimizer)
    ever = set()
    for _ in range(3):
        step(case, controller, optimizer)
        ever |= controller.active
    assert 0 < len(ever) < len(case.partition.modules)
    for module in case.partition.modules:
        assert any(moved(module, before, case.model.state_dict())) == (module.name in ever)


class Steep(Method):
    """The module with the largest gradient norm."""

    reads = frozenset({"gradients"})

    def select(self, context):
        norms = context.history[-1].gradient_norm
        return Selection(frozenset({max(context.modules, key=norms.get)}))


class Late(Method):
    """Everything, and then only the last module."""

    needs_length = True

    def select(self, context):
        return Selection(frozenset(context.modules if context.progress < 0.5 else context.modules[-1:]))


class Lowest(Method):
    """The first module, then everything."""

    def select(self, context):
        return Selection(frozenset(context.modules[: None if context.interval else 1]))


@pytest.mark.parametrize(("mode", "reached"), [("exact", 1.0), ("detach", 0.0)])
@pytest.mark.parametrize("optimizers", [1, 2])
def test_what_a_gradient_reached_is_read_off_the_steps_that_ran(mode, reached, optimizers):
    """In detach nothing comes to the lowest module through layers that are constants. An interval's share is known
    when it is over, or the controller is closed, and goes on from a state."""
    case = vgg_case()
    names, parameters = case.partition.names, list(case.model.parameters())
    controller = Controller(case.model, case.partition, Lowest(mode=mode), every=2)
    made = [torch.optim.SGD(parameters[i::optimizers], lr=0.1) for i in range(optimizers)]
    controller.adopt(*made)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(3):
            controller.begin_step()
            assert controller.reached == frozenset(), "of the coming step nothing is known"
            case.loss().backward()
            for optimizer in made:
                optimizer.step()
            for leaf in controller.parameters():
                leaf.grad = None
            seen.append(controller.reached)
            if number == 0:
                controller.load_state_dict(controller.state_dict())
    shares = {(row["interval"], row["module"]): row["reached"] for row in controller.records}
    assert seen == [frozenset(names[: int(reached)])] * 2 + [frozenset(names)]
    assert [shares[0, name] for name in names] == [reached] + [0.0] * (len(names) - 1)
    assert all(math.isnan(shares[1, name]) for name in names), "its interval is open"
    controller.close()
    assert {row["reached"] for row in controller.records if row["interval"] == 1} == {1.0}


@pytest.mark.parametrize("probes", [True, False])
def test_residual_branches_are_known_from_the_probe_or_the_first_batch_also_after_a_resumption(probes):
    """Steps go on with the same weights, and the lowest module trains through layers that are not."""
    finals = []
    for parts in ((2,), (1, 1)):
        case, state = resnet_case(), None
        optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
        for steps in parts:
            method = MAT(alpha=0.9, mode="detach_residual") if probes else Lowest(mode="detach_residual")
            controller = Controller(case.model, case.partition, method, case.inputs if probes else None, every=9)
            controller.adopt(optimizer)
            if state is not None:
                controller.load_state_dict(state)
            for _ in range(steps):
                step(case, controller, optimizer)
                assert controller.sparse.branches and controller.reached == controller.active
            state = controller.state_dict()
            controller.close()
        finals.append(case.model.state_dict())
    assert all(torch.equal(one, finals[1][name]) for name, one in finals[0].items())


def test_a_dense_run_reaches_all_and_an_expert_without_tokens_is_not_reached():
    case = switch_case(batch=1, length=2)
    chosen = {name for name, rows in routed(case).items() if rows}
    for method, unreached in ((Vanilla(), set()), (Late(mode="exact"), set(routed(case)) - chosen)):
        controller = Controller(case.model, case.partition, method, every=5, length=9)
        optimizer = torch.optim.SGD(case.model.parameters(), lr=0.0)
        controller.adopt(optimizer)
        step(case, controller, optimizer)
        assert controller.reached == set(case.partition.names) - unreached
        controller.close()
    assert unreached, "control: some expert got no token"


def test_a_method_reads_gradients_and_nothing_else_is_measured():
    case = bert_case()
    options = {"probe_labels": case.labels, "loss": per_sample}
    controller = Controller(case.model, case.partition, Steep(), case.inputs, every=1, **options)
    controller.adopt(torch.optim.SGD(case.model.parameters(), lr=0.1))
    controller.begin_step()
    seen = controller.history[0]
    assert seen.lambda_max == {} and seen.integral.size == 0
    assert {row["gradient_norm"] for row in controller.records} == set(seen.gradient_norm.values())
    assert all(math.isnan(row["lambda_max"]) for row in controller.records)
    assert controller.active == {max(seen.gradient_norm, key=seen.gradient_norm.get)}


def test_observing_records_both_where_it_can():
    case = bert_case()
    for options, measured in (({}, False), ({"probe_labels": case.labels, "loss": per_sample}, True)):
        controller = Controller(case.model, case.partition, Vanilla(observe=True), case.inputs, every=1, **options)
        controller.begin_step()
        assert all(row["lambda_max"] > 0 for row in controller.records)
        assert all((row["gradient_norm"] > 0) == measured for row in controller.records)
    with pytest.raises(InputError, match="observe is for methods that read nothing; this one reads spectra"):
        MAT(observe=True)


def test_a_schedule_is_told_how_much_lies_behind():
    case = bert_case()
    controller = Controller(case.model, case.partition, Late(), every=1, length=4)
    controller.adopt(torch.optim.SGD(case.model.parameters(), lr=0.1))
    counts = []
    for _ in range(4):
        controller.begin_step()
        counts.append(len(controller.active))
    whole = len(case.partition.modules)
    assert counts == [whole, whole, 1, 1]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (MAT(), {"probe_inputs": None, "every": 5}, "reads spectra: give it probe_inputs, .* got none"),
        (MAT(), {"probe_inputs": {}, "every": 5}, "names of the model's inputs, .* got a dict"),
        (MAT(), {"probe_inputs": torch.zeros(4, 8), "every": 5}, "names of the model's inputs, .* got a Tensor"),
        (MAT(), {"every": 0}, "every must be ≥ 1"),
        (Steep(), {"every": 1}, "Steep reads gradients: give it probe_labels, and loss"),
        (Late(), {"every": 1}, "Late goes by a schedule: give it length"),
        (Random(match="other"), {"every": 5}, "follows another run: give it counts"),
        (MAT(), {"every": 5, "estimator": "step"}, "measures the samples of training steps: leave probe_inputs out"),
        (MAT(), {"every": 5, "n": 3}, "n is of the estimator 'step'"),
        (MAT(), {"every": 5, "estimator": "full", "positions": 2}, "'full' is of all positions, got positions = 2"),
        (
            Random(share=0.5, observe=True),
            {"every": 5, "estimator": "step", "probe_inputs": None},
            "a recorded step is exact, so observing it would change what Random trains",
        ),
        (Random(match="other"), {"every": 5, "counts": {-3: 1}}, "an interval began, from 0 on"),
        (MAT(), {"every": 5, "budget": 0.5}, "give batch, the samples of one step"),
        (MAT(), {"every": 5, "budget": 0.5, "batch": 0}, "batch must be the samples of a training step"),
        (MAT(), {"every": 5, "budget": 1e-6, "batch": 3, "length": 10}, "pays for no probe"),
    ],
)
def test_what_is_missing_is_said_at_once(method, options, message):
    case = bert_case()
    with pytest.raises(InputError, match=message):
        Controller(case.model, case.partition, method, **{"probe_inputs": case.inputs, **options})


def test_a_probe_by_other_names_than_the_models_is_refused_at_once():
    case = vgg_case()
    with pytest.raises(InputError, match=r"names of .*'s arguments \(.*\), got 'images': "):
        Controller(case.model, case.partition, MAT(), {"images": case.inputs["x"]}, every=5)


def test_positions_are_the_estimators_drawn_by_the_seed():
    """The kernels of a probe are those of the estimator with the controller's seed; seeds draw others."""
    found = set()
    for seed, positions in ((0, 0), *((seed, 1) for seed in range(4))):
        case = bert_case()
        asked = Estimator("sum_of_logits", seed=stream_seed(seed, "projection"), positions=positions)
        table = modular_ntk(case.model, case.partition, case.inputs, asked).table("raw")
        options = {"every": 1, "seed": seed, "positions": positions, "estimator": "sum_of_logits"}
        rows, _ = Controller(case.model, case.partition, MAT(), case.inputs, **options).measure(first=True)
        assert [row["lambda_max"] for row in rows] == list(table["lambda_max"])
        found.add((positions, *table["lambda_max"]))
    assert len(found) > 2


def test_a_budget_cuts_the_probe_and_not_more_than_it_must():
    every, steps = 100, 1000
    found = []
    for budget in (0.008, 0.08, 0.9):
        case = bert_case(batch=12)
        options = {"probe_labels": case.labels, "every": every, "length": steps, "budget": budget, "batch": 12}
        options["directions"] = 8
        controller = Controller(case.model, case.partition, MAT(), case.inputs, **options)
        found.append(controller.extent)
        prices = counted_prices(case.model, case.partition, case.example, 12, False)
        assert controller.extent == choose(prices, budget, Extent(12, 8, every), "projected", steps)
        controller.adopt(torch.optim.SGD(case.model.parameters(), lr=1e-3))
        controller.begin_step()
        assert {row["n"] for row in controller.records} == {controller.extent.n}
        assert len(controller.probe_labels) == controller.extent.n
        assert controller.estimator.directions == controller.extent.directions
    assert found[0].every > every and found[0][:2] == (8, 1)
    assert found[2] == Extent(12, 8, every)
    assert found[0] != found[1] != found[2]


def test_intervals_grow_while_the_ranking_stands_still():
    """At a learning rate of 0 every probe is the one before; the interval doubles, up to four plain ones."""
    case = bert_case()
    growth = Growth(above=0.9, by=2, to=4)
    controller = Controller(case.model, case.partition, MAT(), case.inputs, every=2, growth=growth)
    controller.adopt(torch.optim.SGD(case.model.parameters(), lr=0.0))
    for _ in range(30):
        controller.begin_step()
    assert sorted({row["step"] for row in controller.records}) == [0, 2, 6, 14, 22]
    assert sorted({row["interval"] for row in controller.records}) == [0, 1, 2, 3, 4]
    with torch.no_grad():  # another ranking: the interval is the plain one again
        for parameter in case.model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    for _ in range(3):
        controller.begin_step()
    assert sorted({row["step"] for row in controller.records})[5:] == [30, 32]


def test_a_run_that_follows_begins_its_intervals_where_the_other_did():
    """By step, not by number: whatever its own interval is; after the other's last one, its own."""
    case = bert_case()
    options = {"counts": {0: 4, 2: 1, 6: 3}, "every": 3, "growth": Growth(above=-1)}
    controller = Controller(case.model, case.partition, Random(match="other"), case.inputs, **options)
    controller.adopt(torch.optim.SGD(case.model.parameters(), lr=1e-3))
    active = []
    for _ in range(12):
        controller.begin_step()
        active.append(len(controller.active))
    assert active == [4] * 2 + [1] * 4 + [3] * 6
    assert sorted({row["step"] for row in controller.records}) == [0, 2, 6, 9]


def test_resnet_and_its_downsampling_are_partitioned():
    from torchvision.models import resnet18

    model = resnet18(num_classes=5).eval()
    partition = partition_model(model, filter_groups=4)
    assert len(partition.modules) == 4 * 20
    owners = {piece.parameter for module in partition.modules for piece in module.slices}
    assert {"conv1.weight", "bn1.weight", "layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias"} <= owners
    images = torch.randn(3, 3, 32, 32)
    controller = Controller(model, partition, MAT(), {"x": images}, every=1)
    controller.adopt(torch.optim.SGD(model.parameters()))
    controller.begin_step()
    assert all(row["lambda_max"] > 0 for row in controller.records)
    assert all(tuple(row) == PROBE_RECORD for row in controller.records)


def test_closing_leaves_no_trace():
    case, plain = bert_case(), bert_case()
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
    with Controller(case.model, case.partition, MAT(), case.inputs, every=2) as controller:
        controller.adopt(optimizer)
        controller.begin_step()
        case.loss().backward()
    assert not any("forward" in vars(module) for module in case.model.modules())
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in case.model.parameters()]
    assert all(leaf.grad is None for leaf in controller.parameters()) and len(controller.history) == 1
    for one, trained in ((plain, torch.optim.SGD(plain.model.parameters(), lr=0.1)), (case, optimizer)):
        trained.zero_grad()
        one.loss().backward()
        trained.step()
    assert all(map(torch.equal, case.model.state_dict().values(), plain.model.state_dict().values()))
    with pytest.raises(InputError, match="closed"):
        controller.begin_step()


def test_kernels_of_a_model_in_training_are_those_of_the_plain_one():
    """Also where somebody measures them beside the controller: a slice's leaf is not the parameter that is asked."""
    case = bert_case()
    plain = modular_ntk(case.model, case.partition, case.inputs)
    with Controller(case.model, case.partition, MAT(alpha=0.2, mode="detach"), case.inputs, every=1) as controller:
        controller.adopt(torch.optim.SGD(case.model.parameters(), lr=0.0))
        controller.begin_step()
        assert controller.active < set(case.partition.names)
        kernels = modular_ntk(case.model, case.partition, case.inputs)
    assert kernels.ways == plain.ways
    assert all(torch.equal(kernels[name], gram) for name, gram in plain.items())


def test_a_state_that_is_none_or_of_other_modules_is_refused():
    case = bert_case()
    controller = Controller(case.model, case.partition, Random(share=0.5), every=1)
    state = controller.state_dict()
    with pytest.raises(InputError, match=r"got one without interval, .*, records"):
        controller.load_state_dict({"step": 0})
    with pytest.raises(InputError, match=r"modules that the partition does not have: layer9\.ffn"):
        controller.load_state_dict({**state, "active": ["layer9.ffn"]})
    controller.close()


def test_a_step_without_an_adopted_optimizer_is_refused():
    case = bert_case()
    controller = Controller(case.model, case.partition, MAT(), case.inputs, every=2)
    with pytest.raises(InputError, match=r"call controller\.adopt\(optimizer\) before"):
        controller.begin_step()


def test_the_integral_may_include_the_remainder():
    """A13: its trace is that of the kernel of all parameters; the records are of the modules all the same."""
    seen = {}
    for integral in ("modules", "full"):
        case = vgg_case()
        options = {"estimator": "sum_of_logits", "every": 1}
        controller = Controller(case.model, case.partition, MAT(integral=integral), case.inputs, **options)
        controller.adopt(torch.optim.SGD(case.model.parameters()))
        controller.begin_step()
        seen[integral] = controller.history[0].integral.sum()
        assert {row["module"] for row in controller.records} == set(case.partition.names)
    case = vgg_case()
    kernels = modular_ntk(case.model, case.partition, case.inputs, "sum_of_logits", remainder=True)
    traces = {name: float(kernel.trace()) for name, kernel in kernels.items()}
    assert seen["full"] == pytest.approx(sum(traces.values()), rel=1e-9)
    assert seen["full"] - seen["modules"] == pytest.approx(traces["remainder"], rel=1e-6)
    with pytest.raises(InputError, match="integral must be one of modules, full"):
        MAT(integral="all")


def test_sums_are_of_the_kernels_of_a_kind_and_of_a_layer():
    case = bert_case()
    kernels = modular_ntk(case.model, case.partition, case.inputs, "trace")
    controller = Controller(case.model, case.partition, MAT(), case.inputs, every=1, estimator="trace")
    _, seen = controller.measure(first=True)
    for by, found in (("kind", seen.kinds), ("layer", {layer: [value] for layer, value in seen.layers.items()})):
        assert set(found) == {getattr(module, by) for module in case.partition.modules}
        for which, values in found.items():
            total = sum(kernels[m.name] for m in case.partition.modules if getattr(m, by) == which)
            wanted = torch.linalg.eigvalsh(total).flip(0).clamp(min=0)[: len(values)]
            assert values == pytest.approx(wanted.numpy(), rel=1e-9, abs=1e-12 * float(wanted[0]))


class Sent(nn.Module):
    """Two experts that are copies; the sign of a row's last entry says which one it is sent to, so that every row is as
    long, and every gate as open, as any other."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(3, 2, bias=False) for _ in range(2))
        self.experts[1].load_state_dict(self.experts[0].state_dict())
        self.gate = nn.Parameter(torch.ones(()))

    def forward(self, x):
        out = x.new_zeros(len(x), 2)
        for e, expert in enumerate(self.experts):
            rows = (x[:, 2] > 0) == bool(e)
            out[rows] = torch.sigmoid(self.gate) * expert(x[rows])
        return out


def test_experts_that_are_copies_are_equal_by_their_share_of_tokens():
    """Three of twelve rows and nine of them, each of one gradient: λ_max is 3c and 9c, and 12c over the shares."""
    model = Sent().double()
    names = [f"experts.{e}.weight" for e in range(2)]
    modules = [Module(f"expert{e}", "expert", 0, (Slice(name, 0, 0, 2),)) for e, name in enumerate(names)]
    signs = torch.tensor([-1.0] * 3 + [1.0] * 9, dtype=torch.float64)
    x = torch.stack([torch.full((12,), 0.3), torch.full((12,), -2.0), signs], 1).double()
    method = MAT(routed=True)
    controller = Controller(model, Partition.of(model, modules), method, {"x": x}, every=1, estimator="sum_of_logits")
    for first in (True, False):
        _, seen = controller.measure(first=first)
        assert seen.routed == {"expert0": 0.25, "expert1": 0.75}
    assert seen.lambda_max["expert1"] == pytest.approx(3 * seen.lambda_max["expert0"], rel=1e-9)
    values = method.values(seen)
    assert values["expert0"] == pytest.approx(values["expert1"], rel=1e-9)


def test_what_cannot_count_tokens_says_so_at_once():
    case, plain = switch_case(), bert_case()
    for made, options, said in (
        (case, {"estimator": "step", "probe_inputs": None}, "the estimator 'step' has no probe"),
        (plain, {}, "one that the model has, ffn, head, got 'expert'"),
    ):
        with pytest.raises(InputError, match=said):
            options = {"probe_inputs": made.inputs, **options}
            Controller(made.model, made.partition, MAT(routed=True), every=1, **options)


@pytest.mark.parametrize("options", [{}, {"estimator": "step", "probe_inputs": None}], ids=["probe", "step"])
def test_before_the_first_probe_everything_trains_and_nothing_is_measured(options):
    """λ_0 is of the step that it comes at; a state that is saved before it leads to it, too."""
    case = bert_case()
    options = {"probe_inputs": case.inputs, "every": 2, "first": 3, **options}
    method, active, saved = MAT(alpha=0.3, mode="exact"), [], None
    controller = Controller(case.model, case.partition, method, **options)
    optimizer = torch.optim.SGD(case.model.parameters(), lr=1e-3)
    controller.adopt(optimizer)
    for number in range(6):
        step(case, controller, optimizer)
        active.append(len(controller.active))
        saved = controller.state_dict() if number == 1 else saved
    controller.end_step()
    everything = len(case.partition.modules)
    assert active[:3] == [everything] * 3 and active[-1] < everything
    assert sorted({row["step"] for row in controller.records}) == [3, 5] and len(controller.history) == 2
    controller.close()
    again = Controller(case.model, case.partition, method, **options)
    again.load_state_dict(saved)
    assert (again.next, again.history, again.active) == (3, [], frozenset(case.partition.names))
    with pytest.raises(InputError, match="first ≥ 0"):
        Controller(case.model, case.partition, method, **{**options, "first": -1})


def test_a_run_that_follows_a_late_one_begins_where_it_did():
    case = bert_case()
    controller = Controller(
        case.model, case.partition, Random(match="other"), case.inputs, counts={3: 2, 5: 1}, every=2
    )
    controller.adopt(torch.optim.SGD(case.model.parameters(), lr=1e-3))
    active = []
    for _ in range(6):
        controller.begin_step()
        active.append(len(controller.active))
    assert active == [len(case.partition.modules)] * 3 + [2, 2, 1]


class Half(Method):
    """The modules with the larger λ_max, half of them."""

    reads = frozenset({"spectra", "gradients"})

    def select(self, context):
        seen = context.history[-1]
        assert set(seen.gradient_norm) == set(context.modules)
        return Selection(highest(context.modules, seen.lambda_max, len(context.modules) // 2))


@pytest.mark.parametrize("make", [bert_case, vgg_case, switch_case])
@pytest.mark.parametrize("mode", ["exact", "detach"])
def test_a_recorded_step_is_exact_and_trains_what_is_active(make, mode):
    """Its kernels are of all modules, and are those of `loss`; the selection by them acts from the next step on."""
    case = make()
    case.model.eval()
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    controller = Controller(case.model, case.partition, Half(mode=mode), every=2, estimator="step", n=3)
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    controller.adopt(optimizer)
    sets = []
    for step in range(4):
        controller.begin_step()
        sets.append(controller.active)
        optimizer.zero_grad()
        expected, of_loss = step_of(make(), case.model.state_dict(), sets[-1])
        per_sample(logits(case.model, case.inputs), case.labels).mean().backward()
        if step % 2 == 0:
            found = {name: leaf.grad for name, leaf in controller.named_parameters() if leaf.grad is not None}
            assert set(found) == set(expected)
            for name, gradient in expected.items():
                torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
        before = {name: value.clone() for name, value in case.model.state_dict().items()}
        optimizer.step()
        for module in case.partition.modules:
            assert any(moved(module, before, case.model.state_dict())) == (module.name in sets[-1])
        controller.end_step()
        if step % 2 == 0:
            seen = controller.history[-1].lambda_max
            exact = {row["module"]: row["lambda_max"] for row in of_loss.table().to_dict("records")}
            assert seen == pytest.approx(exact, rel=1e-9, abs=1e-9 * max(exact.values()))
    modules = len(case.partition.modules)
    assert [len(active) for active in sets] == [modules, modules // 2, modules // 2, modules // 2]
    assert sets[1] == sets[2] and [row["step"] for row in controller.records[::modules]] == [0, 2]
    assert all(tuple(row) == PROBE_RECORD for row in controller.records)
    assert {(row["estimator"], row["n"], row["way"]) for row in controller.records} == {("step", 3, "training step")}


def step_of(case, state, active):
    """The gradients that ``exact`` gives the active slices, and the kernels of the first three samples."""
    plain = case.model.eval()
    plain.load_state_dict(state)
    sparse = SparseBackward(plain, case.partition, "exact")
    sparse.set_active(active)
    per_sample(logits(plain, case.inputs), case.labels).mean().backward()
    found = {name: leaf.grad for name, leaf in sparse.named_parameters() if leaf.grad is not None}
    sparse.close()
    few = {name: value[:3] for name, value in case.inputs.items()}
    options = {"labels": case.labels[:3], "loss": per_sample}
    return found, modular_ntk(plain, case.partition, few, "loss", **options)


def test_a_dense_run_that_observes_its_steps_trains_as_one_that_does_not():
    """Up to rounding: a recorded step sums its gradients in another order."""

    def train(observe):
        case = bert_case()
        options = {"estimator": "step"} if observe else {}
        controller = Controller(case.model, case.partition, Vanilla(observe=observe), every=2, **options)
        optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
        controller.adopt(optimizer)
        for _ in range(5):
            step(case, controller, optimizer)
        controller.state_dict()
        return controller, case.model.state_dict()

    (observed, one), (_, other) = train(True), train(False)
    assert len(observed.history) == 3 and len(observed.records) == 3 * len(observed.partition.modules)
    for name, value in other.items():
        torch.testing.assert_close(one[name], value, rtol=1e-9, atol=1e-12)


def test_the_first_of_several_batches_is_recorded_and_the_scale_divided_out():
    case = bert_case()
    seen = []
    for parts in (1, 3):
        controller = Controller(case.model, case.partition, Half(mode="exact"), every=1, estimator="step")
        controller.adopt(torch.optim.SGD(case.model.parameters(), lr=0.0))
        controller.begin_step(loss_scale=1 / parts)
        for _ in range(parts):
            (case.loss() / parts).backward()
        controller.end_step()
        seen.append((controller.history[0].lambda_max, [leaf.grad for leaf in controller.parameters()]))
        controller.close()
    assert seen[0][0] == pytest.approx(seen[1][0], rel=1e-9)
    for one, other in zip(seen[0][1], seen[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_step_that_overflows_under_its_scale_is_made_up_for_by_the_next():
    case = bert_case()
    controller = Controller(case.model, case.partition, Half(mode="exact"), every=3, estimator="step")
    controller.adopt(torch.optim.SGD(case.model.parameters(), lr=0.0))
    seen = []
    for scale in (1e308, 1e308, 2.0, 2.0, 1.0, 1.0):
        controller.begin_step(loss_scale=scale)
        (case.loss() * scale * (10 if scale > 2 else 1)).backward()
        controller.load_state_dict(controller.state_dict())
        seen.append(len(controller.history))
    assert seen == [0, 0, 1, 1, 1, 2]
    assert controller.history[0].lambda_max == pytest.approx(controller.history[1].lambda_max, rel=1e-9)
    assert [row["step"] for row in controller.records[:: len(case.partition.modules)]] == [2, 5]


def test_a_step_that_is_recorded_must_be_made():
    case = bert_case()
    controller = Controller(case.model, case.partition, MAT(), every=1, estimator="step")
    controller.adopt(torch.optim.SGD(case.model.parameters()))
    controller.begin_step()
    with pytest.raises(InputError, match="made no forward and backward pass"):
        controller.begin_step()
    plain = bert_case().model
    before = [dict(hooks) for hooks in (plain._forward_hooks, plain._forward_pre_hooks)]
    controller = Controller(plain, case.partition, Vanilla(observe=True), every=1, estimator="step")
    controller.begin_step()
    controller.close()
    assert before == [plain._forward_hooks, plain._forward_pre_hooks]


class Shuffled(torch.nn.Module):
    """Names and neighbours say that the norm is of the convolution's channels as they come."""

    def __init__(self, order):
        super().__init__()
        self.block, self.order = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)), order
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x, scale=1.0):
        y = self.block[1](self.block[0](x)[:, self.order])
        return scale * self.head(torch.relu(y).mean((2, 3)))


@pytest.mark.parametrize("positional", [True, False])
@pytest.mark.parametrize("options", [{}, {"estimator": "step"}])
def test_what_probes_no_samples_confirms_its_partition_on_the_first_batch(options, positional):
    method = MAT(mode="exact") if options else Random(share=0.5)
    for order, right in (((0, 1, 2, 3, 4, 5, 6, 7), True), ((1, 3, 5, 7, 0, 2, 4, 6), False)):
        model = Shuffled(list(order)).double()
        x = torch.randn(6, 3, 5, 5).double()
        controller = Controller(model, partition_model(model), method, every=3, **options)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        controller.adopt(optimizer)
        controller.begin_step()
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        if right:
            (model(x) if positional else model(x=x)).square().mean().backward()
            assert int(model.block[1].num_batches_tracked) == int(before["block.1.num_batches_tracked"]) + 1
            optimizer.step()
            controller.begin_step()
        else:
            with pytest.raises(InputError, match=r"contradict in block\.0"):
                model(x) if positional else model(x=x)
        controller.close()
        assert not model._forward_pre_hooks and not model._forward_hooks


@pytest.mark.parametrize("options", [{}, {"estimator": "step"}])
def test_samples_that_depend_on_each_other_are_refused_where_they_are_read_and_named_else(options):
    class Mixing(Shuffled):
        def forward(self, x):
            y = super().forward(x)
            return y + y.flip(0).cumsum(0).sum() / 7

    model, x = Mixing(list(range(8))).double(), torch.randn(6, 3, 5, 5).double()
    method = MAT(mode="exact") if options else Random(share=0.5)
    controller = Controller(model, partition_model(model), method, every=3, **options)
    controller.adopt(torch.optim.SGD(model.parameters(), lr=0.1))
    controller.begin_step()
    if options:
        with pytest.raises(InputError, match="depend on the other samples of its batch"):
            model(x)
    else:
        with pytest.warns(UserWarning, match="depend on the other samples of its batch"):
            model(x)
    controller.close()


class Losing(Shuffled):
    """Returns a loss, of a list or of tensors."""

    def forward(self, x, *rest):
        x = torch.stack(x) if isinstance(x, list) else x
        return super().forward(x).square().mean()


@pytest.mark.parametrize("listed", [True, False])
def test_a_model_that_returns_its_loss_is_looked_at_too_unless_it_is_given_no_tensors(listed):
    model, x = Losing([1, 3, 5, 7, 0, 2, 4, 6]).double(), torch.randn(6, 3, 5, 5).double()
    controller = Controller(model, partition_model(model), Random(share=0.5), every=3)
    controller.adopt(torch.optim.SGD(model.parameters(), lr=0.1))
    controller.begin_step()
    if listed:
        with pytest.warns(UserWarning, match="the first batch is no example"):
            model(list(x)).backward()
    else:
        with pytest.raises(InputError, match=r"contradict in block\.0"):
            model(x)
    controller.close()


def test_a_first_look_leaves_the_first_step_as_it_is():
    """Weights, buffers and random numbers."""
    finals = []
    for look in (True, False):
        case = vgg_case()
        torch.manual_seed(3)
        controller = Controller(case.model, case.partition, Random(share=0.5), every=1)
        controller.looked = not look
        optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
        controller.adopt(optimizer)
        for _ in range(2):
            step(case, controller, optimizer)
        assert controller.looked
        controller.close()
        finals.append((torch.rand(2), case.model.state_dict()))
    assert torch.equal(finals[0][0], finals[1][0])
    assert all(torch.equal(value, finals[1][1][name]) for name, value in finals[0][1].items())
