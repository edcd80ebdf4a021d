"""The plan: its numbers by hand, on tasks that only their outline is known of, and what it prints."""

import json
import re
from pathlib import Path

import pytest
import torch

from mat.errors import InputError
from mat.experiments import tasks
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import ScaleConfig, read_scale
from mat.experiments.config.spec import Spec
from mat.experiments.planning import report, speed
from mat.experiments.planning.report import number
from mat.experiments.planning.rows import rows, whole
from mat.experiments.planning.speed import Speed
from mat.experiments.studies.agreement.study import AGREEMENT
from mat.experiments.studies.branches.study import BRANCHES
from mat.experiments.training.cost import Shape, run_cost

ROOT = Path(__file__).parents[3]
VGG = {"name": "vgg", "plan": [4, "M", 8], "filter_groups": 2}
# 4 filters of 3×3×3 on 8×8, 8 of 3×3×4 on 4×4, a linear layer 8 → 10
CONV0, CONV1, LINEAR = 9 * 3 * 4 * 64, 9 * 4 * 8 * 16, 8 * 10
FORWARD = CONV0 + CONV1 + LINEAR
STEP = 10 * (3 * FORWARD - CONV0)  # the images have no gradient
CONFIG = {
    "scale": "small",
    "seeds": [0, 1, 2],
    "threads": 1,
    "tasks": {
        "images": {
            "task": {"name": "stub"},
            "model": VGG,
            "recipe": {"batch": 10, "epochs": 3, "evaluate_every": 7},
            "probe": {"n": 6, "every": 4, "directions": 5},
            "tags": ["pictures"],
        },
        "text": {
            "task": {"name": "stub", "objective": "masked_lm", "train": 64},
            "model": {"name": "bert", "layers": 1, "width": 8, "heads": 2},
            "recipe": {"batch": 32, "precision": "bfloat16"},
            "probe": {"n": 64, "directions": 8},
            "tags": ["texts", "small"],
        },
    },
    "methods": {
        "vanilla": {"name": "vanilla"},
        "mat": {"name": "mat"},
        "random": {"name": "random", "match": "mat", "observe": True},
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "stub", "tests.stub_task")


def expand_in(config):
    return expand(ScaleConfig.of(config))


def cost(method, **changes):
    task = CONFIG["tasks"]["images"]
    given = {key: {**task[key], **changes.get(key, {})} for key in ("task", "model", "recipe", "probe")}
    return run_cost(Spec.of({**given, "method": method}))


def test_training_is_every_step_with_all_modules_active():
    found = cost({"name": "vanilla"})
    assert found.steps == 3 * 10
    assert found.training == 30 * STEP
    assert cost({"name": "mat", "mode": "exact"}).training == cost({"name": "mat"}).training == 30 * STEP


def test_a_probe_is_one_forward_pass_and_two_more_per_backward_pass():
    assert cost({"name": "vanilla"}).probes == 0
    eight = 8 * 6 * FORWARD  # before the steps 0, 4, … 28
    assert cost({"name": "mat"}).probes == (1 + 2 * 5) * eight
    # what only observes measures gradients as well: one forward and one backward pass
    assert cost({"name": "vanilla", "observe": True}).probes == (1 + 2 * 5) * eight + 3 * eight
    for estimator, backwards in (("sum_of_logits", 1), ("loss", 1), ("trace", 10), ("full", 10)):
        assert cost({"name": "mat"}, probe={"estimator": estimator}).probes == (1 + 2 * backwards) * eight
    of_step = {"estimator": "step"}  # a pass of no own; forming a sample's gradient costs what its forward pass does
    assert cost({"name": "mat"}, probe=of_step).probes == eight
    assert cost({"name": "vanilla", "observe": True}, probe=of_step).probes == eight
    assert cost({"name": "vanilla"}, probe=of_step).probes == 0
    per_epoch = cost({"name": "mat"}, probe={"every": None}).probes
    assert per_epoch == 3 * (1 + 2 * 5) * 6 * FORWARD


def test_a_sequence_has_as_many_logits_as_positions_times_words():
    given = {**CONFIG["tasks"]["text"], "method": {"name": "mat"}, "probe": {"n": 4, "estimator": "trace"}}
    del given["tags"]
    found = run_cost(Spec.of(given))
    # per token: projections 4·8², feed-forward 8·8², scores and values 2·16·8, head 8² + 8·50
    forward = 16 * (12 * 64 + 2 * 16 * 8 + 64 + 8 * 50)
    assert found.probes == (1 + 2 * 16 * 50) * 4 * forward
    assert found.evaluation == (2 * 30 + 20) * forward


def test_evaluation_is_at_the_start_when_due_and_at_the_end_and_of_the_test_split_once():
    # after the steps 0, 7, 14, 21, 28 and 30
    assert cost({"name": "vanilla"}).evaluation == (6 * 30 + 20) * FORWARD
    assert cost({"name": "vanilla"}, recipe={"evaluate_every": 10}).evaluation == (4 * 30 + 20) * FORWARD
    assert cost({"name": "vanilla"}, recipe={"evaluate_every": 10**9}).evaluation == (2 * 30 + 20) * FORWARD


def test_a_row_is_all_the_runs_of_a_task_and_method():
    found = {(row.task, row.method): row for row in rows(expand_in(CONFIG))}
    assert list(found) == [(t, m) for t in ("images", "text") for m in ("vanilla", "mat", "random")]
    row = found["images", "mat"]
    assert (row.runs, row.steps, row.tags, row.spec.method.name) == (3, 30, ("pictures",), "mat")
    assert row.cost.training == 3 * 30 * STEP
    assert found["text", "vanilla"].spec.recipe.precision == "bfloat16"


def test_seconds_are_operations_over_their_rates_and_a_start_per_run():
    found = Speed(training=5.0, probes=1.0, evaluation=2.0, setup=7.0)
    # 18 TFLOP at 5 GFLOP/s are an hour, 1.8 at 1 half an hour, 3.6 at 2 another half
    assert found.seconds(9 * 10**12, 9 * 10**11, 18 * 10**11, 3) == pytest.approx(2 * 3600 + 3 * 7)


def test_measurements_of_estimators_are_counted():
    block = {"families": {"vgg": {"of": "images"}}, "shares": [0, 0.5], "probe_sets": 3, "sizes": [4, 6],
             "estimators": ["sum_of_logits", "trace"], "sample_passes": 40}  # fmt: skip
    found = rows([], AGREEMENT.jobs(ScaleConfig.of({**CONFIG, "agreement": block})))
    (row,) = found
    assert (row.task, row.method, row.runs, row.steps) == ("images", "(agreement: vgg)", 3, 15)
    # two checkpoints of three probe sets, trace is affordable at n = 4 only; at both n the probes of the prices, two
    # of 1 direction, one of 2, one of 8
    assert row.cost.probes == 3 * (2 * 3 * (3 * 6 + 21 * 4) + (2 * 3 + 5 + 17) * (4 + 6)) * FORWARD
    assert row.cost.training == 3 * 15 * STEP
    assert row.cost.evaluation == 3 * 30 * FORWARD  # before the first step; half-way no evaluation is due


def test_branches_are_counted():
    block = {"families": {"vgg": {"of": "images"}}, "shares": [0.1, 0.5], "steps": 2, "set_steps": 4, "samples": 8,
             "validation_samples": 50}  # fmt: skip
    (row,) = rows([], BRANCHES.jobs(ScaleConfig.of({**CONFIG, "branches": block})))
    assert (row.method, row.runs, row.steps) == ("(branches: vgg)", 3, 15)
    # per checkpoint: four modules and none of them for two steps, five sets for four
    assert row.cost.training == 3 * (15 + 2 * (5 * 2 + 5 * 4)) * STEP
    assert row.cost.probes == 3 * 2 * (1 + 2 * 5) * 6 * FORWARD
    # before and after: 8 samples and, of 50 held out, the 30 that there are; the run's own evaluation before its start
    assert row.cost.evaluation == 3 * (2 * (6 * 38 + 6 * 38) + 30) * FORWARD


def test_what_does_not_fit_is_refused_by_its_place():
    runs = expand_in({**CONFIG, "tasks": {"images": {**CONFIG["tasks"]["images"], "recipe": {"batch": 101}}}})
    with pytest.raises(InputError, match=r"tasks\.images with vanilla: a batch of 101 is more than the 100"):
        rows(runs)
    runs = expand_in({**CONFIG, "tasks": {"words": {**CONFIG["tasks"]["text"], "model": VGG}}})
    with pytest.raises(InputError, match=r"tasks\.words with vanilla: model vgg needs"):
        rows(runs)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps({**CONFIG, "data": "somewhere", "cache": "there"}))
    return str(path)


def test_the_report_fits_a_terminal_and_says_what_it_stands_on(config):
    text = report.report(config, rate=2.0, cores=5)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert re.search(r"task +method +runs +steps +train MFLOP +probe MFLOP +eval MFLOP +total MFLOP +hours\n", text)
    for part in (
        "at 2 GFLOP/s, as given",
        "of 5 workers (5 × 1 threads)",
        "upper bound",
        "lower bound",
        "1 MAC = 2 FLOP",
    ):
        assert part in text
    hours = sum(row.hours(Speed.of(3e-4)) for row in rows(expand_in(CONFIG)))
    said = report.report(config, rate=3e-4, cores=5)
    assert f"{hours:.3f} hours of one worker are {hours / 5:.3f} hours" in said


@pytest.mark.parametrize("scale", sorted(path.stem for path in (ROOT / "workflows/config").glob("*.yaml")))
def test_the_scales_of_the_repository_are_planned_without_their_data(scale, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = ROOT / f"workflows/config/{scale}.yaml"
    lines = report.report(str(path), rate=50.0).splitlines()
    assert max(len(line.replace(f"{ROOT}/", "")) for line in lines) <= 120  # wherever the repository lies
    planned = {tuple(line.split()[:2]) for line in lines}
    assert {(run.task, run.method) for run in expand(read_scale(path))} <= planned
    assert list(tmp_path.iterdir()) == []


def test_small_numbers_keep_their_digits():
    assert [number(value) for value in (0, 0.000123, 0.0456, 12.34, 54321.0)] == [
        "0", "0.000123", "0.0456", "12.3", "54321",
    ]  # fmt: skip


def test_sums_are_per_tag_and_of_all(config):
    lines = report.report(config, rate=2.0).splitlines()
    cells = {line.split("  ")[0]: line.split() for line in lines if line.startswith(("tag ", "all "))}
    assert list(cells) == ["tag pictures", "tag texts", "tag small", "all"]
    assert cells["tag texts"][2:] == cells["tag small"][2:]
    totals = [float(cells[name][-2]) for name in ("tag pictures", "tag texts", "all")]
    assert totals[0] + totals[1] == pytest.approx(totals[2], rel=0.01)
    assert cells["all"][1] == "18"


def test_a_selection_is_planned_with_what_it_needs(config):
    text = report.report(config, "images,random", rate=1.0)
    assert text.startswith("scale small, only images,random")
    rows = [line.split()[:2] for line in text.splitlines() if line.startswith("images ")]
    assert rows == [["images", "mat"], ["images", "random"]]
    assert not [line for line in text.splitlines() if line.startswith("text ")]


def test_models_are_timed_once_each_where_no_rate_is_given(config, monkeypatch):
    timed = []

    def measured(spec):
        timed.append(spec.model.name)
        return Speed(8.0, 4.0, 2.0, 1.5)

    monkeypatch.setattr(speed, "measured", measured)
    monkeypatch.setattr(speed, "start_seconds", lambda spec: 2.5)
    text = report.report(config, cores=1)
    assert timed == ["vgg", "bert"]
    assert "timed here just now on 2 models of these shapes: 8 to 8 GFLOP/s in" in text
    assert "1.5 to 1.5 s a run to build and count, and once 2.5 s for the process" in text
    hours = sum(row.hours(Speed(8.0, 4.0, 2.0, 1.5)) for row in rows(expand_in(CONFIG)))
    assert hours > 18 * 1.5 / 3600 and f"{number(hours)} hours of one worker" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("precision", "ratio", "said"), [("bfloat16", 43, 1), ("bfloat16", 0.5, 0), ("float32", 43, 0)]
)
def test_a_processor_that_is_slow_in_bfloat16_is_named(config, tmp_path, monkeypatch, precision, ratio, said):
    monkeypatch.setattr(speed, "measured", lambda spec: Speed(8.0, 4.0, 2.0, 1.5))
    monkeypatch.setattr(speed, "start_seconds", lambda spec: 2.5)
    monkeypatch.setattr(speed, "bfloat16_ratio", lambda: ratio)
    content = json.loads(Path(config).read_text())
    for task in content["tasks"].values():
        task["recipe"]["precision"] = precision
    path = tmp_path / "precision.json"
    path.write_text(json.dumps(content))
    assert report.report(str(path), cores=1).count("A product in bfloat16 takes 43 times as long here") == said


def test_products_are_timed_in_both_precisions(monkeypatch):
    seconds = iter([6.0, 1.5])
    monkeypatch.setattr(speed, "_seconds", lambda run, threads: (run(), next(seconds))[1])
    assert speed.bfloat16_ratio() == 4.0


@pytest.mark.parametrize("label", ["images", "text"])
def test_a_model_is_timed_as_it_is_trained(label):
    """Random states and threads are left alone; rates are those of a machine."""
    run = next(run for run in expand_in(CONFIG) if run.task == label)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = speed.measured(run.spec)
    assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads
    assert all(0 < value < 1e5 for value in found)


def test_what_is_probed_within_a_budget_is_planned_and_said(config, tmp_path):
    content = json.loads(Path(config).read_text())
    content["tasks"]["images"]["probe"] |= {"n": 64, "budget": 0.4}
    path = tmp_path / "budget.json"
    path.write_text(json.dumps(content))
    run = next(run for run in expand(read_scale(path)) if (run.task, run.method) == ("images", "mat"))
    extent = Shape(run.spec).extent
    assert extent.n < 64 and extent.every >= 4
    text = report.report(str(path), rate=1.0)
    assert text.count("images: probes of n = ") == 1
    assert f"n = {extent.n} samples, {extent.directions} directions, every {extent.every} steps, within 0.4" in text
    probes = -(-30 // extent.every)
    assert run_cost(run.spec).probes == probes * (1 + 2 * extent.directions) * extent.n * FORWARD


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_rates_are_refused(config, rate):
    with pytest.raises(InputError, match="--rate must be"):
        report.report(config, rate=rate)


def test_a_mistake_in_the_ceiling_is_found_by_the_plan_too(config):
    entry = {"model": {"name": "bert", "widht": 8}, "objective": "masked_lm", "shapes": {"input_ids": [1, 8]}}
    reported = {"active_share": 0.3, "savings": [20, 50]}
    ceiling = {"reported": reported, "models": {"big": {**entry, "outputs": 16, "batch": 4}}}
    Path(config).write_text(json.dumps({**CONFIG, "ceiling": ceiling}))
    with pytest.raises(InputError, match=r"ceiling\.models\.big\.model: unknown key 'widht'"):
        report.report(config, rate=1)


def test_a_config_is_a_file_or_a_scale(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert read_scale("demo").scale == "demo"
    with pytest.raises(InputError, match=r"unknown scale 'galactic'; known: demo, .*subset"):
        report.report("galactic")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(InputError, match="expected a mapping"):
        report.report(str(tmp_path / "list.yaml"))


MEASURED = {"families": {"vgg": {"of": "digits"}}, "sizes": [4], "probe_sets": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"methods": {"zebra": {"name": "kind", "share": 0.5, "kind": "zebra"}}},
            "the model has, filters, got 'zebra'",
        ),
        (
            {"agreement": {**MEASURED, "probe_sets": 1000}},
            "1000 probe sets of up to 128 samples are more than the 1197",
        ),
        ({"agreement": {**MEASURED, "sizes": [4, 1500]}}, "1 probe sets of up to 1500 samples are more than the 1197"),
        ({"agreement": {**MEASURED, "shares": [0, 0.001]}}, "fall on one step; leave one of them out"),
        ({"branches": {"families": MEASURED["families"], "samples": 5000}}, "samples must be ≤ the 1197 training"),
        ({"branches": {"families": MEASURED["families"], "steps": 5000}}, "a branch of 5000 steps from step"),
    ],
)
def test_what_data_run_or_model_do_not_give_is_refused_by_the_plan(change, message):
    task = {"task": {"name": "digits"}, "model": {"name": "vgg"}, "recipe": {"epochs": 4}}
    config = {"scale": "small", "seeds": [0], "tasks": {"digits": task}, "methods": {"vanilla": {"name": "vanilla"}}}
    with pytest.raises(InputError, match=message):
        rows(*whole(ScaleConfig.of({**config, **change})))


@pytest.mark.parametrize("tick", [1e-9, 0.01])
@pytest.mark.parametrize("took", [2e-4, 0.3])
def test_a_coarse_clock_gives_no_run_of_no_time(monkeypatch, tick, took):
    now = [0.0]
    monkeypatch.setattr(speed.time, "process_time", lambda: now[0] // tick * tick)

    def run():
        now[0] += took

    assert speed._seconds(run, 1) == pytest.approx(took, rel=tick / speed.LEAST + 1e-3)
