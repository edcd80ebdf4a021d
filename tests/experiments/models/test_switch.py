"""Switch Transformer as a model: built as described, trained by vanilla, counted in closed form."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.experiments.models import switch
from mat.experiments.task_signature import Signature
from mat.experiments.training.machine import Machine
from mat.experiments.training.run import train
from mat.flops.executed import executed_macs, routed_rows
from mat.flops.nominal import nominal
from tests.cases import routed, switch_case

EXAMPLE = {"input_ids": torch.zeros(1, 12, dtype=torch.long)}
SIGNATURE = Signature("masked_lm", EXAMPLE, 11)
SETTINGS = switch.Settings(width=16, heads=2)


def made(settings=SETTINGS, objective="masked_lm"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return switch.build(settings, Signature(objective, EXAMPLE, 11))


def tokens(batch=3, outputs=11):
    return torch.randint(outputs, (batch, 12), generator=torch.Generator().manual_seed(1))


def feed_forward(model):
    return [block.layer[-1].mlp for block in model.stack.block]


@pytest.mark.parametrize("objective", ["masked_lm", "causal_lm"])
@pytest.mark.parametrize("layers", [2, 3, 4, 5])
def test_every_second_layer_has_experts(layers, objective):
    kinds = ["experts" if hasattr(mlp, "experts") else "dense" for mlp in feed_forward(
        made(switch.Settings(layers=layers, width=16, heads=2), objective)
    )]  # fmt: skip
    assert kinds == [("dense", "experts")[layer % 2] for layer in range(layers)]


def test_router_and_experts_are_as_the_register_says():
    sparse = feed_forward(made())[1]
    assert len(sparse.experts) == 4
    assert sparse.router.expert_capacity == 5  # 1.5 x 12 / 4 = 4.5 tokens of one sequence
    assert sparse.router.jitter_noise == 0
    assert sparse.experts["expert_0"].wi.out_features == 64


def test_the_router_follows_the_models_dtype():
    model = made()
    for kind in (torch.float64, torch.float32):
        model.to(kind)
        assert model(tokens()).dtype == kind
        assert {parameter.dtype for parameter in model.parameters()} == {kind}


@pytest.mark.parametrize("objective", ["masked_lm", "causal_lm"])
def test_samples_do_not_depend_on_their_batch(objective):
    model = made(objective=objective).double().eval()
    together = model(tokens())
    alone = torch.cat([model(row[None]) for row in tokens()])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


def test_weights_are_a_function_of_the_generator_alone():
    one, two = made(), made()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("objective", ["masked_lm", "causal_lm"])
def test_sdpa_gives_the_numbers_of_the_attention_that_transformers_chooses(objective):
    """Its class admits 'eager' alone; ``build`` takes the other function, so that heads can be split."""
    model, ids = made(objective=objective).double(), tokens()
    chosen = model(ids)
    cores = [m for m in model.modules() if hasattr(m, "config")]
    kinds = {type(core).__name__ for core in cores if core.config._attn_implementation == "sdpa"}
    assert "SwitchTransformersAttention" in kinds
    for core in cores:
        core.config._attn_implementation = "eager"
    torch.testing.assert_close(model(ids), chosen, rtol=1e-10, atol=1e-12)


def earliest_changes(model, changed_from):
    """First position whose logits differ when all tokens from ``changed_from`` on are others."""
    ids = tokens()
    other = torch.cat([ids[:, :changed_from], (ids[:, changed_from:] + 1) % 11], 1)
    moved = (model(ids) - model(other)).abs().amax((0, 2)) > 1e-9
    return int(moved.nonzero()[0])


@pytest.mark.parametrize("capacity", [0.4, 1.5])  # 0.4: two tokens of a sequence fill an expert
def test_a_causal_model_sees_no_later_token_not_even_through_its_experts(capacity):
    settings = switch.Settings(width=16, heads=2, layers=4, capacity=capacity)
    model = made(settings, "causal_lm").double().eval()
    assert [earliest_changes(model, start) for start in range(12)] == list(range(12))
    if capacity < 1:
        names = [f"layer1.expert{e}" for e in range(4)]
        experts = {name: f"stack.block.1.layer.1.mlp.experts.expert_{e}" for e, name in enumerate(names)}
        with routed_rows(model, experts) as rows:
            model(tokens())
        assert sum(rows.values()) < tokens().numel() and max(rows.values()) == 2 * len(tokens()), "none is dropped"


def test_a_masked_model_does():
    """Control."""
    assert earliest_changes(made().double().eval(), 11) == 0


def test_a_causal_model_has_no_parameter_that_nothing_uses():
    model = made(objective="causal_lm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model(torch.randint(11, (64, 12))).logsumexp(-1).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert not any("EncDecAttention" in name for name, _ in model.named_parameters())
    same = {name: p.shape for name, p in made().named_parameters()}
    assert {name: p.shape for name, p in model.named_parameters()} == same


def test_a_causal_model_tells_twelve_distances_apart():
    """Each distance to the past has a bucket of its own up to 16; both directions would leave 8 to either."""
    model = made(objective="causal_lm").double()
    attention = model.stack.block[0].layer[0].SelfAttention
    bias = attention.compute_bias(12, 12)[0, 0]
    table = attention.relative_attention_bias.weight[:, 0]
    torch.testing.assert_close(bias[11], table[:12].flip(0))


def balance_by_hand(model, ids, balance):
    """Σ_layers α·E·Σ_i f_i·P_i with loops, from logits that hooks see."""
    seen, routers = [], [mlp.router for mlp in feed_forward(model)[1::2]]
    hooks = [router.register_forward_hook(lambda m, a, out: seen.append(out[2])) for router in routers]
    model(ids)
    for hook in hooks:
        hook.remove()
    loss = 0
    for found in seen:
        chances = [row.exp() / row.exp().sum() for sequence in found for row in sequence]
        experts = len(chances[0])
        for i in range(experts):
            sent = sum(int(chance.argmax()) == i for chance in chances) / len(chances)
            loss = loss + balance * experts * sent * sum(chance[i] for chance in chances) / len(chances)
    return loss


def test_the_balance_loss_is_the_papers_and_its_gradient_is_the_routers():
    settings = switch.Settings(width=16, heads=2, layers=4, capacity=0.5, balance=0.01)
    model, ids = made(settings).double().train(), tokens()
    expected = balance_by_hand(model, ids, 0.01)
    model(ids)
    extra = model.extra_loss()
    torch.testing.assert_close(extra, expected, rtol=1e-10, atol=1e-12)
    routers = [mlp.router.classifier.weight for mlp in feed_forward(model)[1::2]]
    for ours, theirs in zip(torch.autograd.grad(extra, routers), torch.autograd.grad(expected, routers), strict=True):
        assert ours.any()
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_balance_loss_is_of_one_pass_in_training_only():
    model = made(switch.Settings(width=16, heads=2, balance=0.1))
    assert model.extra_loss() is None
    model.train()(tokens())
    assert model.extra_loss() is not None
    assert model.extra_loss() is None
    model(tokens())
    model.eval()(tokens())
    assert model.extra_loss() is None
    copy.deepcopy(model)


def test_balancing_evens_the_experts_out():
    model, ids = made(switch.Settings(width=16, heads=2, balance=1.0)), tokens(batch=16)
    router = feed_forward(model)[1].router
    optimizer = torch.optim.SGD([router.classifier.weight], lr=0.5)

    def step():
        model.train()(ids)
        extra = model.extra_loss()
        optimizer.zero_grad()
        extra.backward()
        optimizer.step()
        return extra.item()

    losses = [step() for _ in range(40)]
    assert losses[0] > 1.02
    assert abs(losses[-1] - 1) < (losses[0] - 1) / 2


def test_without_balance_nothing_is_added_or_kept():
    model = made().train()
    model(tokens())
    assert model.extra_loss() is None
    assert not any(module._forward_hooks for module in model.modules())
    other = made(switch.Settings(width=16, heads=2, balance=0.1)).train()
    assert torch.equal(model(tokens()), other(tokens()))


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("seed", [62, 4])
def test_balancing_costs_no_product(mode, seed):
    case = switch_case(seed=seed)
    model = switch.build(replace(case.settings, balance=0.01), case.signature).double()
    model.load_state_dict(case.model.state_dict())
    costs = []
    for made_model in (case.model, model):
        sparse = SparseBackward(made_model.train(), case.partition, mode)
        sparse.set_active({"layer0.head1"})

        def loss(made_model=made_model):
            task = case.loss(made_model)
            extra = made_model.extra_loss()
            return task if extra is None else task + extra

        costs.append(executed_macs(lambda: loss().backward())[0])
    assert costs[0] == costs[1]


@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("seed", [62, 4])  # 4: two of the three experts get no token
@settings(max_examples=6)
@given(data=st.data())
def test_executed_is_the_closed_form_of_what_was_routed(seed, mode, data):
    case = switch_case(seed=seed)
    rows = routed(case)
    assert sum(rows.values()) < case.labels.numel(), "some tokens are dropped"
    assert list(rows.values()).count(0) == (2 if seed == 4 else 0)
    active = data.draw(st.sets(st.sampled_from(case.partition.names)))
    sparse = SparseBackward(case.model, case.partition, mode)
    sparse.set_active(active)
    macs, _ = executed_macs(lambda: case.loss().backward())
    assert macs == switch.work(case.settings, case.signature, len(case.labels), rows).step(active, mode)


def test_the_closed_form_insists_on_the_routing_of_every_expert():
    with pytest.raises(InputError, match=r"routed must name the experts layer1\.expert0"):
        switch.work(SETTINGS, SIGNATURE, 3, {"layer1.expert0": 3})


@pytest.mark.parametrize(("capacity", "tokens_"), [(1.5, [3, 3, 2, 2]), (0.5, [2, 2, 2, 2])])
def test_planned_work_routes_evenly_up_to_the_capacity(capacity, tokens_):
    """10 tokens of a sequence over 4 experts; capacity 0.5 x 10 / 4, rounded up, is 2."""
    settings = switch.Settings(width=16, heads=2, capacity=capacity)
    parts = switch.work(settings, Signature("masked_lm", {"input_ids": torch.zeros(1, 10)}, 11), 3)
    assert [parts[f"layer1.expert{e}"].forward for e in range(4)] == [3 * 8 * 16 * 16 * n for n in tokens_]


def test_the_nominal_ledger_shares_a_layers_experts_evenly():
    for seed in range(4):  # whatever the example's routing
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = switch.build(SETTINGS, SIGNATURE)
        count = nominal(model, switch.partition(SETTINGS, model), EXAMPLE)
        experts = {macs for name, macs in count.modules.items() if "expert" in name}
        assert len(experts) == 1 and 0 < experts.pop() <= 12 * 8 * 16 * 16 // 4


def test_vanilla_learns_the_hidden_markov_text(tmp_path):
    spec = Spec.of(
        {
            "task": {"name": "hmm", "length": 12, "train": 1024, "validation": 64, "test": 32},
            "model": {"name": "switch", "width": 32, "heads": 2},
            "method": {"name": "vanilla"},
            "recipe": {"lr": 0.01, "warmup": 0.1, "clip": 1.0, "epochs": 6, "evaluate_every": 96},
        }
    )
    final = train(spec, tmp_path / "run", machine=Machine(cache=tmp_path))
    bounds = json.loads((tmp_path / "run/run.json").read_text())["bounds"]
    assert bounds["floor_validation"] < final["best_val_loss"] < bounds["unigram_validation"] - 0.2


def test_images_are_refused():
    with pytest.raises(InputError, match="needs a task with the objective"):
        switch.build(SETTINGS, Signature("image_classification", {"x": torch.zeros(1, 1, 8, 8)}, 10))


@pytest.mark.parametrize("initialiser", [1.0, 8.0])
def test_experts_asked_once_give_the_numbers_of_transformers(initialiser):
    """Output and every gradient, bit for bit, also where an expert is sent nothing and tokens are beyond capacity."""
    from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersExperts

    results = []
    for own in (True, False):
        model = made(replace(SETTINGS, initialiser=initialiser, capacity=1.0, experts=6))
        for module in model.modules():
            if isinstance(module, SwitchTransformersExperts) and not own:
                module.__class__ = SwitchTransformersExperts
        logits = model(tokens(2))
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in model.parameters())])
    untouched = [a is None for a in results[0]]
    assert untouched == [b is None for b in results[1]]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True) if a is not None)
