"""Switch Transformer as a model: built as described, trained by vanilla, counted in closed form."""

import json

import pytest
import torch

from mat.errors import InputError
from mat.flops import executed_macs, nominal
from mat.models import switch
from mat.spec import Spec
from mat.train import train

EXAMPLE = {"input_ids": torch.zeros(1, 12, dtype=torch.long)}
SETTINGS = switch.Settings(width=16, heads=2)


def made(settings=SETTINGS, outputs=11):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return switch.build(settings, EXAMPLE, outputs)


def tokens(batch=3, outputs=11):
    return torch.randint(outputs, (batch, 12), generator=torch.Generator().manual_seed(1))


def feed_forward(model):
    return [block.layer[-1].mlp for block in model.encoder.encoder.block]


@pytest.mark.parametrize("layers", [2, 3, 4, 5])
def test_every_second_layer_has_experts(layers):
    kinds = ["experts" if hasattr(mlp, "experts") else "dense" for mlp in feed_forward(
        made(switch.Settings(layers=layers, width=16, heads=2))
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


def test_samples_do_not_depend_on_their_batch():
    model = made().double().eval()
    together = model(tokens())
    alone = torch.cat([model(row[None]) for row in tokens()])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


def test_weights_are_a_function_of_the_generator_alone():
    one, two = made(), made()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_executed_is_the_closed_form_of_what_was_routed():
    model, names = made(), switch.partition(SETTINGS, made()).names
    routed = {}
    for e in range(4):
        layer = feed_forward(model)[1].experts[f"expert_{e}"]
        layer.register_forward_hook(
            lambda m, args, out, e=e: routed.update({f"layer1.expert{e}": len(args[0])})
        )
    macs, _ = executed_macs(lambda: model(tokens()).logsumexp(-1).sum().backward())
    routed = {f"layer1.expert{e}": 0 for e in range(4)} | routed
    assert sum(routed.values()) <= 3 * 12
    assert macs == switch.closed_form(SETTINGS, EXAMPLE, 11, 3, names, "exact", routed)
    with pytest.raises(InputError, match=r"give routed for layer1\.expert0"):
        switch.closed_form(SETTINGS, EXAMPLE, 11, 3, names, "exact")
    with pytest.raises(InputError, match=r"layer1\.expert3 is inactive"):
        switch.closed_form(SETTINGS, EXAMPLE, 11, 3, set(names) - {"layer1.expert3"}, "exact", routed)


def test_the_nominal_ledger_shares_a_layers_experts_evenly():
    for seed in range(4):  # whatever the example's routing
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = switch.build(SETTINGS, EXAMPLE, 11)
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
    final = train(spec, tmp_path / "run", cache=tmp_path)
    bounds = json.loads((tmp_path / "run/run.json").read_text())["bounds"]
    assert bounds["floor_validation"] < final["best_val_loss"] < bounds["unigram_validation"] - 0.2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": 1}, "layers ≥ 2"),
        ({"width": 10, "heads": 4}, "width that heads divide"),
        ({"experts": 1}, "experts must be ≥ 2"),
        ({"capacity": 0.0}, "capacity must be"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"initialiser": 0.0}, "initialiser must be"),
    ],
)
def test_bad_settings_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        switch.Settings(**given)


def test_images_are_refused():
    with pytest.raises(InputError, match="needs a text task"):
        switch.build(SETTINGS, {"x": torch.zeros(1, 1, 8, 8)}, 10)
