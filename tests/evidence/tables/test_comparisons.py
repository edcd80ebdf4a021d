"""The tables of controls, rivals, learning rates and wall-clock: small cases by hand, files, and what is absent."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mat.evidence.measures import curves as measures
from mat.evidence.measures import over_seeds
from mat.evidence.measures.curves import Convergence
from mat.evidence.report import terminal
from mat.evidence.runs import method_groups
from mat.evidence.runs import pooled as pooled
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.bootstrap import interquartile_mean
from mat.evidence.tables import controls, learning_rate, rivals, sections, wall_clock
from tests.evidence.synthetic import METHODS, Behaviour, changed, collected
from tests.evidence.written import CLAIMS, write

RULE = Convergence(epsilon=0.0, window=1)


def made(more, tasks=("hmm",), **options) -> Tables:
    return collected(tasks, METHODS | more, **options)


def tiny(losses, metric=None, seconds=1.0, macs=1.0) -> Tables:
    """Tables written by hand: method → seed → validation losses; evaluation k has cost k·macs and k·seconds."""
    runs, curves = [], []
    for method, by_seed in losses.items():
        for seed, values in enumerate(by_seed):
            name = f"{method}-{seed}"
            runs.append(
                {
                    "scale": "demo", "task": "t", "method": method, "seed": seed, "run": name,
                    "status": "finished", "metric": "log_perplexity", "metrics": "log_perplexity:lower",
                    "loss_unit": "nats", "charges_probe": False, "selection": "", "start_hash": "",
                    "test_metric": values[-1], "device": "cpu", "threads": 1,
                }
            )  # fmt: skip
            count = np.arange(len(values), dtype=float)
            zero = np.zeros(len(values))
            scale = {"mat": macs}.get(method, 1.0)
            curves.append(
                pd.DataFrame(
                    {
                        "run": name, "step": count, "val_loss": values, "active_share": 1.0, "reached_share": 1.0,
                        "macs_executed": scale * count, "macs_nominal": scale * count,
                        "macs_executed_probe": zero, "macs_nominal_probe": zero, "macs_eigen": zero,
                        "seconds_train": (seconds if method == "mat" else 1.0) * count, "seconds_probe": zero,
                    }
                )
            )  # fmt: skip
    return Tables(pd.DataFrame(runs), pd.concat(curves), pd.DataFrame())


GOLDEN = tiny({"vanilla": [[3.0, 2.0, 1.0], [3.0, 2.0, 1.2]], "mat": [[3.0, 1.0, 0.9], [3.0, 2.5, 2.0]]}, macs=0.5)


def test_wins_by_hand():
    """mat's runs end at compute 1, where vanilla's are at loss 2. Run 0 is better there, run 1 is as good."""
    got = {kind: rivals.matrix(GOLDEN, "t", "mat", kind, RULE).tolist() for kind in rivals.KINDS}
    assert got["equal_compute"] == [[1.0, 1.0], [0.5, 0.5]]
    assert got["equal_loss"] == [[1.0, 1.0], [0.0, 0.0]]  # run 0 is at 1.0 after 0.5, vanilla after 2
    assert got["convergence"] == [[1.0, 1.0], [0.0, 0.0]]


def test_rivals_row_by_hand():
    frame = rivals.rivals(GOLDEN, RULE).set_index(["task", "method"])
    row = frame.loc[("t", "mat")]
    assert row["loss_advantage_at_equal_compute_mean"] == pytest.approx((2 - 0.9 + 2 - 2.0) / 2)
    assert row["better_equal_compute"] == 0.75
    assert (row["compute_to_vanilla_best_flop_n"], row["n_with_vanilla"]) == (1, 2)
    assert row["compute_to_vanilla_best_flop_mean"] == pytest.approx(2 * 0.5)
    assert row["saving_at_vanilla_best_percent_mean"] == pytest.approx(75.0)
    assert np.isnan(frame.loc[("t", "vanilla"), "better_convergence"])


def test_share_of_progress_by_hand():
    """L₀ = 3, V = 1.1: runs at 0.9 and 2.0 make (3 − L)/1.9 of vanilla's progress."""
    assert rivals.scores(GOLDEN, "t", "mat") == pytest.approx([2.1 / 1.9, 1.0 / 1.9])
    assert rivals.scores(GOLDEN, "t", "vanilla").mean() == pytest.approx(1)
    flat = tiny({"vanilla": [[1.0, 1.0]], "mat": [[1.0, 0.5]]})
    assert len(rivals.scores(flat, "t", "mat")) == 0  # vanilla makes no progress: nothing to share
    assert np.isnan(rivals.rivals(flat, RULE).set_index("task").loc["over tasks", "score_interquartile_mean_mean"])


def test_a_diverged_run_loses():
    lost = [("hmm", "mat", 0), ("hmm", "vanilla", 1)]
    tables = made({}, diverged=lost)
    for kind in rivals.KINDS:
        wins = rivals.matrix(tables, "hmm", "mat", kind, RULE)
        assert wins.shape == (3, 3)
        assert wins[0].tolist() == [0, 0.5, 0]
        assert wins[:, 1].tolist() == [0.5, 1, 1]
    frame = rivals.rivals(tables, RULE)
    assert frame.query("task == 'over tasks' and method == 'mat'")["n_diverged"].item() == 1


@pytest.mark.parametrize(("macs", "left_out"), [(1.5, True), (0.5, False)])
def test_stopping_early_is_vanilla_where_mat_spends_no_less(macs, left_out):
    """The cut run has as many steps as vanilla; only where MAT's spending is why is it left out."""
    losses = [[3.0, 2.0, 1.0], [3.0, 2.0, 1.2]]
    tables = tiny(dict.fromkeys(("vanilla", "mat", "vanilla_cut"), losses), macs=macs)
    frame = rivals.rivals(tables, RULE).set_index(["task", "method"])
    row = frame.loc[("t", "vanilla_cut")]
    assert np.isnan(row["better_convergence"]) == np.isnan(row["best_validation_loss_mean"]) == left_out
    assert (row["note"] == rivals.IS_VANILLA) == left_out
    assert (frame.loc[("over tasks", "vanilla_cut"), "n_finished"] == 0) == left_out


def test_over_tasks_all_runs_are_pooled():
    tables = made({"misa": Behaviour(0.5, 0.01, 0.3, mode="detach")}, tasks=("digits", "hmm"))
    frame = rivals.rivals(tables, Convergence())
    row = frame[(frame["task"] == "over tasks") & (frame["method"] == "misa")].iloc[0]
    own = np.concatenate([rivals.scores(tables, task, "misa") for task in ("digits", "hmm")])
    assert row["score_interquartile_mean_mean"] == pytest.approx(interquartile_mean(own))
    assert row["score_interquartile_mean_low"] <= row["score_interquartile_mean_mean"]
    assert (row["n_finished"], row["tasks"]) == (6, "digits hmm")
    by_task = frame[frame["method"] == "misa"].set_index("task")["better_convergence"]
    assert row["better_convergence"] == pytest.approx((by_task["digits"] + by_task["hmm"]) / 2)
    pd.testing.assert_frame_equal(frame, rivals.rivals(tables, Convergence()))


def test_controls_by_hand():
    tables = made({name: Behaviour(0.6, extra, 0.36) for name, extra in (("largest", 0.0), ("smallest", 0.2))})
    frame = controls.controls(tables).set_index("method")
    assert list(frame.index) == ["mat", "mat_exact", "random", "largest", "smallest"]
    assert set(frame["random_label"]) == {"random"}
    losses = {name: over_seeds.best_losses(tables, "hmm", name) for name in frame.index}
    gap = (losses["smallest"] - losses["largest"]).mean()
    assert frame.loc["smallest", "loss_minus_largest_mean"] == pytest.approx(gap)
    assert gap > 0
    assert frame.loc["largest", "loss_minus_largest_mean"] == 0
    runs = tables.finished("hmm", "mat")
    assert runs["charges_probe"].all()
    flops = [2 * measures.final_macs(tables.curve(name), "executed", True) for name in runs["run"]]
    assert frame.loc["mat", "compute_flop_mean"] == pytest.approx(np.mean(flops))
    text = sections.markdown(controls.page(controls.controls(tables), tables), tables)
    assert "Not tested here: gradient norm, random (exact), random, drawn once" in text


def test_random_is_the_one_in_the_mode_of_the_controls():
    more = {"largest": Behaviour(0.6, 0.0, 0.36, mode="exact"), "random_exact": Behaviour(0.6, 0.1, 0.36, mode="exact")}
    tables = made(more)
    frame = controls.controls(tables).set_index("method")
    losses = {name: over_seeds.best_losses(tables, "hmm", name) for name in ("largest", "random_exact")}
    gap = (losses["largest"] - losses["random_exact"]).mean()
    assert frame.loc["largest", "loss_minus_random_mean"] == pytest.approx(gap)
    assert frame.loc["random_exact", "loss_minus_random_mean"] == 0
    page = sections.markdown(controls.page(controls.controls(tables), tables), tables)
    assert "loss minus that of random (exact)" in page


def test_wall_clock_by_hand():
    """Half the FLOPs in 0.8 of the time: 1.6 times the time per FLOP."""
    tables = tiny({name: [[3.0, 2.0, 1.0, 1.0]] * 2 for name in ("vanilla", "mat")}, seconds=0.8, macs=0.5)
    row = wall_clock.wall_clock(tables, RULE).iloc[0]
    assert row["method"] == "mat"
    for where in ("whole_run", "to_convergence"):
        assert row[f"flop_saving_{where}_percent_mean"] == pytest.approx(50)
        assert row[f"seconds_saving_{where}_percent_mean"] == pytest.approx(20)
    assert row["time_per_flop_ratio_mean"] == pytest.approx(1.6)


RATES = {
    "vanilla_lr_half": Behaviour(extra_loss=0.1),
    "vanilla_lr_double": Behaviour(extra_loss=-0.05),
    "mat_lr_double": Behaviour(0.58, 0.2, 0.36, 0.8, True, True, "detach"),
}


@pytest.mark.parametrize(
    ("mat", "double", "win"),
    [(-0.02, -0.05, "does not survive"), (-0.02, 0.05, "survives"), (0.1, -0.05, "no win at factor 1")],
)
def test_a_win_against_the_recipe_and_against_the_tuned_one(mat, double, win):
    rates = RATES | {"vanilla_lr_double": Behaviour(extra_loss=double)}
    tables = made(changed(mat={"extra_loss": mat}) | rates)
    frame = learning_rate.learning_rate(tables)
    assert set(frame.loc[frame["method"] == "mat", "win"]) == {win}
    vanilla = frame[frame["method"] == "vanilla"].set_index("factor")
    assert list(vanilla.index) == [0.5, 1.0, 2.0]
    assert vanilla["chosen"].idxmax() == (2.0 if double < 0 else 1.0)
    assert vanilla["chosen"].sum() == 1
    mats = frame[frame["method"] == "mat"].set_index("factor")
    assert list(mats.index) == [1.0, 2.0]
    assert mats.loc[1.0, "chosen"]


def test_a_learning_rate_that_diverges_cannot_be_chosen():
    tables = made(RATES, diverged=[("hmm", "vanilla_lr_double", 1)])
    frame = learning_rate.learning_rate(tables)
    assert set(frame["chosen_by_vanilla"]) == {1.0}


@pytest.mark.parametrize(
    ("mat", "double", "win"),
    [
        ([0.8, 0.81, 0.79], [0.5, 1.05, 0.8], "undecided"),  # wins at factor 1, and is as good as the tuned one
        ([0.5, 1.5, 1.0], [0.5, 0.6, 0.5], "undecided"),
        ([0.8, 0.81, 0.79], [0.6, 0.61, 0.62], "does not survive"),
        ([0.8, 0.81, 0.79], [2.0, 2.0, 2.0], "survives"),
    ],
)
def test_a_win_is_undecided_unless_the_interval_decides(mat, double, win):
    ends = {"vanilla": [1.0, 1.02, 0.98, 9.0], "mat": mat, "vanilla_lr_double": double}
    tables = tiny({name: [[3.0, end] for end in each] for name, each in ends.items()})
    tried = learning_rate.labels_of(tables, "t", "vanilla")
    best = {"vanilla": learning_rate.chosen(tables, "t", tried)}
    assert best["vanilla"] == (1.0 if double[0] == 2 else 2.0)  # vanilla's fourth seed, 9.0, is no common one
    assert learning_rate.survival(tables, "t", tried, best) == win


def test_without_other_learning_rates_of_vanilla_nothing_is_said_of_a_win():
    tables = made({"mat_lr_double": RATES["mat_lr_double"]})
    assert set(learning_rate.learning_rate(tables).query("method == 'mat'")["win"]) == {"not tested"}


NAMES = ("controls", "rivals", "learning_rate", "wall_clock")


def written(tables, folder):
    pooled.save(tables, folder)
    write(folder, *NAMES)
    return {name: (folder / f"{name}.md").read_text(encoding="utf-8") for name in NAMES}


def test_files_are_the_same_to_the_byte_and_say_what_they_stand_on(tmp_path):
    shown = {*(label for labels in method_groups.GROUPS.values() for label in labels[:1]), "lisa", "smallest"}
    more = {label: Behaviour(0.6, 0.01, 0.36) for label in shown if label not in METHODS}
    tables = made(more | RATES, diverged=[("hmm", "lisa", 0), ("hmm", "smallest", 2)])
    first = written(tables, tmp_path / "a")
    assert written(tables, tmp_path / "b") == first
    for name, text in first.items():
        assert "snakemake --cores all --config scale=demo" in text
        assert "n = 2 to 3" in text or name == "learning_rate"
        tex = (tmp_path / "a" / f"{name}.tex").read_text(encoding="utf-8")
        assert r"\toprule" in tex
        assert "config scale=demo" in tex
        frame = pd.read_csv(tmp_path / "a" / f"{name}.csv")
        assert {"scale", "task", "method", "ledger"} <= set(frame.columns)
        assert not frame.duplicated([column for column in ("task", "method", "factor") if column in frame]).any()
    assert "2 (+1 diverged)" in first["controls"]
    assert "too narrow with as few runs" in first["rivals"]


@pytest.mark.parametrize("present", [("random",), ("vanilla",), ("mat", "largest")])
def test_absent_methods_leave_pages_that_say_so(tmp_path, present):
    few = {name: (METHODS | {"largest": Behaviour()})[name] for name in present}
    tables = collected(["hmm"], few)
    pages = written(tables, tmp_path)
    assert "No runs with another learning rate" in pages["learning_rate"]
    if "vanilla" not in present:
        assert "No runs" in pages["rivals"]
        assert "No runs" in pages["wall_clock"]


def test_tasks_of_which_every_run_diverged_are_no_obstacle(tmp_path):
    lost = [("hmm", name, seed) for name in METHODS for seed in range(3)]
    tables = collected(diverged=lost)
    assert "0 (+3 diverged)" in written(tables, tmp_path)["rivals"]


def test_the_results_page_shows_the_main_methods_and_says_where_the_others_are(tmp_path):
    more = {name: Behaviour(0.6, 0.01, 0.36) for name in ("misa", "smallest", "mat_lr_half", "mat_beta_zero", "mine")}
    pooled.save(made(more), tmp_path)
    write(tmp_path, "results")
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    shown = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")][2:]
    assert shown == ["vanilla", "MAT", "MAT (exact)", "random", "multirate", "mine"]
    assert (
        "MISA in `rivals.md`; smallest λ_max in `controls.md`; MAT, lr × ½ in `learning_rate.md`; MAT (beta zero) in "
        "`sensitivity.md`" in page
    )
    assert len(pd.read_csv(tmp_path / "results.csv")) == 10
    assert "4 more rows" in terminal.scale(tmp_path, CLAIMS)


def test_last_is_an_alternative_of_convergence():
    curve = GOLDEN.curve("mat-1").assign(val_loss=[3.0, 2.0, 2.5])
    last = replace(RULE, last=True)
    assert measures.macs_to_convergence(curve, "executed", RULE, False) == 0.5
    assert measures.macs_to_convergence(curve, "executed", last, False) == 1.0
    assert measures.target_loss(curve, last) == 2.5
    assert measures.wall_clock_to_convergence(curve, RULE, False) == 1.0
