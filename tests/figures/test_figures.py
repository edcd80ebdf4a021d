"""The figures' scripts run on invented tables, and equal tables give equal files."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mat.evidence.catalogue import tables as catalogue
from mat.evidence.runs import pooled
from mat.evidence.text import words
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.studies.ceiling import models_of, parts, savings
from tests.evidence.synthetic import METHODS, TASKS, Behaviour, collected
from tests.evidence.synthetic_agreement import measurements
from tests.evidence.written import ROOT, measured, write
from tests.figures.drawing import SCRIPTS, drawn, script

NAMES = tuple(path.stem for path in sorted(SCRIPTS.glob("*.py")) if path.stem not in ("common", "styles"))
_TEXT = {"objective": "masked_lm", "shapes": {"input_ids": [1, 8]}, "outputs": 11, "batch": 2}
SMALL = {
    "bert": {**_TEXT, "model": {"name": "bert", "width": 8, "heads": 2}, "reported": {"vanilla": 3, "mat": 2}},
    "switch": {**_TEXT, "model": {"name": "switch", "width": 8, "heads": 2}},
    "vgg": {
        **{"model": {"name": "vgg"}, "objective": "image_classification", "shapes": {"x": [1, 1, 8, 8]}},
        **{"outputs": 10, "batch": 2},
    },
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    pooled.save(collected(["digits"], {"vanilla": METHODS["vanilla"]}, [0]), root / "tables")
    return root / "tables"


def limit(tables, models):
    """Write the ceiling of models without a task of their own."""
    block = {
        "draws": 5,
        "reported": {"active_share": 0.34, "savings": [26.4, 50.9]},
        "models": {f"m{place}": model for place, model in enumerate(models)},
    }
    config = {
        "scale": "demo",
        "seeds": [0],
        "tasks": {"digits": {"task": {"name": "digits"}, "model": {"name": "vgg"}}},
        "methods": {"vanilla": {"name": "vanilla"}},
        "ceiling": block,
    }
    asked = ScaleConfig.of(config)
    found = models_of(asked)
    catalogue.store("ceiling_parts", parts(found, asked), tables)
    catalogue.store("ceiling", savings(found, asked), tables)


def compare(tables, **options):
    """Write the tables of invented measurements of estimators."""
    for name in ("agreement", "price_list"):
        write(tables, name, measured=measured(measurements(**options), tables))


def test_a_script_runs_by_itself(demo, tmp_path):
    command = [sys.executable, str(SCRIPTS / "dynamics.py"), "--tables", str(demo), "--out", str(tmp_path)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dynamics.pdf").stat().st_size > 8_000
    assert (tmp_path / "dynamics.png").stat().st_size > 20_000


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """One seed, more modules than can be labelled one by one, a method without a style of its own."""
    root = tmp_path_factory.mktemp("crowded")
    shapes = {"wikitext2": replace(TASKS["hmm"], kinds=(("head", 4, 12), ("ffn", 4, 5)), bounds={})}
    methods = {"vanilla": METHODS["vanilla"], "mat": METHODS["mat"], "another": Behaviour(0.8)}
    pooled.save(collected(shapes, methods, [5], shapes=shapes), root / "tables")
    # one family without a reference, one with three numbers of directions
    compare(root / "tables", families=["bare"], seeds=[5], estimators=[("loss", 0, 0.1, 1)], sizes=[64])
    bare = {name: pd.read_csv(root / f"tables/{name}.csv") for name in ("agreement", "price_list")}
    many = [("sum_of_logits", 0, 1, 1), ("step", 0, 0.2, 0.1), *(("projected", r, 1 / r, r) for r in (2, 8, 32, 128))]
    compare(root / "tables", families=["many"], seeds=[5], estimators=many, sizes=[64])
    for name, rows in bare.items():
        pd.concat([rows, pd.read_csv(root / f"tables/{name}.csv")]).to_csv(root / f"tables/{name}.csv", index=False)
    limit(root / "tables", [SMALL["vgg"]])
    return catalogue.load(root / "tables")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """Nothing finished, no spectra, no selection."""
    root = tmp_path_factory.mktemp("empty")
    methods = {"vanilla": replace(METHODS["vanilla"], observes=False)}
    pooled.save(collected(["hmm"], methods, [0], [("hmm", "vanilla", 0)]), root / "tables")
    return catalogue.load(root / "tables")


@pytest.mark.parametrize("name", ["loss_vs_compute", "active_map", "estimators", "frontier", "ceiling", "sanity"])
def test_one_seed_many_modules_and_unknown_methods(crowded, name):
    assert drawn(name, crowded).texts[-1].get_text().startswith("scale demo")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_show_still_gives_a_figure(empty, name):
    assert drawn(name, empty).texts[-1].get_text().startswith("scale demo")


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    """Seven tasks, more than a row of panels; some with levels, one whose loss is no log-likelihood."""
    root = tmp_path_factory.mktemp("glue")
    known = {"majority_accuracy_validation": 0.6, "prior_validation": 0.68}
    shapes = {f"task{i}": replace(TASKS["digits"], more=("f1",), bounds=known) for i in range(5)}
    shapes |= {"hmm": TASKS["hmm"], "stsb": replace(TASKS["digits"], metric="pearson", loss_unit="squared points")}
    methods = {"vanilla": METHODS["vanilla"], "mat": METHODS["mat"]}
    pooled.save(collected(shapes, methods, [0, 1], shapes=shapes, selection="only=glue"), root / "tables")
    (root / "levels.yaml").write_text(
        "converged: {metric: late_improvement, direction: at_most, level: 0.005, source: somebody}\n"
        "left_plateau: {metric: gap_closed, direction: at_least, level: 0.25, source: somebody}\n"
        "demo:\n  task0: {metric: f1, direction: at_least, level: 0.8, source: somebody}\n  task1: {metric: loss, "
        "direction: at_most, level: 0.5, source: somebody}\n  hmm: {metric: gap_closed, direction: at_least, level: "
        "0.6, source: somebody}\n  stsb: {metric: pearson, direction: at_least, level: null, source: nobody}\n"
    )
    write(root / "tables", "sanity", levels=root / "levels.yaml")
    return root / "tables"


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_losses_are_labelled_in_the_task_s_unit(glue):
    figure = drawn("loss_vs_compute", glue)
    labels = {ax.get_title(): ax.get_ylabel() for ax in figure.axes if ax.get_title()}
    assert len(labels) == 7
    assert labels[words.task("stsb")] == "validation loss, squared points"
    assert labels[words.task("hmm")] == "validation loss, nats"
    assert any("scale demo (only=glue)" in text.get_text() for text in figure.texts)


def test_the_sanity_figure_shows_losses_metric_level_and_known_values(glue):
    figure = drawn("sanity", glue)
    said = [ax.get_title().split("\n") for ax in figure.axes]
    titles = {title[0]: number for number, title in enumerate(said) if title[0]}
    verdicts = {title[0]: " ".join(title[1:]).split(", ") for title in said if title[0]}
    assert {converged for _, converged in verdicts.values()} <= {"still improving", "converged"}
    assert {task: verdict for task, (verdict, _) in verdicts.items()} == {
        **dict.fromkeys(("task0", "task1", words.task("hmm")), "reached"),
        **dict.fromkeys((words.task("stsb"), "task2", "task3", "task4"), "no level stated"),
    }  # fmt: skip
    axes = figure.axes
    # a pair of panels per task; the text's metric is its loss, so it has one
    assert len(axes) == 2 * 6 + 1
    by_label = {ax.get_ylabel().replace("\n", " "): ax for ax in axes}
    assert {"loss, nats", "loss, squared points", "accuracy, %", "f1, %", "pearson ×\u00a0100"} == set(by_label)
    assert "level ≥ 80" in texts(by_label["f1, %"])
    assert "majority" in texts(by_label["accuracy, %"])
    hmm = axes[titles[words.task("hmm")]]
    # 60 % of the gap from 3.31 to 2.21
    assert {"floor", "unigram", "level ≤ 2.65"} == set(texts(hmm))
    assert any(np.allclose(line.get_ydata(), 2.65) for line in hmm.lines)
    assert {"prior", "level ≤ 0.5"} == set(texts(axes[titles["task1"]]))
    curves = {line.get_label() for line in hmm.lines}
    assert {"training loss", "validation loss", "lowest validation loss"} <= curves
    (fifth,) = {tuple(patch.get_bbox().intervalx) for patch in hmm.patches}
    last = max(line.get_xdata()[-1] for line in hmm.lines if line.get_label() == "validation loss")
    assert fifth == pytest.approx((0.8 * last, last))


def test_what_got_gradients_stands_beside_what_was_selected_where_it_was_recorded():
    tables, active_map = collected(tasks=["digits"], seeds=(0,)), script("active_map")
    order = active_map.module_order(tables, "digits", "mat")
    selected = active_map.shares(tables, "digits", "mat", "active", order)
    for reached in (0.0, 0.4, 1.0):
        seen = replace(tables, probes=tables.probes.assign(reached=reached))
        assert active_map.shares(seen, "digits", "mat", "reached", order) == pytest.approx(reached * selected)
        assert active_map.columns_of(seen, "digits")[:2] == [("mat", "active"), ("mat", "reached")]
    assert selected.any()
    unknown = replace(tables, probes=tables.probes.assign(reached=np.nan))
    assert ("mat", "reached") not in active_map.columns_of(unknown, "digits")


def test_a_layer_is_named_once():
    tables, active_map = collected(tasks=["digits"], seeds=(0,)), script("active_map")
    order = active_map.module_order(tables, "digits", "mat")
    assert order["label"].str.startswith("layer ").sum() == order["layer"].nunique()


def test_modules_are_numbered_within_layer_and_kind():
    names = script("common").module_names([("a", "head", 0), ("b", "head", 0), ("c", "ffn", 0), ("d", "head", 1)])
    assert names == {"a": "head 0", "b": "head 1", "c": "ffn", "d": "head"}
    assert sorted(["h.10", "h.9"], key=script("active_map").natural) == ["h.9", "h.10"]
