"""The real `snakemake` command on a miniature scale: everything comes out, nothing runs that need not."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = ("provenance", "report", "reproducibility")
AGREEMENT = """
agreement:
  families: {vgg: {of: digits}, bert: {of: hmm}}
  shares: [0, 1]
  probe_sets: 2
  sizes: [4, 8]
  directions: [4]
  full_rows: 40
"""


LEVELS = """
mini:
  hmm: {metric: gap_closed, direction: at_least, level: 1, source: Nobody learns in sixteen steps.}
  digits: {metric: accuracy, direction: at_least, level: null, source: Nothing is known of so small a net.}
"""
TUNED = """
scale: tuned
seeds: [0]
tasks:
  first:
    task: {name: hmm, length: 8, train: 256, validation: 32, test: 32}
    model: {name: bert, width: 16, heads: 2}
    methods: [vanilla]
  second:
    task: {name: hmm, length: 8, train: 128, validation: 32, test: 32}
    start: {task: first, method: vanilla}
  third:
    task: {name: digits}
    model: {name: vgg, plan: [4, M], filter_groups: 2}
methods:
  vanilla: {name: vanilla}
  mat: {name: mat}
  random: {name: random, match: mat}
"""


class Pipeline:
    """A copy of the project in which files may be edited, and the command line in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("mat", "workflows", "paper_figures"):
            shutil.copytree(
                REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.png", "*.pdf")
            )
        shutil.copy(REPOSITORY / "Snakefile", root)
        config = (REPOSITORY / "tests/end_to_end/mini.yaml").read_text() + AGREEMENT
        (root / "workflows/config/mini.yaml").write_text(config)
        with open(root / "workflows/sanity.yaml", "a") as levels:
            levels.write(LEVELS)

    def snakemake(self, *args: str, scale: str = "mini", part: str = "") -> subprocess.CompletedProcess:
        return subprocess.run(
            ["snakemake", *args, "--config", f"scale={scale}", *part.split()],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=500,
        )

    def planned(self, **options: str) -> set[str]:
        """Rules that a run would start now; a table by its name."""
        done = self.snakemake("-n", "--cores", "2", **options)
        assert done.returncode == 0, done.stderr
        said = done.stdout + done.stderr
        rules = set(re.findall(r"^(?:local)?rule (\w+):", said, re.M)) - {"all"}
        tables = set(re.findall(r"wildcards: table=(\w+)", said))
        return {name for name in rules if not re.match(r"table\b|table_", name)} | tables


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    made = Pipeline(tmp_path_factory.mktemp("pipeline"))
    done = made.snakemake("--cores", "2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    made.output = done.stdout + done.stderr
    return made


def test_tables_figures_and_verdicts_come_out(pipeline):
    tables, figures = pipeline.root / "results/mini/tables", pipeline.root / "paper_figures/mini"
    results = pd.read_csv(tables / "results.csv")
    assert set(results["task"]) == {"digits", "hmm", "broken"}
    assert len(results) == 9
    for name in ("results.md", "results.tex", "verdicts.md", "verdicts.csv", "ambiguities.md", "runs.csv"):
        assert (tables / name).stat().st_size > 200, name
    for name in ("controls", "rivals", "learning_rate", "wall_clock", "sensitivity"):
        assert all((tables / f"{name}.{kind}").is_file() for kind in ("csv", "md", "tex")), name
        assert "--config scale=mini" in (tables / f"{name}.md").read_text()
    verdicts = pd.read_csv(tables / "verdicts.csv")
    assert {"C1", "C4", "C5", "C6", "C7", "C8", "X1", "X2", "X4", "X5"} <= set(verdicts["claim"])
    for name in ("dynamics", "loss_vs_compute", "active_map"):
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_scores_and_what_vanilla_reached_come_out(pipeline):
    tables = pipeline.root / "results/mini/tables"
    scores = pd.read_csv(tables / "scores.csv")
    assert set(scores.query("task == 'hmm'")["metric"]) == {"log_perplexity", "perplexity"}
    assert scores.query("task == 'digits' and metric == 'accuracy'")["mean"].between(1, 100).all()
    assert (tables / "scores.tex").stat().st_size > 200
    sanity = pd.read_csv(tables / "sanity.csv").set_index("task")
    verdicts = {"hmm": "not reached", "digits": "no level stated", "broken": "no level stated"}
    assert sanity["verdict"].to_dict() == verdicts
    assert "floor loss" in sanity.loc["hmm", "baselines"]
    assert "vanilla on hmm: not reached" in pipeline.output
    assert (pipeline.root / "paper_figures/mini/sanity.png").stat().st_size > 20_000


def test_estimators_are_compared(pipeline):
    table = pd.read_csv(pipeline.root / "results/mini/tables/agreement.csv")
    assert table.groupby("family")["reference"].first().to_dict() == {"bert": "projected_4", "vgg": "trace"}
    assert set(table["checkpoint"].astype(str)) == {"0", "1", "trained"}
    assert "default" in (pipeline.root / "results/mini/tables/agreement.md").read_text()
    assert (pipeline.root / "paper_figures/mini/estimators.png").stat().st_size > 20_000


def test_branches_are_trained_and_compared(pipeline):
    tables = pipeline.root / "results/mini/tables"
    trained = pd.read_csv(tables / "trainability.csv", keep_default_na=False)
    assert set(trained["family"]) == {"bert", "vgg"}
    assert len(pd.read_csv(tables / "trainability_modules.csv")) == 4 + 6
    sets = pd.read_csv(tables / "generalisation.csv", keep_default_na=False)
    assert set(sets["set"]) == {"top", "bottom", "random", "all", "none"}
    verdicts = pd.read_csv(tables / "verdicts.csv").query("claim in ('C2', 'C3') and task != 'all'")
    assert set(zip(verdicts["claim"], verdicts["task"], strict=True)) == {
        (claim, family) for claim in ("C2", "C3") for family in ("bert", "vgg")
    }
    assert "bottom" in (tables / "generalisation.md").read_text()


def test_the_ceiling_of_tasks_and_models_comes_out(pipeline):
    tables = pipeline.root / "results/mini/tables"
    parts = pd.read_csv(tables / "ceiling_parts.csv")
    sources = parts.groupby("label")["source"].first().to_dict()
    assert sources == {"digits": "task", "broken": "task", "hmm": "task", "switch": "paper"}
    assert set(parts.query("label == 'hmm'")["input"]) == {"input_ids 1 × 9"}
    assert set(pd.read_csv(tables / "ceiling.csv")["label"]) == set(sources)
    assert "a saving of 50.0 % of a run" in (tables / "ceiling.md").read_text()
    assert (pipeline.root / "paper_figures/mini/ceiling.png").stat().st_size > 20_000


def test_one_seed_is_too_few_for_a_verdict(pipeline):
    verdicts = pd.read_csv(pipeline.root / "results/mini/tables/verdicts.csv")
    tested = verdicts[verdicts["verdict"] != "not tested at this scale"]
    assert set(tested["verdict"]) == {"inconclusive"}


def test_a_diverged_run_is_recorded_and_stops_nothing(pipeline):
    runs = pd.read_csv(pipeline.root / "results/mini/tables/runs.csv")
    assert set(runs[runs["task"] == "broken"]["status"]) == {"diverged"}
    assert set(runs[runs["task"] != "broken"]["status"]) == {"finished"}


def test_random_trains_as_many_modules_as_mat(pipeline):
    probes = pd.read_parquet(pipeline.root / "results/mini/tables/probes.parquet")
    probes = probes[probes["task"] != "broken"]
    counts = probes.groupby(["task", "method", "interval"])["active"].sum().unstack("method")
    assert (counts["mat"] == counts["random"]).all()


def test_every_run_of_a_seed_starts_from_the_same_loss(pipeline):
    curves = pd.read_parquet(pipeline.root / "results/mini/tables/curves.parquet")
    first = curves[curves["step"] == 0].groupby("task")["val_loss"].nunique()
    assert (first == 1).all()


def test_the_terminal_ends_with_a_summary(pipeline):
    assert "scale mini" in pipeline.output


def test_nothing_is_done_twice(pipeline):
    assert pipeline.planned() == set()


def test_a_part_of_the_scale_has_tables_of_its_own_from_the_same_runs(pipeline):
    part = "only=random,pictures"
    tables = pipeline.root / "results/mini/only/pictures,random/tables"
    whole = pipeline.root / "results/mini/tables/runs.csv"
    before = whole.read_bytes()
    rules = {
        "collect",
        "results",
        "scores",
        *("controls", "rivals", "learning_rate", "wall_clock"),
        "sensitivity",
        "verdicts",
        "sanity",
        "ambiguities",
        "ceiling",
        "agreement",
        *("trainability", "trainability_modules", "generalisation"),
        "figure",
        *PAGES,
    }
    assert pipeline.planned(part=part) == rules
    targets = [str((tables / name).relative_to(pipeline.root)) for name in ("scores.md", "sanity.md")]
    done = pipeline.snakemake("--cores", "2", *targets, part=part)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    runs = pd.read_csv(tables / "runs.csv")
    # random follows mat, which comes along and is in the tables: they hold all that they stand on
    assert set(zip(runs["task"], runs["method"], strict=True)) == {("digits", "mat"), ("digits", "random")}
    said = "only=pictures,random"  # the same for any order of terms
    assert set(runs["selection"]) == {said}
    assert f"--config scale=mini {said}`" in (tables / "scores.md").read_text()
    assert whole.read_bytes() == before
    assert pipeline.planned() == set()


def test_seeds_given_on_the_command_line_train_beside_the_others(pipeline):
    done = pipeline.snakemake("-n", "--cores", "2", part="seeds=[1] only=digits,vanilla")
    assert done.returncode == 0, done.stderr
    assert "digits-vgg-vanilla-s1" in done.stdout
    assert "results/mini/only/digits,vanilla,seeds-1/tables/runs.csv" in done.stdout
    assert "-s0-" not in done.stdout
    assert "rule prepare" not in done.stdout
    assert pipeline.planned(part="seeds=[0]") == set()  # they are the config's


def test_what_others_start_from_keeps_its_weights_whatever_is_selected(pipeline):
    config = pipeline.root / "workflows/config/tuned.yaml"
    config.write_text(TUNED)
    try:
        alone = pipeline.planned(scale="tuned", part="only=first")
        assert "pretrain" in alone
        assert "train" not in alone
        done = pipeline.snakemake("-n", "--cores", "2", scale="tuned", part="only=second,mat")
        made = {
            line.split("=")[1].rpartition("-s0-")[0] for line in done.stdout.splitlines() if "wildcards: run=" in line
        }
        assert made == {"hmm-bert-vanilla", "hmm-bert-mat"}
        assert "sanity" not in pipeline.planned(scale="tuned")
    finally:
        config.unlink()


def test_an_unknown_term_is_refused_with_what_there_is(pipeline):
    done = pipeline.snakemake("-n", "--cores", "2", part="only=picture")
    assert done.returncode != 0
    assert (
        "nothing is called 'picture' at this scale; tasks: broken, digits, hmm; tags: pictures; methods: mat"
        in done.stdout + done.stderr
    )
    assert "Traceback" not in done.stdout + done.stderr


def test_an_edited_level_is_applied_without_training(pipeline):
    levels = pipeline.root / "workflows/sanity.yaml"
    before = levels.read_text()
    try:
        levels.write_text(before + "\n# edited\n")
        assert pipeline.planned() == {"sanity", "verdicts", "figure", *PAGES}
        levels.write_text(
            before.replace("  digits: {metric: accuracy, direction", "  digit: {metric: accuracy, direction")
        )
        done = pipeline.snakemake("-n", "--cores", "2")
        assert "mini.digit is no task of that scale's config" in done.stdout + done.stderr
    finally:
        levels.write_text(before)
        assert pipeline.snakemake("--cores", "2").returncode == 0


def test_an_edited_figure_is_drawn_again_and_nothing_else(pipeline):
    script = pipeline.root / "paper_figures/active_map.py"
    script.write_text(script.read_text() + "\n# edited\n")
    assert pipeline.planned() == {"figure", "provenance", "report"}
    assert pipeline.snakemake("--cores", "2").returncode == 0


def test_an_edited_rule_of_judgement_is_applied_without_training(pipeline):
    claims = pipeline.root / "workflows/claims.yaml"
    claims.write_text(claims.read_text() + "\n# edited\n")
    judged = {"results", "verdicts", "agreement", "rivals", "wall_clock", "sensitivity"}
    assert pipeline.planned() == {*judged, "figure", *PAGES}
    assert pipeline.snakemake("--cores", "2").returncode == 0


def test_an_edited_table_is_made_again_alone_and_a_comment_in_it_makes_nothing(pipeline):
    code = pipeline.root / "mat/evidence/tables/scores.py"
    before = code.read_text()
    try:
        code.write_text(before + "\n# edited\n")
        assert pipeline.planned() == set()
        code.write_text(before + "\nEDITED = True\n")
        assert pipeline.planned() == {"scores", *PAGES}
    finally:
        code.write_text(before)


def test_a_new_seed_trains_only_its_own_runs(pipeline):
    config = pipeline.root / "workflows/config/mini.yaml"
    before = config.read_text()
    try:
        config.write_text(before.replace("seeds: [0]", "seeds: [0, 1]"))
        done = pipeline.snakemake("-n", "--cores", "2")
        assert {"collect", "train", "results", "verdicts", "figure"} <= pipeline.planned()
        assert "-s1-" in done.stdout
        assert "wildcards: run=digits-vgg-mat-s0" not in done.stdout
    finally:
        config.write_text(before)


def test_tables_without_their_runs_do_not_stand_in_for_them(pipeline):
    """A fresh clone has the reference tables and figures, and still trains."""
    runs = pipeline.root / "results/mini/runs"
    try:
        runs.rename(runs.with_name("kept"))
        assert {"train", "collect", "results", "verdicts", "figure"} <= pipeline.planned()
    finally:
        runs.with_name("kept").rename(runs)


@pytest.mark.parametrize(
    ("name", "text", "again"),
    [
        ("experiments/training/loop.py", "# a comment", set()),
        ("experiments/studies/branches/fork.py", "OTHER = 1", {"branches"}),
        ("methods/mat.py", "OTHER = 1", {"mat"}),
        ("experiments/training/loop.py", "OTHER = 1", {"mat", "vanilla", "agreement", "branches"}),
    ],
)
def test_edited_code_trains_again_what_stands_on_it(pipeline, name, text, again):
    """Of the runs of vanilla and MAT, and of the studies."""
    code = pipeline.root / "mat" / name
    before = code.read_text()
    try:
        code.write_text(f"{before}\n{text}\n")
        done = pipeline.snakemake("-n", "--cores", "2")
        assert done.returncode == 0, done.stderr
        runs = set(re.findall(r"wildcards: run=digits-vgg-(vanilla|mat)-s0", done.stdout))
        studies = set(re.findall(r"wildcards: study=(\w+)", done.stdout))
        assert runs | studies == again
    finally:
        code.write_text(before)


def test_the_report_is_one_page_that_needs_no_network(pipeline):
    folder = pipeline.root / "results/mini"
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64") == len(list((pipeline.root / "paper_figures/mini").glob("*.png")))
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert (folder / "REPORT.md").read_text().index("## Verdicts") < 2000
    assert "Communication with original authors" in (folder / "REPRODUCIBILITY.md").read_text()
    assert "report: results/mini/report.html" in pipeline.output


def test_a_number_leads_to_its_runs_and_the_files_are_as_recorded(pipeline):
    trace = [sys.executable, "-m", "mat", "trace", "--tables", "results/mini/tables"]
    environment = {**os.environ, "PYTHONPATH": str(pipeline.root), "OMP_NUM_THREADS": "1"}
    for words, said in (
        (["results", "digits", "mat", "saving_executed_percent"], "agrees"),
        (["--check"], "are as recorded"),
    ):
        done = subprocess.run([*trace, *words], cwd=pipeline.root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    name = next((pipeline.root / "results/mini/runs").glob("digits-vgg-mat-s0-*")).name
    again = pipeline.snakemake("-n", "--cores", "1", f"results/mini/runs/{name}/final.json")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("seeds: [0]", "sedes: [0]"), "unknown key 'sedes'"),
        (("{name: mat}", "{name: mat, alpha: 0}"), "alpha must be in (0, 1]"),
        (("seeds: [0]", "seeds: []"), "mini.yaml: seeds: expected 1 at least"),
        (("outputs: 16", "outputs: 0"), "mini.yaml: ceiling.models.switch.outputs: expected a number ≥ 1"),
    ],
)
def test_a_bad_config_ends_before_any_job(pipeline, edit, message):
    config = pipeline.root / "workflows/config/mini.yaml"
    before = config.read_text()
    try:
        config.write_text(before.replace(*edit))
        done = pipeline.snakemake("--cores", "2")
    finally:
        config.write_text(before)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unknown_scale_is_refused(pipeline):
    done = pipeline.snakemake("-n", scale="galactic")
    assert done.returncode != 0
    assert "unknown scale 'galactic'; known: demo, mini, paper, subset" in done.stdout + done.stderr


def test_runs_name_what_made_them(pipeline):
    record = json.loads(next((pipeline.root / "results/mini/runs").glob("*/run.json")).read_text())
    assert set(record) >= {"code_hash", "data_hash", "versions", "hardware", "threads", "spec", "seed"}
