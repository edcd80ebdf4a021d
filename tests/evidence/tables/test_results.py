import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mat.evidence.claims.load import load_claims
from mat.evidence.claims.verdicts import verdicts
from mat.evidence.measures import curves
from mat.evidence.measures.curves import Convergence
from mat.evidence.report import terminal
from mat.evidence.runs import pooled as pooled
from mat.evidence.stats.intervals import Interval
from mat.evidence.tables.results import latex, markdown, results
from mat.evidence.text import format
from mat.records.costs import flop_unit
from tests.evidence.synthetic import TASKS, changed, collected, write_runs
from tests.evidence.written import CLAIMS, collect_into, write

RULE = Convergence()


@pytest.fixture(scope="module")
def frame(tables):
    return results(tables, RULE)


def row(frame, task, method):
    return frame[(frame["task"] == task) & (frame["method"] == method)].iloc[0]


def test_one_row_per_task_and_method_in_order(frame):
    assert list(frame["task"]) == ["digits"] * 5 + ["hmm"] * 5
    assert list(frame["method"][:5]) == ["vanilla", "mat", "mat_exact", "random", "multirate"]


def test_diverged_runs_are_counted_and_excluded(frame):
    multirate = row(frame, "hmm", "multirate")
    assert (multirate["n_finished"], multirate["n_diverged"]) == (2, 1)
    assert multirate["seeds_finished"] == "0 1"
    assert multirate["saving_executed_percent_n"] == 2
    assert np.isfinite(multirate["test_metric_mean"])


def test_flops_are_twice_the_macs(frame):
    flop, mac = (frame[f"compute_to_convergence_executed_{unit}_mean"] for unit in ("flop", "mac"))
    assert (flop == 2 * mac).all()


def test_vanilla_against_itself_is_neutral(frame):
    vanilla = row(frame, "digits", "vanilla")
    assert vanilla["saving_executed_percent_mean"] == pytest.approx(0)
    assert vanilla["loss_advantage_at_equal_compute_executed_mean"] == pytest.approx(0)
    assert vanilla["compute_to_vanilla_best_executed_flop_mean"] == vanilla["compute_to_convergence_executed_flop_mean"]
    assert vanilla["probe_share_executed_percent_mean"] == 0  # it observes spectra and is not charged


def test_saving_is_the_paired_geometric_mean(frame, tables):
    logs = []
    for seed in (0, 1, 2):
        macs = []
        for method in ("mat", "vanilla"):
            run = tables.finished("digits", method).set_index("seed").loc[seed]
            curve = tables.curve(run["run"])
            macs.append(curves.macs_to_convergence(curve, "executed", RULE, bool(run["charges_probe"])))
        logs.append(np.log(macs[0] / macs[1]))
    assert row(frame, "digits", "mat")["saving_executed_percent_mean"] == pytest.approx(
        100 * (1 - np.exp(np.mean(logs)))
    )


def test_a_method_that_stops_short_of_vanilla_is_not_given_a_compute(frame):
    random = row(frame, "digits", "random")
    assert random["n_reached_vanilla_best_executed"] == 0
    assert np.isnan(random["compute_to_vanilla_best_executed_flop_mean"])
    assert random["loss_advantage_at_equal_compute_executed_mean"] < 0


def test_gap_closed_only_where_bounds_are_known(frame):
    assert np.isnan(row(frame, "digits", "mat")["bound_gap_closed_percent_mean"])
    closed = row(frame, "hmm", "mat")
    by_hand = 100 * (3.31 - closed["test_loss_mean"]) / (3.31 - 2.21)
    assert closed["bound_gap_closed_percent_mean"] == pytest.approx(by_hand)


def test_the_page_says_what_it_stands_on(frame, tables):
    page = markdown(frame, tables, RULE)
    command = "snakemake --cores all --config scale=demo"
    for part in ("Scale demo", "n = 3", "executed ledger", "GFLOP", "TFLOP", command, "test loss, nats"):
        assert part in page
    assert "2 (+1 diverged)" in page
    assert "best possible 2.2100 nats, unigram 3.3100 nats" in page
    for section in page.split("## ")[1:3]:
        widths = {line.count("|") for line in section.splitlines() if line.startswith("|")}
        assert len(widths) == 1


def test_losses_are_in_the_task_s_own_unit(tmp_path):
    shapes = {"stsb": replace(TASKS["digits"], metric="pearson", loss_unit="squared points")}
    paths = write_runs(tmp_path / "runs", ["stsb"], shapes=shapes)
    collect_into(paths, tmp_path)
    write(tmp_path, "results")
    page, frame = (tmp_path / "results.md").read_text(encoding="utf-8"), pd.read_csv(tmp_path / "results.csv")
    assert "test loss, squared points" in page
    assert "test pearson × 100" in page
    assert "nats" not in page + (tmp_path / "results.tex").read_text() + terminal.run(paths[0])
    assert "squared points" in terminal.run(paths[0])
    assert set(frame["loss_unit"]) == {"squared points"}
    assert not [name for name in frame if "nats" in name]
    found = verdicts(pooled.load(tmp_path), load_claims(CLAIMS)).query("claim == 'C6' and task == 'stsb'")
    assert set(found["unit"]) == {"squared points of validation loss"}


def test_the_latex_is_balanced_and_escaped(frame, tables):
    source = latex(frame, tables)
    assert source.count(r"\toprule") == source.count(r"\bottomrule") == source.count(r"\end{tabular}}") == 2
    assert "MAT (exact)" in source
    body = [line for line in source.splitlines() if line.endswith(r"\\")]
    assert all(re.search(r"(?<!\\)[_#$%](?!\w*\$)", re.sub(r"\$[^$]*\$", "", line)) is None for line in body)
    assert source.isascii()


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("50 % & more_less", r"50 \% \& more\_less"),
        ("a#b$c{d}", r"a\#b\$c\{d\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("1 − λ × 2", r"1 $-$ $\lambda$ $\times$ 2"),
    ],
)
def test_latex_escapes(raw, escaped):
    assert format.latex(raw) == escaped


def test_markdown_cells_cannot_break_the_table():
    assert format.markdown_table(["a|b"], [["x\ny"]]) == "| a\\|b |\n| --- |\n| x y |"


@pytest.mark.parametrize(
    ("largest", "unit"), [(2e15, "PFLOP"), (9.9e14, "TFLOP"), (1e9, "GFLOP"), (3e3, "MFLOP"), (float("nan"), "MFLOP")]
)
def test_flop_unit(largest, unit):
    assert flop_unit(largest)[1] == unit


def test_numbers_as_text():
    assert format.number(-0.0001, 2) == "0.00"
    assert format.number(float("nan"), 2) == format.MISSING
    assert format.interval(Interval(1.234, np.nan, np.nan, 1), 2) == "1.23"
    assert format.interval(Interval(-1.0, -2.0, 0.5, 3), 1) == "−1.0 [−2.0, 0.5]"


def test_files_are_written_and_deterministic(tables, tmp_path):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        pooled.save(tables, folder)
        write(folder, "results")
        contents.append([(folder / f"results.{ending}").read_bytes() for ending in ("csv", "md", "tex")])
    assert contents[0] == contents[1]
    assert len(pd.read_csv(tmp_path / "a" / "results.csv")) == 10
    summary = terminal.scale(tmp_path / "a", CLAIMS)
    assert "scale demo" in summary
    assert len(summary.splitlines()) == 19


def test_one_seed_gives_means_without_intervals(tmp_path):
    runs = tmp_path
    pooled.save(collected(["digits"], seeds=[4]), runs)
    write(runs, "results")
    table = pd.read_csv(runs / "results.csv")
    assert table["test_metric_mean"].notna().all()
    assert table["test_metric_low"].isna().all()
    assert "nan" not in (runs / "results.md").read_text(encoding="utf-8")


def test_a_run_can_be_shown(tmp_path):
    methods = changed(mat={"reached": 0.25})
    runs = write_runs(tmp_path, tasks=["hmm"], methods=methods, seeds=[0], diverged=[("hmm", "random", 0)])
    pages = {run.name: terminal.run(run) for run in runs}
    assert all("optimizer" in page and "in neither total" in page for page in pages.values())
    assert "scale demo, task hmm, method mat, seed 0" in pages["hmm-mat-0"]
    assert re.search(r"head\.0\.1 +[#.x]{10}\n", pages["hmm-mat_exact-0"])
    assert re.search(r"head\.0\.1 +[!.x]{10}\n", pages["hmm-mat-0"]), "a gradient reaches a quarter of what is active"
    assert "status    diverged" in pages["hmm-random-0"]
    warned = {name for name, page in pages.items() if "mode      detach: selected modules below" in page}
    assert warned == {"hmm-mat-0", "hmm-random-0", "hmm-multirate-0"}
