"""Every figure stays readable with every method that the evidence knows, in print and in grey, and is itself again."""

import os
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from mat.evidence.catalogue.figures import SHARED
from mat.evidence.catalogue.tables import load
from mat.evidence.measures import curves, over_seeds
from mat.evidence.runs import method_groups, pool
from mat.evidence.runs import pooled as pooled
from mat.evidence.text import words
from tests.evidence.synthetic import MANY, MANY_TASKS, METHODS, TASKS, changed, collected, made_runs
from tests.evidence.synthetic_tables import FAMILIES, write_branches, write_rivals, write_sensitivity
from tests.evidence.written import write
from tests.figures.drawing import SCRIPTS, draw, drawn, grey, outside, overlapping, paged, pictured, script, signs
from tests.figures.test_figures import NAMES, SMALL, compare, limit

PAGE = 9.8  # inches


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Two tasks with every method that a figure shows by its runs, the tables of every figure."""
    root = tmp_path_factory.mktemp("many")
    tasks = {name: MANY_TASKS[name] for name in ("digits", "mixture_of_experts")}
    # alternatives of open choices are shown from a table of their own
    left_out = (
        *method_groups.GROUPS["sensitivity"],
        *(name for name in MANY if name.endswith(("_s20", "_s50", "_b75"))),
    )
    methods = {name: how for name, how in MANY.items() if name not in left_out}
    same = {"methods": methods, "diverged": [("digits", "lisa", 1)], "steps": 60, "shapes": tasks}
    runs = made_runs(["digits"], seeds=(0, 1), **same) + made_runs(["mixture_of_experts"], seeds=(0,), **same)
    pooled.save(pool.pooled(runs), root / "tables")
    write(root / "tables", "results")
    write(root / "tables", "replay")
    compare(root / "tables", seeds=(0, 1), modules=6)
    limit(root / "tables", list(SMALL.values()))
    write(root / "tables", "sanity")
    write(root / "tables", "verdicts")
    write_sensitivity(root / "tables", tasks)
    write_branches(root / "tables")
    write_rivals(root / "tables", tasks)
    return root / "tables"


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """More tasks than a page has room for with a line each; long names."""
    root = tmp_path_factory.mktemp("long")
    tasks = {f"task_with_a_long_name_{number}": TASKS["hmm"] for number in range(13)}
    methods = {name: METHODS[name] for name in ("vanilla", "mat", "random")}
    pooled.save(collected(tasks, methods, [0], steps=60, shapes=tasks), root / "tables")
    write(root / "tables", "results")
    write(root / "tables", "replay")
    return root / "tables"


@pytest.fixture(scope="module")
def pictures(many):
    """All figures and their pictures, drawn once."""
    given = load(many)
    return {name: pictured(name, given) for name in NAMES}


@pytest.fixture(scope="module")
def figures(pictures):
    return {name: figure for name, (figure, _) in pictures.items()}


@pytest.mark.parametrize("name", ["active_map", "loss_vs_compute", "tornado"])
def test_equal_tables_give_equal_pictures(many, pictures, name):
    """Whatever was drawn between them."""
    first, (_, second) = pictures[name][1], pictured(name, many)
    assert first.shape == second.shape
    assert (first == second).all()
    assert len(np.unique(first)) > 1


def test_equal_figures_are_equal_files_without_a_date(many, tmp_path):
    first, second = (draw("dose_response", many, tmp_path / folder) for folder in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    pdf, png = first
    assert pdf.stat().st_size > 8_000
    assert png.stat().st_size > 20_000
    assert b"CreationDate" not in pdf.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_texts_stay_on_the_paper_and_apart_and_say_scale_number_and_ledger_and_legends_are_read_in_grey(figures, name):
    assert outside(figures[name]) == []
    assert overlapping(figures[name]) == []
    footer = figures[name].texts[-1].get_text()
    assert footer.startswith("scale demo")
    assert "ledger" in footer or name in ("estimators", "sanity")
    assert "n = " in footer or name == "ceiling"
    for found in signs(figures[name]):
        assert len(set(found)) == len(found)


def test_methods_are_told_apart_without_colour():
    styles = script("styles")
    found = [*styles.STYLES.values(), *styles.SPARE]
    assert len({(style.marker, style.filling) for style in found}) == len(found)
    assert len({(str(style.line), style.marker) for style in found}) == len(found)
    main = [styles.STYLES[name] for name in ("vanilla", "mat", "mat_exact", "random", "multirate")]
    assert len({style.colour for style in main}) == len(main)
    # every method of a figure whose methods are markers has a style of its own
    assert set(method_groups.of_groups(method_groups.METHOD_ORDER, [*method_groups.MAIN, "rivals"])) == set(
        styles.STYLES
    )
    shades = sorted(grey(style.colour) for _, style in styles.KINDS.values())
    assert min(np.diff(shades)) > 0.05


def test_a_legend_has_the_marks_that_the_panels_have():
    styles = script("styles")
    found = ["largest_s10", "vanilla", "mat_best", "vanilla_best"]
    handles = styles.method_handles(["vanilla", "vanilla_best"], found)
    assert [one.get_marker() for one in handles] == [styles.style(name, found).marker for name in found[1::2]]


@pytest.mark.parametrize("name", ["loss_vs_compute", "joint_variation", "wall_clock"])
def test_many_tasks_fit_a_page(long, name):
    figure = drawn(name, long)
    assert figure.get_size_inches()[1] <= PAGE + 0.01
    assert len([ax for ax in figure.axes if ax.get_title()]) == 13
    assert outside(figure) == []
    assert overlapping(figure) == []


@pytest.mark.parametrize("name", ["active_map", "dynamics"])
def test_what_is_taller_than_a_page_goes_on_on_the_next(long, name):
    pages = [page for page, _ in paged(name, long)]
    assert len(pages) > 1
    for page in pages:
        assert page.get_size_inches()[1] <= PAGE + 0.01
        assert outside(page) == []
        assert overlapping(page) == []
    named = [ax.get_title().split("\n")[0] for page in pages for ax in page.axes if ax.get_title()]
    assert len(set(named)) == 13


def test_curves_show_the_main_methods_and_the_best_two_rivals(many, figures):
    given = load(many)
    module = script("loss_vs_compute")
    entries = {text.get_text() for text in figures["loss_vs_compute"].legends[0].get_texts()}
    best = module.best_rivals(given)
    named = script("styles").method_name
    assert entries == {named(name) for name in (*module.MAIN, *best)}
    losses = {
        name: given.finished("digits", name)["best_val_loss"].mean()
        for name in method_groups.GROUPS["rivals"] if name != "vanilla_cut"
    }  # fmt: skip
    assert min(losses, key=losses.get) in best
    assert "vanilla_cut" not in best


def test_controls_are_differences_to_random_in_their_fixed_order(many, figures):
    given = load(many)
    ax = next(ax for ax in figures["controls"].axes if ax.get_title() == words.task("digits"))
    rows = [text.get_text() for text in ax.get_yticklabels()]
    named = script("styles").method_name
    chosen = [name for name in method_groups.GROUPS["controls"] if name != "random_exact"]
    wanted = ["mat_exact", *chosen, "mat", "vanilla", *method_groups.GROUPS["learning rates"]]
    assert rows == [named(name) for name in wanted]
    place = wanted.index("smallest")
    mean = next(bar.lines[0].get_xdata()[0] for bar in ax.containers if bar.lines[0].get_ydata()[0] == place)
    assert mean == over_seeds.best_loss_advantage_percent(given, "digits", "smallest", "random_exact").mean
    dots = [tuple(spot) for part in ax.collections for spot in part.get_offsets() if int(spot[1]) == place]
    assert len(dots) == 2
    faces = {int(bar.lines[0].get_ydata()[0]): bar.lines[0].get_markerfacecolor() for bar in ax.containers}
    modes = {place: given.of("digits", name)["mode"].iloc[0] for place, name in enumerate(wanted)}
    reference = given.of("digits", "random_exact")["mode"].iloc[0]
    assert {place: to_rgb(face) != (1, 1, 1) for place, face in faces.items()} == {
        place: mode == reference for place, mode in modes.items()
    }
    assert modes[0] != reference  # else nothing would be hollow


def test_doses_and_the_frontier_are_differences_to_vanilla_at_the_end(many, figures):
    given = load(many)
    scale = over_seeds.dynamic_range(given, "digits")
    base = over_seeds.final_losses(given, "digits", "vanilla")

    def above(label):
        return (100 * (over_seeds.final_losses(given, "digits", label) - base) / scale).mean()

    ax, other = (
        next(ax for ax in figures[name].axes if ax.get_title() == words.task("digits"))
        for name in ("dose_response", "frontier_compute")
    )
    line = next(line for line in ax.lines if str(line.get_label()).startswith("smallest"))
    doses = ["smallest_s10", "smallest_s34", "smallest_s75"]
    assert np.allclose(line.get_ydata(), [above(label) for label in doses])
    assert np.allclose(line.get_xdata(), [11, 35, 76], atol=2.5), "drawn apart, at the share that was active"
    point, bare, value = script("frontier_compute").point(given, "digits", "mat")
    assert np.isclose(value.mean, above("mat")) and bare < point
    charged = [name for name in given.methods("digits") if given.finished("digits", name)["charges_probe"].any()]
    assert len(other.texts) == len(charged) > 5, "an arrow each"
    whole = next(line for line in other.lines if len(line.get_xdata()) == 7)
    assert list(whole.get_xdata()) == sorted(whole.get_xdata())


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("mat_best", "tuned"),
        ("vanilla_lr_double", "vanilla, other rates"),
        ("mat_lr_double", "MAT, budgets and choices"),
        ("random_short", "baselines"),
        ("unheard_of", "others"),
    ],
)
def test_a_legend_calls_vanilla_at_another_rate_no_choice_of_mat_s(label, kind):
    assert script("frontier_compute").kind_of(label) == kind


def test_the_front_is_what_nothing_beats_at_no_more_compute():
    pareto = script("rivals").pareto
    means = {"a": (1.0, 0.5), "b": (2.0, 0.4), "c": (3.0, 0.9), "d": (1.0, 0.3), "e": (4.0, 0.9)}
    assert pareto(means, higher=True) == ["a", "c"]
    assert pareto(means, higher=False) == ["d"]


def test_losses_of_rivals_are_turned_round(many, figures):
    axes = {ax.get_title(): ax for ax in figures["rivals"].axes}
    assert axes[words.task("digits")].get_ylim()[0] < axes[words.task("digits")].get_ylim()[1]
    assert axes["mixture_of_experts"].get_ylim()[0] > axes["mixture_of_experts"].get_ylim()[1]


def test_savings_are_of_whole_runs_with_charged_probes(many):
    given = load(many)
    flops, seconds = script("wall_clock").savings(given, "digits", "clock")["mat"]
    ends = [
        [
            curves.final_macs(given.curve(run["run"]), "executed", bool(run["charges_probe"]))
            for _, run in given.finished("digits", name).iterrows()
        ]
        for name in ("mat", "vanilla")
    ]
    ratios = np.divide(*ends)
    assert np.isclose(flops.mean, 100 * (1 - np.sqrt(np.prod(ratios))))
    assert seconds.n == 2


def test_bars_that_change_a_verdict_are_hatched_and_the_largest_change_is_on_top(many, figures):
    table = pd.read_csv(many / "sensitivity.csv")
    rows = script("tornado").ordered(table.query("task == 'digits' and claim == 'C5'"))
    change = (rows["effect_alternative"] - rows["effect_default"]).abs().dropna()
    assert change.is_monotonic_decreasing
    assert np.isnan(rows["effect_alternative"].iloc[-1])
    titles = {ax.get_title().replace("\n", " "): ax for ax in figures["tornado"].axes}
    [ax] = [ax for title, ax in titles.items() if title.startswith(words.task("digits")) and "(C5)" in title]
    hatched = [bool(patch.get_hatch()) for patch in ax.patches]
    assert hatched == list(rows["changes"][: len(hatched)])
    assert any(hatched)
    assert not all(hatched)


def test_improvement_has_a_dot_per_task_and_their_mean_in_every_sense(figures):
    for ax in figures["improvement"].axes:
        means = [bar.lines[0].get_xdata()[0] for bar in ax.containers]
        dots = [part.get_offsets()[:, 0].mean() for part in ax.collections if len(part.get_offsets()) == 2]
        assert len(means) == len(method_groups.of_groups(method_groups.METHOD_ORDER, ("MAT", "baselines", "rivals")))
        assert np.allclose(means, dots)


def test_trainability_and_generalisation_show_every_family(figures):
    for name in ("trainability", "generalisation"):
        titles = " ".join(ax.get_title() for ax in figures[name].axes)
        assert all(words.task(family) in titles for family in FAMILIES)
        assert figures[name].get_size_inches()[1] <= PAGE + 0.01
    assert {ax.get_ylabel().split("\n")[-1] for ax in figures["generalisation"].axes} >= {"memorised, points"}


@pytest.mark.parametrize("low", [1e3, 1.7e4, 0.9e-3])
@pytest.mark.parametrize("ratio", [1.5, 2.5, 6.9, 7.1, 14, 29, 31, 1e3])
def test_labels_of_a_logarithmic_axis_of_an_inch_do_not_meet(low, ratio):
    figure, ax = plt.subplots(figsize=(1.0, 1.0))
    ax.set_position((0.0, 0.4, 1.0, 0.5))
    ax.tick_params(labelsize=7)
    ax.set_xscale("log")
    ax.set_xlim(low, low * ratio)
    ax.set_yticks([])
    script("common").decades(ax.xaxis)
    figure.canvas.draw()
    assert overlapping(figure) == []
    plt.close(figure)


def test_the_headline_leaves_the_negative_negative(tmp_path):
    worse = changed(mat={"extra_loss": 0.2, "cost": 1.4})
    pooled.save(collected(TASKS, worse, (0, 1, 2), steps=60), tmp_path / "tables")
    write(tmp_path / "tables", "results")
    figure = drawn("headline", tmp_path / "tables")
    panels = [ax for ax in figure.axes if ax.containers]
    assert len(panels) == 4  # accuracies and losses have units of their own
    for ax in panels:
        quality = ax.get_xlabel().startswith("gain")
        first = ax.containers[0].lines[0]
        if quality:
            assert first.get_xdata()[0] < 0
        else:  # no seed reached vanilla's best: hollow, and said so
            assert to_rgb(first.get_markerfacecolor()) == (1, 1, 1)
            assert "0 of 3" in {text.get_text() for text in ax.texts}
    units = {ax.get_xlabel().rpartition(", ")[2] for ax in panels if ax.get_xlabel().startswith("gain")}
    assert units == {"points (× 100)", "nats"}


def test_without_results_or_the_method_there_is_no_headline(many):
    given = load(many)
    for tables in (replace(given, made={}), replace(given, runs=given.runs[given.runs["method"] == "vanilla"])):
        assert "No results table" in drawn("headline", tables).axes[0].texts[0].get_text()


def test_every_script_runs_from_its_own_folder_alone_and_draws_nothing_by_chance():
    """No script reads another one but what all share, which the rule ``figure`` names."""
    shared = {Path(name).stem for name in SHARED}
    for path in SCRIPTS.glob("*.py"):
        others = {other.stem for other in SCRIPTS.glob("*.py")} - shared - {path.stem}
        imported = {line.split()[1] for line in path.read_text().splitlines() if line.startswith(("import ", "from "))}
        assert not imported & others, f"{path.name}{os.linesep}"
        assert not re.search(r"default_rng|np\.random|^(import|from) (random|time)\b", path.read_text(), re.M), (
            path.name
        )
    assert all((SCRIPTS / name).is_file() for name in SHARED)
