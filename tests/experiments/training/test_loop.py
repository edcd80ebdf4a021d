"""Runs: resume at tolerance zero (with a control), paired seeds, divergence, and the record that is written."""

import json
import math
import shutil

import pandas as pd
import pytest
import torch

from mat.errors import InputError
from mat.experiments.config.spec import Recipe, Spec
from mat.experiments.training import resume
from mat.experiments.training.code_version import code_hash, run_modules
from mat.experiments.training.cost import Shape, run_cost
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import Machine
from mat.experiments.training.prepare import check
from mat.experiments.training.run import train
from mat.experiments.training.steps.optimizer import schedule
from mat.flops.elementwise import elementwise_macs
from mat.flops.executed import StepLedger, executed_macs
from mat.methods.early_stop import EarlyStop
from mat.records.columns import FINAL_KEYS, RUN_KEYS
from mat.records.costs import COST_LINES
from mat.records.files import CURVE, PROBES, read_whole
from mat.records.run import WRITTEN, kept
from mat.records.seal import SEAL, write_seal

DIGITS = {
    "task": {"name": "digits"},
    "model": {"name": "vgg", "plan": [4, "M", 4, "M"], "filter_groups": 2},
    "recipe": {"optimizer": "sgd", "lr": 0.05, "batch": 200, "epochs": 4, "evaluate_every": 4, "decay": "all"},
    "probe": {"n": 6, "every": 5},
}
TEXT = {
    "task": {"name": "hmm", "train": 64, "validation": 16, "test": 16, "length": 8},
    "model": {"name": "bert", "width": 8, "heads": 2, "dropout": 0.1},
    "recipe": {"lr": 0.01, "batch": 8, "epochs": 2, "evaluate_every": 5, "clip": 1.0},
    "probe": {"n": 6, "every": 3},
}
STEP = {"estimator": "step", "n": 6, "every": 3}
ROUTED = {**TEXT, "model": {**TEXT["model"], "name": "switch", "initialiser": 2.0}}
METHODS = {
    "vanilla": {"name": "vanilla", "observe": True},
    "mat": {"name": "mat"},
    "mat_exact": {"name": "mat", "mode": "exact"},
    "mat_routed": {"name": "mat", "scope": "kind", "routed": True},
    "random": {"name": "random", "share": 0.5},
    "multirate": {"name": "multirate", "k": 2},
    "grades": {"name": "grades", "mode": "exact", "tau": 0.3, "grace": 0.0},
    "ssprop": {"name": "ssprop", "drop": 0.6},
}
ANYWHERE = sorted(set(METHODS) - {"mat_routed", "ssprop"})  # which need experts, or convolutions


def spec(base=DIGITS, method="mat", seed=0, **recipe):
    given = {**base, "method": METHODS[method], "seed": seed, "recipe": {**base["recipe"], **recipe}}
    return Spec.of(given)


def loop(made, tmp_path):
    return Loop(made, tmp_path / made.name, Machine(cache=tmp_path / "cache"))


def trained(made, out, **more):
    return train(made, out, Machine(cache=out.parent), **more)


def timeless(state):
    """The state without wall-clock, which no two processes share."""
    if isinstance(state, dict):
        return {k: timeless(v) for k, v in state.items() if not str(k).startswith("seconds")}
    if isinstance(state, list | tuple):
        return [timeless(v) for v in state]
    return state


def differences(a, b, path=""):
    """Paths at which two nested states differ in any bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(k for k in b if k not in a)]
        return [d for k in keys for d in differences(a.get(k), b.get(k), f"{path}/{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return []
    return [] if type(a) is type(b) and a == b else [path]


def silent(line, share):
    pass


def advanced(one, steps):
    for _ in range(steps):
        one.advance(silent)
    return one


@pytest.mark.parametrize(
    ("base", "method"),
    [
        *((DIGITS, m) for m in ("grades", "ssprop")),
        *((TEXT, m) for m in ("mat", "random", "multirate")),
        ({**TEXT, "probe": STEP}, "mat"),
        ({**ROUTED, "probe": {"n": 6, "every": 3, "first": 5}}, "mat_routed"),
    ],
)
def test_a_resumed_run_is_bit_identical(base, method, tmp_path):
    made = spec(base, method)
    first, second = advanced(loop(made, tmp_path), 7), loop(made, tmp_path)  # amid an epoch and a probe interval
    resume.save_state(tmp_path / "states", {**first.state(), "identity": first.stands_on})
    second.restore(resume.load_state(tmp_path / "states", second.stands_on))
    states = [timeless(advanced(one, 3).state()) for one in (first, second)]
    assert differences(*states) == []


def test_a_run_whose_intervals_grow_is_resumed_bit_for_bit(tmp_path):
    made = spec({**TEXT, "probe": {"n": 6, "every": 1, "grow_above": -0.5, "grow_to": 3}})
    whole, first = loop(made, tmp_path), loop(made, tmp_path)
    advanced(whole, 12)
    advanced(first, 4)  # within an interval that has grown
    assert first.controller.stretch > 1 and not first.controller.due
    resume.save_state(tmp_path / "states", {**first.state(), "identity": first.stands_on})
    second = loop(made, tmp_path)
    second.restore(resume.load_state(tmp_path / "states", second.stands_on))
    advanced(second, 8)
    assert differences(timeless(whole.state()), timeless(second.state())) == []


def test_the_comparison_of_states_sees_another_seed(tmp_path):
    """The control of the test before."""
    one, other = (advanced(loop(spec(TEXT, seed=seed), tmp_path), 1) for seed in (0, 1))
    found = differences(timeless(one.state()), timeless(other.state()))
    assert any("/model/" in path for path in found)
    assert any("/progress/curve/" in path for path in found)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of ``spec()``, and what was said of it."""
    lines, folder = [], tmp_path_factory.mktemp("finished") / "run"
    trained(spec(), folder, report=lambda line, share: lines.append(line))
    return folder, lines


@pytest.fixture
def copy_of(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def test_an_interrupted_command_goes_on_where_it_was(finished, tmp_path):
    made = spec()
    calls = []

    def interrupt(line, share):
        calls.append(line)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(made, tmp_path / "a", report=interrupt, save_every=0)
    state = resume.state_path(tmp_path / "a", code_hash(run_modules(made)))
    assert state.exists()
    assert state.parent != tmp_path / "a", "Snakemake deletes the outputs of a failed job"
    resumed = []
    trained(made, tmp_path / "a", report=lambda line, share: resumed.append(line), save_every=0)
    assert not state.exists()
    assert "step 0/" not in resumed[0], "it began again instead of going on"
    clocks = [name for name in COST_LINES if name.startswith("seconds")]
    for name in (CURVE, PROBES):
        a, b = (read_whole(folder / name) for folder in (tmp_path / "a", finished[0]))
        pd.testing.assert_frame_equal(
            a.drop(columns=clocks, errors="ignore"), b.drop(columns=clocks, errors="ignore"), check_exact=True
        )
    assert (tmp_path / "a/final.json").read_text() == (finished[0] / "final.json").read_text()


def test_methods_of_one_seed_are_paired(tmp_path):
    """Same weights, batches, masks, probe set and first evaluation; another seed changes all of them."""
    for base in (DIGITS, TEXT):
        methods = ANYWHERE if base is TEXT else ("vanilla", "mat")
        loops = [loop(spec(base, method), tmp_path) for method in methods]
        other = loop(spec(base, "mat", seed=1), tmp_path)

        def seen(one, base=base):
            batch = one.task.batch(one.spec.seed, 1, 3, base["recipe"]["batch"])
            one._evaluate(silent)
            return {
                "weights": one.model.state_dict(), "probe": one.controller.probe_inputs, "batch": list(batch),
                "loss": one.progress.curve[0]["val_loss"],
            }  # fmt: skip

        first, *others = map(seen, loops)
        for one in others:
            assert differences(first, one) == []
        changed = {path.split("/")[1] for path in differences(first, seen(other))}
        assert changed == {"weights", "probe", "batch", "loss"}


def test_a_diverging_run_is_recorded_and_raises_nothing(tmp_path):
    final = trained(spec(lr=1e18), tmp_path / "run")
    assert final["status"] == "diverged"
    assert final["test_loss"] is None
    record = json.loads((tmp_path / "run/run.json").read_text())
    curve = read_whole(tmp_path / "run/curve.csv")
    assert record["name"]
    assert curve["step"].iloc[-1] == final["steps"] < 20


@pytest.mark.parametrize(("method", "estimator"), [("mat", "projected"), ("vanilla", "step")])
def test_a_run_whose_kernel_overflows_before_its_loss_is_recorded_too(method, estimator, tmp_path):
    given = {**DIGITS, "method": METHODS[method], "probe": {"n": 6, "every": 1, "estimator": estimator}}
    given["recipe"] = {**DIGITS["recipe"], "lr": 1e18}
    assert trained(Spec.of(given), tmp_path / "run")["status"] == "diverged"


def test_a_run_that_overflows_at_its_last_step_is_not_called_finished(tmp_path):
    one = loop(spec(), tmp_path)
    one.advance(silent)
    with torch.no_grad():
        next(one.model.parameters()).fill_(math.nan)
    assert one.finish()["status"] == "diverged"


def test_a_finished_run_is_not_trained_again(copy_of):
    before = (copy_of / "curve.csv").stat().st_mtime_ns
    assert trained(spec(), copy_of) == json.loads((copy_of / "final.json").read_text())
    assert (copy_of / "curve.csv").stat().st_mtime_ns == before


@pytest.fixture(scope="module", params=[TEXT, ROUTED], ids=["text", "routed"])
def followed(request, tmp_path_factory):
    """Settings, and the folder and name of a run of MAT by them."""
    folder = tmp_path_factory.mktemp("followed")
    given = {**request.param, "method": {"name": "mat", "mode": "exact"}, "probe": {"n": 2, "every": 8}}
    other = Spec.of(given)
    trained(other, folder / other.name)
    return request.param, folder, other.name


def test_early_stopping_spends_what_the_other_run_spent(followed):
    """As many whole steps as the other's compute, its probes included, has room for; the learning rate is that of the
    whole schedule, or goes to zero within them."""
    base, folder, other = followed
    last = read_whole(folder / other / "curve.csv").iloc[-1]
    spent = int(last["macs_executed"] + last["macs_executed_probe"] + last["macs_eigen"])
    cut, one = (
        loop(Spec.of({**base, "method": {"name": "early_stop", "match": other, "schedule": schedule}}), folder)
        for schedule in ("cut", "compressed")
    )
    family, names = one.spec.model.module, one.controller.partition.names
    work = family.work(one.spec.model.settings, one.task.signature, one.recipe.batch)
    step = work.step(names, "exact")
    whole = one.recipe.epochs * one.steps_per_epoch
    assert one.steps == cut.steps == min(spent // step, whole) and one.steps >= 1
    assert (cut.scheduled, one.scheduled) == (whole, one.steps)
    final = trained(one.spec, folder / one.spec.name)
    curve = read_whole(folder / one.spec.name / "curve.csv")
    stands_on = json.loads((folder / one.spec.name / "run.json").read_text())["code"]
    assert {"mat.methods.early_stop", "mat.methods.mat"} <= set(stands_on), "what it follows is of its numbers, too"
    assert final["steps"] == curve["step"].iloc[-1] == one.steps
    routed = 1.05 if base is ROUTED else 1  # planned as if tokens were spread evenly over experts
    assert curve["macs_executed"].iloc[-1] <= spent * routed


def test_a_run_matched_in_compute_spends_the_other_s_to_within_a_step_and_anneals_over_it(followed):
    """Whatever its own steps and probes cost, fewer steps or more; it goes on where it was stopped."""
    base, folder, other = followed
    method = "mat" if base is ROUTED else "multirate"
    last = read_whole(folder / other / "curve.csv").iloc[-1]
    spent = int(last["macs_executed"] + last["macs_executed_probe"] + last["macs_eigen"])
    recipe = {**base["recipe"], "match_compute": other, "warmup": 0.0, "evaluate_every": 1}
    made = Spec.of({**base, "method": METHODS[method], "recipe": recipe})
    one = loop(made, folder)
    places = []
    while one.done < 1:
        places.append(one.done)
        one.advance(silent)
        if len(places) == 2:
            stopped = loop(made, folder)
            stopped.restore(one.state())
            assert stopped.done == one.done
        assert one.optimizer.param_groups[0]["lr"] == pytest.approx(made.recipe.lr * (1 - places[-1]))
    curve = pd.DataFrame(one.progress.curve)
    costs = curve["macs_executed"]
    if METHODS[method]["name"] == "mat":
        costs = costs + curve["macs_executed_probe"] + curve["macs_eigen"]
    assert costs.iloc[-2] < spent <= costs.iloc[-1], "it ends at the first step that has spent it"
    assert curve["step"].iloc[-1] == len(places) and places[0] == 0


def test_a_run_of_a_share_of_its_steps_is_one_of_fewer_steps_by_any_other_name(tmp_path):
    """Schedule, warm-up and plan follow: bit for bit a run of so many epochs."""
    half, short = spec(epochs=4, budget=0.5, warmup=0.25), spec(epochs=2, warmup=0.25)
    assert half.name != short.name
    trained(half, tmp_path / "half"), trained(short, tmp_path / "short")
    first, second = (read_whole(tmp_path / name / "curve.csv") for name in ("half", "short"))
    seconds = [name for name in first if name.startswith("seconds")]
    pd.testing.assert_frame_equal(first.drop(columns=seconds), second.drop(columns=seconds))
    assert run_cost(half) == run_cost(short) and Shape(half).extent == Shape(short).extent
    assert (
        Recipe(budget=1e-9).steps(7) == 1 and Recipe(budget=1.0, epochs=3).steps(7) == Recipe(epochs=3).steps(7) == 21
    )


@pytest.mark.parametrize("mode", ["exact", "detach"])
def test_a_frozen_bottom_costs_as_much_as_the_other_run_less_a_layer_at_most(followed, mode):
    base, folder, other = followed
    last = read_whole(folder / other / "curve.csv").iloc[-1]
    spent = int(last["macs_executed"] + last["macs_executed_probe"] + last["macs_eigen"])
    one = loop(Spec.of({**base, "method": {"name": "frozen_bottom", "match": other, "mode": mode}}), folder)
    one.advance(silent)
    frozen = one.controller.selection.frozen
    modules = one.controller.partition.modules
    work = one.spec.model.module.work(one.spec.model.settings, one.task.signature, one.recipe.batch)
    depths = sorted({module.layer for module in modules})
    costs = [one.steps * work.step([m.name for m in modules if m.layer >= at], mode) for at in depths]
    count = next((i for i, cost in enumerate(costs) if cost <= spent), len(depths) - 1)
    assert frozen == {module.name for module in modules if module.layer < depths[count]}
    assert f"{1 - costs[count] / spent:.2%}" in one.controller.selection.note
    if base is not ROUTED:  # planned as if tokens were spread evenly over experts
        assert one.progress.totals["macs_executed"] * one.steps == costs[count]


@pytest.mark.parametrize(
    ("base", "method"),
    [
        (DIGITS, {"name": "grades", "mode": "exact", "tau": 0.9, "grace": 0.0}),
        (TEXT, {"name": "lcsb", "layers": 1}),
        ({**DIGITS, "model": {"name": "resnet", "width": 4, "filter_groups": 2}}, {"name": "lcsb", "layers": 3}),
    ],
    ids=["grades", "lcsb", "lcsb_resnet"],
)
def test_a_rival_costs_what_its_active_modules_do_and_less_than_all(base, method, tmp_path):
    """By closed form; a layer that LCSB skips costs no gradient of its input, either."""
    one = loop(Spec.of({**base, "method": method, "probe": {"n": 6, "every": 1}}), tmp_path)
    work = one.spec.model.module.work(one.spec.model.settings, one.task.signature, one.recipe.batch)
    mode, names, spent = one.spec.method.settings.mode, one.controller.partition.names, 0
    for _ in range(3):
        advanced(one, 1)
        cost = one.progress.totals["macs_executed"] - spent
        spent += cost
        assert cost == work.step(one.controller.active, mode)
    assert cost < work.step(names, mode)
    if method["name"] == "lcsb":
        assert cost < work.step(one.controller.active, "exact")


def test_a_scheduled_sparse_backward_pass_costs_what_its_intervals_do(tmp_path):
    """Of 4 channels drop = 0.6 keeps 1, in steps 5 … 9: a quarter of either gradient of both convolutions."""
    one = loop(spec(DIGITS, "ssprop"), tmp_path)
    work = one.spec.model.module.work(one.spec.model.settings, one.task.signature, one.recipe.batch)
    names = one.controller.partition.names
    dense = work.step(names, "exact")
    sparse = dense - 3 * sum(work[name].weight + work[name].input for name in names) // 4
    spent = [advanced(one, 1).progress.totals["macs_executed"] for _ in range(12)]
    assert [b - a for a, b in zip([0, *spent], spent, strict=False)] == [dense] * 5 + [sparse] * 5 + [dense] * 2


def test_what_a_model_adds_to_the_loss_is_trained_and_not_reported(tmp_path):
    """Switch's balance loss moves the routers; the first step's reported loss is the task's alone."""
    first = {}
    for balance in (0.0, 1.0):
        base = {**ROUTED, "model": {**ROUTED["model"], "balance": balance, "dropout": 0.0}}
        one = loop(spec(base, "vanilla"), tmp_path)
        one.advance(silent)
        routers = {k: v for k, v in one.model.state_dict().items() if "router" in k}
        first[balance] = one.loss_sum.take(), routers
    assert first[0.0][0] == first[1.0][0] > 0
    assert any(not torch.equal(value, first[1.0][1][name]) for name, value in first[0.0][1].items())


def test_early_stopping_never_trains_longer():
    method = EarlyStop(match="mat")
    assert method.length(100, 7, 10**9) == (100, 100)
    assert method.length(100, 7, 70) == (10, 10) and method.length(100, 7, 76) == (10, 10)
    assert method.length(100, 7, 1) == (1, 1), "one step at least"
    assert EarlyStop(match="mat", schedule="cut").length(100, 7, 70) == (10, 100)


BUDGETS = {"digits": (DIGITS, 0.05), "text": ({**TEXT, "recipe": {**TEXT["recipe"], "epochs": 12}}, 0.2)}


@pytest.mark.parametrize(("name", "method"), [("digits", "mat"), ("text", "mat_exact")])
def test_the_probes_of_a_run_stay_within_its_budget(name, method, tmp_path):
    """The first one, which finds every row's sample, and the eigenvalues included; and what was chosen is written."""
    base, budget = BUDGETS[name]
    made = spec({**base, "probe": {"n": 64, "every": 5, "budget": budget}}, method)
    trained(made, tmp_path / "run")
    last = read_whole(tmp_path / "run/curve.csv").iloc[-1]
    probes = last["macs_executed_probe"] + last["macs_eigen"]
    assert 0 < probes <= budget * last["macs_executed"]
    record = json.loads((tmp_path / "run/run.json").read_text())
    written = (record["probe_n"], record["probe_directions"], record["interval"])
    assert written == loop(made, tmp_path).extent == Shape(made).extent
    assert written[0] < 64 and written[2] >= 5
    assert set(read_whole(tmp_path / "run/probes.csv.gz")["n"]) == {written[0]}


def test_a_run_is_probed_at_the_positions_of_its_specification(tmp_path):
    """Of the same name, samples and directions; all of them are another run."""
    some, every = (spec({**TEXT, "probe": {**TEXT["probe"], "positions": positions}}) for positions in (2, 0))
    assert some.name != every.name
    chosen = [loop(made, tmp_path).controller for made in (some, every)]
    assert [controller.estimator.positions for controller in chosen] == [2, 0]
    seen = [controller.measure(first=True)[1].lambda_max for controller in chosen]
    assert seen[0].keys() == seen[1].keys() and seen[0] != seen[1]


def test_methods_of_one_task_have_one_probe_set_within_a_budget(tmp_path):
    base = {**DIGITS, "probe": {"n": 64, "every": 5, "budget": 0.1}}
    found = {loop(spec(base, method), tmp_path).extent for method in ANYWHERE}
    assert len(found) == 1


def test_a_run_too_short_for_a_probe_is_refused_only_where_something_is_probed(tmp_path):
    """Vanilla over a small part of its steps, which measures nothing, is a point of the frontier."""
    short = {**DIGITS, "probe": {"n": 64, "every": 5, "budget": 1e-6}}
    trained(Spec.of({**short, "method": {"name": "vanilla"}}), tmp_path / "vanilla")
    assert json.loads((tmp_path / "vanilla/run.json").read_text())["interval"] == 5
    for method in ({"name": "vanilla", "observe": True}, {"name": "random", "share": 0.5}, {"name": "mat"}):
        with pytest.raises(InputError, match="pays for no probe"):
            loop(Spec.of({**short, "method": method}), tmp_path)


def test_a_run_follows_one_whose_intervals_grew(tmp_path):
    """Its intervals begin at the same steps, with as many active modules, whatever interval is its own."""
    probe = {"n": 6, "every": 1, "grow_above": -0.5, "grow_to": 3}
    other = Spec.of({**TEXT, "method": {"name": "mat"}, "probe": probe})
    trained(other, tmp_path / other.name)
    begun = read_whole(tmp_path / other.name / "probes.csv.gz").groupby("step")["active"].sum()
    assert len(set(begun.index.to_series().diff().dropna())) > 1, "they grew"
    made = Spec.of({**TEXT, "method": {"name": "random", "match": other.name}, "probe": {**probe, "every": 5}})
    trained(made, tmp_path / made.name)
    assert read_whole(tmp_path / made.name / "probes.csv.gz").groupby("step")["active"].sum().equals(begun)


def test_what_is_written(tmp_path):
    made = spec(TEXT, "mat")
    final = trained(made, tmp_path / "run", labels={"scale": "s", "task": "t", "method": "m"})
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(WRITTEN)
    assert set(record) == set(RUN_KEYS) and set(final) == set(FINAL_KEYS)
    assert record["code"] == run_modules(made)
    assert record["name"] == made.name
    assert Spec.of(record["spec"]) == made
    assert record["labels"] == {"scale": "s", "task": "t", "method": "m"}
    assert record["charges_probe"] is True
    modules = sum(row["parameters"] for row in record["modules"]) + record["remainder_parameters"]
    assert modules == sum(p.numel() for p in loop(made, tmp_path).model.parameters())
    curve = read_whole(tmp_path / "run/curve.csv")
    probes = read_whole(tmp_path / "run/probes.csv.gz")
    assert list(curve["step"]) == [0, 5, 10, 15, 16] and final["steps"] == 16
    assert curve[list(COST_LINES)].diff().dropna().min().min() >= 0, "ledgers only grow"
    shares, steps = curve[["active_share", "reached_share"]][1:], curve["step"].diff()[1:]
    assert (shares["reached_share"] > 0).all() and (shares["reached_share"] <= shares["active_share"]).all()
    of_probes = probes.groupby("interval")[["active", "reached"]].mean().mul([3, 3, 3, 3, 3, 1], axis=0).sum()
    assert of_probes.to_numpy() == pytest.approx(shares.mul(steps, axis=0).sum().to_numpy()), (
        "one share, in two records"
    )
    assert set(probes["interval"]) == set(range(6)) and (probes["lambda_max"] > 0).all()
    assert list(probes.groupby("interval")["step"].first()) == [0, 3, 6, 9, 12, 15]


def test_the_ledgers_of_a_run_are_those_of_its_steps(tmp_path):
    """Executed: the closed form summed over steps; the probe: what one probe runs, counted apart."""
    one = loop(spec(TEXT, "random"), tmp_path)
    expected, family, settings = 0, one.spec.model.module, one.spec.model.settings
    for _ in range(8):
        one.advance(silent)
        expected += family.work(settings, one.task.signature, 8).step(one.controller.active, "detach")
    assert one.progress.totals["macs_executed"] == expected
    assert one.progress.totals["macs_executed_probe"] == one.progress.totals["macs_eigen"] == 0
    probing = loop(spec(TEXT, "mat"), tmp_path)
    controller = loop(spec(TEXT, "mat"), tmp_path).controller
    first, _ = executed_macs(controller.begin_step)
    later, _ = executed_macs(lambda: controller.measure(first=False))
    for _ in range(4):
        probing.advance(silent)
    assert probing.progress.totals["macs_executed_probe"] == first + later
    assert first >= later > 0  # rows whose samples are known are traced by neither
    assert probing.progress.totals["macs_eigen"] == 2 * (len(probing.controller.partition.modules) + 1) * 144


def test_a_recorded_step_costs_an_exact_one_and_the_probe_is_charged_with_the_rest(tmp_path):
    """Executed: the closed form of an exact step, and all that ran beside it; nominal: a forward pass per sample."""
    one, other = (loop(spec({**TEXT, "probe": STEP}), tmp_path) for _ in range(2))
    other.controller.begin_step()
    ran, _ = executed_macs(lambda: other._step(other.task.batch(0, 0, 0, 8)))
    family, settings, totals = one.spec.model.module, one.spec.model.settings, one.progress.totals
    expected, sizes = 0, set()
    for step in range(7):
        probed = totals["macs_executed_probe"]
        one.advance(silent)
        recorded = step % 3 == 0
        active = one.controller.active
        sizes.add(len(active))
        mode = "exact" if recorded else "detach"
        expected += family.work(settings, one.task.signature, 8).step(active, mode)
        assert totals["macs_executed"] == expected
        assert (totals["macs_executed_probe"] > probed) == recorded
        if step == 0:
            assert expected + totals["macs_executed_probe"] == ran
    assert len(sizes) > 1, "nothing was ever left out, so nothing was tested"
    assert totals["macs_nominal_probe"] == 3 * 6 * one.nominal.forward
    assert totals["macs_eigen"] == 3 * (len(one.controller.partition.modules) + 1) * 144


def test_what_a_recorded_step_costs_is_counted_once_for_an_active_set(tmp_path):
    """The first traces every row to its sample and is dearer."""
    one, costs = loop(spec({**TEXT, "probe": STEP}, "vanilla"), tmp_path), []
    for _ in range(7):
        before = one.progress.totals["macs_executed_probe"]
        one.advance(silent)
        costs.append(one.progress.totals["macs_executed_probe"] - before)
    assert costs[0] > costs[3] == costs[6] > 0 and set(costs[1:3]) | set(costs[4:6]) == {0}
    assert len(one.progress.recorded_macs) == 1


def test_what_counting_takes_is_no_training_time(tmp_path, monkeypatch):
    """A clock that only counting moves: no line of seconds may show it."""
    now = [0.0]
    monkeypatch.setattr("mat.experiments.training.loop.time.perf_counter", lambda: now[0])

    def slowly(count):
        def counting(*args):
            now[0] += 1000
            return count(*args)

        return counting

    def quickly(step):
        def stepping(batch):
            now[0] += 1
            return step(batch)

        return stepping

    one = loop(spec(TEXT, "mat"), tmp_path)
    monkeypatch.setattr("mat.flops.executed.executed_macs", slowly(executed_macs))
    monkeypatch.setattr("mat.flops.elementwise.elementwise_macs", slowly(elementwise_macs))
    monkeypatch.setattr(one, "_step", quickly(one._step))
    while one.progress.step < one.steps:
        one.advance(silent)
    assert now[0] > 3000, "something was counted"
    assert one.progress.totals["seconds_train"] == one.steps
    assert one.progress.totals["seconds_probe"] == 0


def test_with_experts_every_step_costs_what_was_routed_in_it(tmp_path, monkeypatch):
    """The sum that a run remembers its steps by is the sum of counting each of them."""
    given = {**ROUTED, "model": {**ROUTED["model"], "dropout": 0.0}}
    one, every = (loop(spec(given, "multirate"), tmp_path) for _ in range(2))
    counts, nominal = [], []

    def always(run, active, memo, channels):
        memo.clear()
        counts.append(StepLedger.step(every.ledger, run, active, memo, channels))
        nominal.append(every.nominal.step(8, active, counts[-1].routed))
        return counts[-1]

    monkeypatch.setattr(every.ledger, "step", always)
    for _ in range(6):
        one.advance(silent)
        every.advance(silent)
    assert one.progress.totals == pytest.approx(every.progress.totals | seconds(one))
    assert one.progress.totals["macs_nominal"] == sum(nominal)
    assert len({step.macs for step in counts}) > 2, "routing did not change, so nothing was tested"
    assert len(one.progress.step_macs) < 6
    assert not any(module._forward_pre_hooks for module in one.model.modules())


def seconds(one):
    return {name: value for name, value in one.progress.totals.items() if name.startswith("seconds")}


def test_the_optimizers_line_is_what_its_steps_do(tmp_path):
    """AdamW by hand: 7 operations an entry, one more where there is decay; with the clip 3 and some scalars."""
    one = loop(spec(TEXT, "multirate", weight_decay=0.1, decay="matrices", clip=0.0), tmp_path)
    assert isinstance(one.optimizer, torch.optim.AdamW)
    expected, leaves = 0, 0
    for _ in range(4):
        one.advance(silent)
        for group in one.optimizer.param_groups:
            trained = [leaf for leaf in group["params"] if leaf.grad is not None]
            leaves += len(trained)
            expected += sum(leaf.numel() for leaf in trained) * (7 + (group["weight_decay"] > 0)) / 2
    found = one.progress.totals["macs_optimizer"]
    assert expected <= found <= expected + leaves / 2  # each leaf counts its steps, too
    clipped, always = (loop(spec(TEXT, "multirate", weight_decay=0.1, decay="matrices"), tmp_path) for _ in range(2))
    for _ in range(4):
        clipped.advance(silent)
        always.progress.optimizer_macs.clear()
        always.advance(silent)
    assert found < clipped.progress.totals["macs_optimizer"] == always.progress.totals["macs_optimizer"]


def test_multirate_trains_its_slow_part_every_kth_step_with_k_times_the_rate(tmp_path):
    one = loop(spec(TEXT, "multirate"), tmp_path)
    slow = set(one.controller.periods)
    assert slow == {m.name for m in one.controller.partition.modules if m.layer == 0}
    trained = []
    for _ in range(4):
        one.advance(silent)
        trained.append(slow <= one.controller.active)
    assert trained == [False, True, False, True]
    leaf = one.controller.sparse.module_parameters("layer0.ffn")[0]
    rates = {
        id(p): rate for g, rate in zip(one.optimizer.param_groups, one.base_rates, strict=True) for p in g["params"]
    }
    assert rates[id(leaf)] == 2 * rates[id(one.controller.sparse.module_parameters("layer1.ffn")[0])]


@pytest.mark.parametrize("base", [DIGITS, {**TEXT, "model": {"name": "bert", "width": 8, "heads": 2}}])
def test_a_step_in_bfloat16_costs_the_same_products_and_keeps_float32_weights(base, tmp_path):
    plain, mixed = (loop(spec(base, precision=p), tmp_path) for p in ("float32", "bfloat16"))
    kinds = []
    last = [m for m in mixed.model.modules() if isinstance(m, torch.nn.Linear)][-1]
    last.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    for one in (plain, mixed):
        one.controller.begin_step()
        assert set(kinds) <= {torch.float32}, "the probe"
        kinds.clear()
        one.loss = one._step(one.task.batch(0, 0, 0, 8))
    assert kinds == [torch.bfloat16]
    assert mixed.loss != plain.loss and math.isclose(mixed.loss, plain.loss, rel_tol=0.02)
    assert {p.dtype for p in mixed.controller.parameters()} == {torch.float32}
    kinds.clear()
    mixed._evaluate(silent)
    assert set(kinds) == {torch.float32}
    for one in (plain, mixed):
        one.advance(silent)
    assert mixed.progress.totals["macs_executed"] == plain.progress.totals["macs_executed"] > 0


def test_schedules_by_hand():
    linear = Recipe(schedule="linear", warmup=0.2)
    assert [schedule(linear, s, 10) for s in (0, 1, 2, 6)] == [0.5, 1.0, 1.0, 0.5]
    cosine = Recipe(schedule="cosine", warmup=0)
    assert schedule(cosine, 0, 10) == 1 and math.isclose(schedule(cosine, 5, 10), 0.5)
    assert schedule(Recipe(schedule="constant", warmup=0), 9, 10) == 1


class TestBadInput:
    def test_a_probe_larger_than_the_data(self, tmp_path):
        with pytest.raises(InputError, match="probe size"):
            trained(Spec.of({**TEXT, "method": {"name": "mat"}, "probe": {"n": 65}}), tmp_path / "run")

    def test_more_samples_of_a_step_than_its_batch_has(self):
        with pytest.raises(InputError, match=r"samples of one training batch, n of at most 8 \(recipe: batch\), got 9"):
            Spec.of({**TEXT, "method": {"name": "mat"}, "probe": {"n": 9, "estimator": "step"}})

    def test_a_batch_larger_than_the_data(self, tmp_path):
        with pytest.raises(InputError, match="batch size"):
            trained(spec(TEXT, batch=65), tmp_path / "run")

    def test_a_task_that_does_not_fit_the_model(self, tmp_path):
        with pytest.raises(InputError, match="needs a task with the objective"):
            train(Spec.of({**DIGITS, "model": {"name": "bert"}, "method": {"name": "mat"}}), tmp_path / "run")

    def test_an_output_that_is_a_file(self, tmp_path):
        (tmp_path / "run").write_text("")
        with pytest.raises(InputError, match="cannot write to"):
            trained(spec(), tmp_path / "run")

    def test_a_check_finds_all_of_it_without_training(self, tmp_path):
        for bad, message in ((spec(TEXT, batch=65), "batch size"), ({"probe": {"n": 65}}, "probe size")):
            made = bad if isinstance(bad, Spec) else Spec.of({**TEXT, "method": {"name": "mat"}, **bad})
            with pytest.raises(InputError, match=message):
                check(made, Machine(cache=tmp_path))
        assert check(spec(TEXT), Machine(cache=tmp_path))["sizes"]["train"] == 64

    def test_a_folder_of_another_run(self, copy_of):
        with pytest.raises(InputError, match="holds the run"):
            trained(spec(lr=0.01), copy_of)

    def test_a_folder_of_another_code_version(self, copy_of):
        record = json.loads((copy_of / "run.json").read_text())
        record["code"]["mat.controller"] = "0" * 16
        (copy_of / "run.json").write_text(json.dumps(record))
        write_seal(copy_of / SEAL, kept(copy_of))
        with pytest.raises(InputError, match=r"was made by other code: mat\.controller changed"):
            trained(spec(), copy_of)

    def test_a_state_of_other_data(self, tmp_path):
        one = loop(spec(), tmp_path)
        one.advance(silent)
        resume.save_state(tmp_path / "states", {**one.state(), "identity": {**one.stands_on, "data_hash": "x"}})
        with pytest.raises(InputError, match="data_hash 'x'"):
            resume.load_state(tmp_path / "states", one.stands_on)

    def test_a_matched_run_that_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match="train it first"):
            train(Spec.of({**DIGITS, "method": {"name": "random", "match": "nowhere"}}), tmp_path / "run")


def test_the_first_line_says_nothing_of_steps_because_there_was_none(finished):
    first, *others = finished[1]
    assert "validation loss" in first
    assert "train loss" not in first
    assert "active" not in first
    assert others
    assert all("train loss" in line and "active" in line for line in others)


@pytest.mark.parametrize("base", [DIGITS, TEXT])
def test_a_twin_differs_in_one_weight_which_its_first_loss_depends_on(base, tmp_path):
    ours, twins = (loop(spec(base, "vanilla", **recipe), tmp_path) for recipe in ({}, {"nudge": 0.5}))
    moved = {
        name: torch.nonzero(ours.model.state_dict()[name] != value) for name, value in twins.model.state_dict().items()
    }
    assert sum(len(places) for places in moved.values()) == 1
    name, place = next((name, tuple(places[0])) for name, places in moved.items() if len(places))
    before, after = (one.model.state_dict()[name][place].item() for one in (ours, twins))
    assert after == pytest.approx(1.5 * before) and before != 0
    first = [one.losses(one.model.eval(), one.task.batch(0, 0, 0, 8))[0].item() for one in (ours, twins)]
    assert first[0] != first[1]


def test_the_smallest_nudge_moves_any_weight_in_single_precision():
    values = torch.cat([torch.linspace(1, 2, 10_001), torch.linspace(-2, -1, 10_001)])
    assert ((values * (1 + 1e-7)) != values).all()
