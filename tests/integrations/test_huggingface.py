"""MAT in Hugging Face's Trainer: the same training as a plain loop's, resumed exactly, and no trace afterwards."""

import copy

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")
import transformers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from mat import MAT, Controller, InputError, MATCallback, partition_model
from mat.integrations.huggingface import draw_probe
from mat.kernels.ntk import modular_ntk
from mat.methods.multirate import Multirate
from tests.rounding import ROUNDING

SAMPLES, BATCH, STEPS = 24, 4, 6
# what Adam's steps, lr / 1e-8 times the gradient where there is none, make of rounding in doubles
DOUBLE = STEPS * 0.02 / 1e-8 * ROUNDING


def model(dropout=0.0):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        initializer_range=0.5,  # so that heads have gradients of the size of all others
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForSequenceClassification(config)


def data():
    draws = torch.Generator().manual_seed(1)
    return [
        {"input_ids": torch.randint(50, (8,), generator=draws), "labels": torch.tensor(i % 2)} for i in range(SAMPLES)
    ]


def probe():
    return {"input_ids": torch.stack([sample["input_ids"] for sample in data()[:8]])}


def arguments(folder, **options):
    defaults = {
        "per_device_train_batch_size": BATCH,
        "max_steps": STEPS,
        "learning_rate": 0.02,
        "weight_decay": 0.1,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "train_sampling_strategy": "sequential",
    }
    return TrainingArguments(str(folder), **{**defaults, **options})


def callback(method=None, **options):
    return MATCallback(method or MAT(alpha=0.6), **{"probe": probe(), "every": 2, **options})


def trained(folder, one=None, made=None, others=(), **options):
    one, made = one or model(), made or callback()
    trainer = Trainer(one, arguments(folder, **options), train_dataset=data(), callbacks=[made, *others])
    trainer.model_accepts_loss_kwargs = False  # else transformers leaves this model's accumulated loss undivided
    trainer.train()
    return one, made, trainer


def plain_loop(folder, clip, accumulate=1, method=None, bf16=False, one=None):
    """What the callback stands for, written out; also the clipped norms, and what clipping model.parameters() gives."""
    one = one or model()
    optimizer = Trainer(one, arguments(folder)).create_optimizer()
    controller = Controller(one, partition_model(one), method or MAT(alpha=0.6), probe(), every=2, seed=42)
    controller.adopt(optimizer)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, STEPS)
    samples, norms, partial = data(), [], []
    for step in range(STEPS):
        controller.begin_step()
        one.train()
        for part in range(accumulate):
            start = (step * accumulate + part) * BATCH % SAMPLES
            chosen = samples[start : start + BATCH]
            batch = {name: torch.stack([sample[name] for sample in chosen]) for name in chosen[0]}
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = one(**batch).loss / accumulate
            loss.backward()
        partial.append(float(torch.nn.utils.get_total_norm([p.grad for p in one.parameters() if p.grad is not None])))
        norms.append(float(torch.nn.utils.clip_grad_norm_(controller.parameters(), clip or float("inf"))))
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    controller.close()
    return one, controller, norms, partial


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize(("clip", "accumulate"), [(0.05, 3), (0.0, 1)])
def test_it_trains_as_the_plain_loop_does(tmp_path, clip, accumulate):
    """Weights, records and the logged norm; clipping is by the norm of the slices, or the weights would differ."""
    start, options = model().double(), {"max_grad_norm": clip, "gradient_accumulation_steps": accumulate}
    one, made, trainer = trained(tmp_path, copy.deepcopy(start), **options)
    reference, controller, norms, partial = plain_loop(tmp_path, clip, accumulate, one=start)
    for name, value in reference.state_dict().items():
        atol = 0 if accumulate == 1 else DOUBLE
        torch.testing.assert_close(one.state_dict()[name], value, rtol=0, atol=atol)
    logs = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["grad_norm"] for row in logs] == pytest.approx(norms, rel=1e-4)
    assert norms != pytest.approx(partial, rel=1e-2), "control: model.parameters() alone has another norm"
    assert min(norms) > 0.05, "control: every step was clipped"
    assert [row["active_share"] for row in logs[::2]] == pytest.approx(
        [np.mean([r["active"] for r in controller.records if r["step"] == step]) for step in (0, 2, 4)]
    )
    assert all(0 < row["reached_share"] <= row["active_share"] for row in logs)
    assert made.controller.step == STEPS and len(made.controller.history) == 3
    assert [r["active"] for r in made.controller.records] == [r["active"] for r in controller.records]
    assert 0 < np.mean([r["active"] for r in controller.records]) < 1


def test_model_optimizer_and_arguments_are_plain_again(tmp_path):
    one, _, trainer = trained(tmp_path, gradient_accumulation_steps=2)
    assert not any({"forward", "parameters"} & set(vars(module)) for module in one.modules())
    held = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in one.parameters()} and len(held) == len(list(one.parameters()))
    assert trainer.args.max_grad_norm == 1.0
    before = copy.deepcopy(one)
    trainer.pop_callback(MATCallback)
    trainer.train()
    assert not same(one, before)


class Stop(TrainerCallback):
    """Ends training after a step, as an interruption does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


@pytest.mark.parametrize("recorded", [False, True])
def test_resuming_from_a_checkpoint_is_exact(tmp_path, recorded):
    """Stopped within an interval, or right after a recorded step, with dropout and shuffling, in bf16 or not: weights,
    records and optimizer state."""
    options = {"save_strategy": "steps", "save_steps": 3, "train_sampling_strategy": "random", "bf16": recorded}
    make = lambda: callback(**({"probe": None, "estimator": "step"} if recorded else {}))  # noqa: E731
    whole = trained(tmp_path / "whole", model(0.1), make(), **options)
    part, *_ = trained(tmp_path / "part", model(0.1), make(), [Stop(3)], **options)
    again, made = model(0.1), make()
    trainer = Trainer(again, arguments(tmp_path / "part", **options), train_dataset=data(), callbacks=[made])
    trainer.train(resume_from_checkpoint=True)
    assert same(whole[0], again)
    assert not same(whole[0], part), "control: half the training is not the same"
    np.testing.assert_equal(made.controller.records, whole[1].controller.records)
    assert {row["n"] for row in made.controller.records} == {BATCH if recorded else 8}
    state = [
        torch.load(folder / f"checkpoint-{STEPS}" / "optimizer.pt", weights_only=True)
        for folder in (tmp_path / "whole", tmp_path / "part")
    ]
    torch.testing.assert_close(*state, rtol=0, atol=0)
    assert len(state[0]["param_groups"][0]["params"]) < len(list(made.controller.partition.modules)) * 10


@pytest.mark.parametrize("accumulate", [1, 2])
def test_kernels_are_read_from_trainers_own_steps(tmp_path, accumulate):
    """Of the step's first batch, undivided by how many are accumulated: what a plain loop of whole batches sees."""
    option = {"estimator": "step", "seed": 0}
    start, made = model().double(), callback(probe=3, **option)
    one, made, _ = trained(tmp_path, copy.deepcopy(start), made, gradient_accumulation_steps=accumulate)
    assert {(row["n"], row["way"]) for row in made.controller.records} == {(3, "training step")}
    assert sorted({row["step"] for row in made.controller.records}) == [0, 2, 4] and made.controller.step == STEPS
    first = [sample["input_ids"] for sample in data()[:3]], [sample["labels"] for sample in data()[:3]]
    inputs, labels = {"input_ids": torch.stack(first[0])}, torch.stack(first[1])
    loss = lambda logits, labels: torch.nn.functional.cross_entropy(logits, labels, reduction="none")  # noqa: E731
    kernels = modular_ntk(start, partition_model(start), inputs, "loss", labels=labels, loss=loss)
    expected = {row["module"]: row["lambda_max"] for row in kernels.table().to_dict("records")}
    assert made.controller.history[0].lambda_max == pytest.approx(expected, rel=1e-9)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in one.modules())


def test_a_plain_checkpoint_goes_on_with_mat_and_says_so(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 3}
    Trainer(model(), arguments(tmp_path, **{**options, "max_steps": 3}), train_dataset=data()).train()
    made = callback()
    trainer = Trainer(model(), arguments(tmp_path, **options), train_dataset=data(), callbacks=[made])
    with pytest.warns(UserWarning, match="its method begins here"):
        trainer.train(resume_from_checkpoint=True)
    assert made.controller.step == STEPS - 3


class Watch(TrainerCallback):
    """The evaluation loss of a plain copy of the model, at every evaluation."""

    def __init__(self, evaluate):
        self.evaluate, self.losses = evaluate, []

    def on_evaluate(self, args, state, control, model, metrics, **kwargs):
        assert "parameters" not in vars(model)  # only within a step
        self.losses.append((metrics["eval_loss"], self.evaluate(copy.deepcopy(model))))


def test_evaluation_is_plain_and_the_best_model_is_loaded(tmp_path):
    args = arguments(tmp_path / "eval", max_steps=1)
    watch = Watch(lambda one: Trainer(one, args, eval_dataset=data()).evaluate()["eval_loss"])
    one, best = model(), {"load_best_model_at_end": True, "save_strategy": "steps", "eval_strategy": "steps"}
    options = arguments(tmp_path / "run", eval_steps=2, save_steps=2, learning_rate=0.3, **best)
    trainer = Trainer(one, options, train_dataset=data(), eval_dataset=data(), callbacks=[callback(), watch])
    trainer.train()
    assert len(watch.losses) == 3 and all(found == plain for found, plain in watch.losses)
    assert trainer.evaluate()["eval_loss"] == min(found for found, _ in watch.losses)


def test_activation_checkpointing_changes_nothing(tmp_path, recwarn):
    start = model().double()
    one, made, _ = trained(tmp_path, copy.deepcopy(start), activation_checkpointing=True)
    reference, controller, *_ = plain_loop(tmp_path, 1.0, one=start)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], value, rtol=0, atol=DOUBLE)
    assert [r["lambda_max"] for r in made.controller.records] == pytest.approx(
        [r["lambda_max"] for r in controller.records], rel=1e-3
    )
    assert [str(w.message) for w in recwarn if "sample by sample" in str(w.message)] == []


def test_bf16_trains_as_the_plain_loop_does_under_autocast(tmp_path):
    """Steps run under autocast, probes in full precision."""
    one, made, _ = trained(tmp_path, bf16=True)
    reference, controller, *_ = plain_loop(tmp_path, 1.0, bf16=True)
    full = plain_loop(tmp_path, 1.0)[0]
    assert [r["lambda_max"] for r in made.controller.records] == [r["lambda_max"] for r in controller.records]
    assert same(one, reference) and not same(one, full)


def test_a_probe_is_drawn_by_the_seed_and_moves_no_stream():
    def collate(samples):
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        return {**batch, "masked": torch.rand(len(samples))}

    loader = torch.utils.data.DataLoader(data(), batch_size=2, collate_fn=collate)
    drawn = []
    for seed in (3, 3, 4):
        torch.rand(1)  # the stream is elsewhere at every draw, as it is in a resumed process
        before = torch.get_rng_state()
        drawn.append(draw_probe(loader, 5, seed))
        assert torch.equal(torch.get_rng_state(), before)
    first, again, other = drawn
    assert first["input_ids"].shape == (5, 8) and first.keys() == {"input_ids", "labels", "masked"}
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["input_ids"], other["input_ids"])
    with pytest.raises(InputError, match="from a data set of 24"):
        draw_probe(loader, 25, 0)


def test_a_number_of_samples_is_enough_of_a_probe(tmp_path):
    made = callback(probe=6)
    trained(tmp_path, made=made)
    assert made.controller.probe_inputs.keys() == {"input_ids"} and len(made.controller.history) == 3


@pytest.mark.parametrize("kind", ["T5", "Bart"])
def test_a_decoder_is_probed_on_what_training_feeds_it(tmp_path, kind):
    torch.manual_seed(0)
    sizes = {
        "T5": {"d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0},
        "Bart": {
            **{f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 16))},
            **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        },
    }[kind]
    config = getattr(transformers, f"{kind}Config")(vocab_size=20, d_model=8, **sizes)
    one = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    samples = [{"input_ids": torch.randint(3, 20, (6,)), "labels": torch.randint(3, 20, (4,))} for _ in range(8)]
    fed, made = [], callback(probe=8, every=1, estimator="sum_of_logits")
    one.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: fed.append(kwargs["input_ids"]) if one.training else None, with_kwargs=True
    )
    options = {"per_device_train_batch_size": 8, "max_steps": 1, "learning_rate": 0.0}
    Trainer(one, arguments(tmp_path, **options), train_dataset=samples, callbacks=[made]).train()
    probed = made.controller.probe_inputs["decoder_input_ids"]
    assert len(fed) == 1 and sorted(probed.tolist()) == sorted(fed[0].tolist())
    with pytest.raises(InputError, match="decodes from its labels in training"):
        made = callback(probe={"input_ids": samples[0]["input_ids"][None]})
        Trainer(one, arguments(tmp_path, **options), train_dataset=samples, callbacks=[made]).train()


def test_an_error_in_training_leaves_a_model_that_can_be_given_back(tmp_path):
    class Breaks(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    one, made = model(), callback()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, one, made, [Breaks()])
    assert "parameters" in vars(one)
    made.close()
    assert not any({"forward", "parameters"} & set(vars(module)) for module in one.modules())


@pytest.mark.parametrize(
    ("options", "method", "message"),
    [
        ({"fp16": True}, None, "fp16=True"),
        ({"torch_compile": True}, None, "torch_compile=True"),
        ({"restore_callback_states_from_checkpoint": True}, None, "MATCallback restores itself"),
        ({}, Multirate(k=2), "use a Controller in a loop of your own"),
    ],
)
def test_what_it_cannot_run_in_is_refused(tmp_path, options, method, message):
    args = arguments(tmp_path)
    for name, value in options.items():
        setattr(args, name, value)  # TrainingArguments itself refuses some of these without a GPU
    one, made = model(), callback(method)
    with pytest.raises(InputError, match=message):
        Trainer(one, args, train_dataset=data(), callbacks=[made]).train()
    assert not any("forward" in vars(module) for module in one.modules())
