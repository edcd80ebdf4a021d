"""The real workflow on a miniature scale, in a terminal: everything comes out, nothing runs that need not."""

import json
import os
import pty
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from mat.evidence.text import words
from mat.experiments.cli.main import main
from tests.end_to_end import warm

REPOSITORY = Path(__file__).parents[2]
PAGES = ("provenance", "report", "reproducibility")
AGREEMENT = """
agreement:
  families: {vgg: {of: digits}, bert: {of: hmm}}
  shares: [0, 1]
  probe_sets: 2
  sizes: [4, 8]
  estimators: [trace, sum_of_logits, projected]
  directions: [4]
  reference_directions: 16
  full_rows: 40
  sample_passes: 640
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

    def command(self, *args: str, scale: str = "mini", part: str = "") -> dict:
        """What ``subprocess`` is called with."""
        return {
            "args": ["snakemake", *args, "--config", f"scale={scale}", *part.split()],
            "cwd": self.root,
            "env": {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"},
        }

    def snakemake(self, *args: str, **options: str) -> subprocess.CompletedProcess:
        return warm.snakemake(**self.command(*args, **options))

    def in_a_terminal(self, *args: str) -> str:
        """What the command says there, once it has ended well."""
        reading, writing = pty.openpty()
        process = subprocess.Popen(**self.command(*args), stdout=writing, stderr=writing)
        os.close(writing)
        said = b""
        while True:
            try:
                said += os.read(reading, 2**16)
            except OSError:  # closed at the other end
                break
        os.close(reading)
        assert process.wait() == 0, said.decode()[-5000:]
        return said.decode()

    def dry_run(self, **options: str) -> str:
        """What Snakemake says of what it would start."""
        done = self.snakemake("-n", "--cores", "2", **options)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def edited(self, name: str, edit):
        """A file as ``edit`` changes its text; afterwards as it was, its time too, so that nothing is to be done."""
        path = self.root / name
        before, about = path.read_text(), path.stat()
        assert edit(before) != before
        path.write_text(edit(before))
        try:
            yield
        finally:
            path.write_text(before)
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def planned(said: str) -> set[str]:
    """Rules that a run would start; a table by its name."""
    rules = set(re.findall(r"^(?:local)?rule (\w+):", said, re.M)) - {"all"}
    tables = set(re.findall(r"wildcards: table=(\w+)", said))
    return {name for name in rules if not re.match(r"table\b|table_", name)} | tables


def adding(text: str):
    return lambda before: f"{before}\n{text}\n"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    made = Pipeline(tmp_path_factory.mktemp("pipeline"))
    made.output = made.in_a_terminal("--cores", "2")
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
    assert f"vanilla on {words.task('hmm')}: not reached" in pipeline.output
    assert (pipeline.root / "paper_figures/mini/sanity.png").stat().st_size > 20_000


def test_estimators_are_compared(pipeline):
    table = pd.read_csv(pipeline.root / "results/mini/tables/agreement.csv")
    assert table.groupby("family")["reference"].first().to_dict() == {"bert": "projected_16", "vgg": "trace"}
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


def test_the_report_is_one_page_that_needs_no_network(pipeline):
    folder = pipeline.root / "results/mini"
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64") == len(list((pipeline.root / "paper_figures/mini").glob("*.png")))
    assert not re.search(r'src="(?!#|data:)', page)
    beside = re.findall(r'href="(?!#|data:)([^"]*)"', page)  # what is too large for a page
    assert all((folder / unquote(name)).is_file() for name in beside)
    assert (folder / "REPORT.md").read_text().index("## Verdicts") < 2000
    assert "Communication with original authors" in (folder / "REPRODUCIBILITY.md").read_text()
    assert "Open next: results/mini/report.html" in pipeline.output


def test_runs_name_what_made_them(pipeline):
    record = json.loads(next((pipeline.root / "results/mini/runs").glob("*/run.json")).read_text())
    assert set(record) >= {"code_hash", "data_hash", "versions", "hardware", "threads", "spec", "seed"}


def test_a_part_of_the_scale_has_tables_of_its_own_from_the_same_runs(pipeline):
    part = "only=random,pictures"
    tables = pipeline.root / "results/mini/only/pictures,random/tables"
    whole = pipeline.root / "results/mini/tables/runs.csv"
    before = whole.read_bytes()
    rules = {
        *(
            "collect",
            "results",
            "scores",
            "controls",
            "rivals",
            "learning_rate",
            "wall_clock",
            "sensitivity",
            "lambda_max",
        ),
        *("verdicts", "sanity", "ambiguities", "ceiling", "agreement", "price_list", "step_times", "figure"),
        *("trainability", "trainability_modules", "generalisation", "replay", "loss_levels", "saving_factors", "twins"),
        *PAGES,
    }
    assert planned(pipeline.dry_run(part=part)) == rules
    names = ("scores.md", "sanity.md", "ambiguities.md")  # the last one waits while another is made
    targets = [str((tables / name).relative_to(pipeline.root)) for name in names]
    done = pipeline.snakemake("--cores", "1", "--verbose", *targets, part=part)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-5000:]
    # Snakemake looks at what is to do at the start and when a job has ended, not every second
    assert 0 < said.count("Ready jobs: ") <= said.count("Finished jobid: ")
    # a file has plain lines
    assert "rule collect:" in said
    assert "\r" not in said and "jobs done" not in said
    runs = pd.read_csv(tables / "runs.csv")
    # random follows mat, which comes along and is in the tables: they hold all that they stand on
    assert set(zip(runs["task"], runs["method"], strict=True)) == {("digits", "mat"), ("digits", "random")}
    said = "only=pictures,random"  # the same for any order of terms
    assert set(runs["selection"]) == {said}
    assert f"--config scale=mini {said}`" in (tables / "scores.md").read_text()
    assert whole.read_bytes() == before


def test_nothing_is_done_twice_whatever_part_was_made_and_if_the_config_s_seeds_are_given(pipeline):
    assert planned(pipeline.dry_run(part="seeds=[0]")) == set()


def test_seeds_given_on_the_command_line_train_beside_the_others(pipeline):
    said = pipeline.dry_run(part="seeds=[1] only=digits,vanilla")
    assert "digits-vgg-vanilla-s1" in said
    assert "results/mini/only/digits,vanilla,seeds-1/tables/runs.csv" in said
    assert "-s0-" not in said
    assert "rule prepare" not in said


def test_what_others_start_from_keeps_its_weights_whatever_is_selected(pipeline):
    config = pipeline.root / "workflows/config/tuned.yaml"
    config.write_text(TUNED)
    try:
        alone = planned(pipeline.dry_run(scale="tuned", part="only=first"))
        said = pipeline.dry_run(scale="tuned", part="only=second,mat")
    finally:
        config.unlink()
    assert "pretrain" in alone
    assert not {"train", "sanity"} & alone  # no level is stated for this scale
    assert set(re.findall(r"wildcards: run=(\S+)-s0-", said)) == {"hmm-bert-vanilla", "hmm-bert-mat"}


def test_an_edited_level_and_an_edited_table_are_applied_without_training(pipeline):
    with (
        pipeline.edited("workflows/sanity.yaml", adding("# edited")),
        pipeline.edited("mat/evidence/tables/scores.py", adding("EDITED = True")),
    ):
        assert planned(pipeline.dry_run()) == {"sanity", "verdicts", "scores", "figure", *PAGES}


def test_an_edited_rule_of_judgement_is_applied_without_training(pipeline):
    with pipeline.edited("workflows/claims.yaml", adding("# edited")):
        judged = {"results", "verdicts", "agreement", "price_list", "rivals", "wall_clock", "sensitivity", "twins"}
        assert planned(pipeline.dry_run()) == {*judged, "figure", *PAGES}


def test_an_edited_figure_is_drawn_again_and_nothing_else_and_a_comment_in_code_makes_nothing(pipeline):
    with (
        pipeline.edited("paper_figures/active_map.py", adding("# edited")),
        pipeline.edited("mat/evidence/tables/scores.py", adding("# edited")),
    ):
        said = pipeline.dry_run()
    assert planned(said) == {"figure", "provenance", "report"}
    assert re.findall("wildcards: figure=(.*)", said) == ["active_map"]


def test_a_new_seed_trains_only_its_own_runs(pipeline):
    with pipeline.edited("workflows/config/mini.yaml", lambda text: text.replace("seeds: [0]", "seeds: [0, 1]")):
        said = pipeline.dry_run()
    assert {"collect", "train", "results", "verdicts", "figure"} <= planned(said)
    assert "-s1-" in said
    assert "wildcards: run=digits-vgg-mat-s0" not in said


def test_tables_without_their_runs_do_not_stand_in_for_them(pipeline):
    runs = pipeline.root / "results/mini/runs"
    try:
        runs.rename(runs.with_name("kept"))
        assert {"train", "collect", "results", "verdicts", "figure"} <= planned(pipeline.dry_run())
    finally:
        runs.with_name("kept").rename(runs)


def test_runs_that_were_made_elsewhere_are_pooled_and_none_is_trained_again(pipeline, tmp_path):
    home, pack = pipeline.root / "results/mini", tmp_path / "runs.zip"
    assert main(["runs", "export", str(home), "-o", str(pack)]) == 0
    home.rename(tmp_path / "away")
    try:
        assert main(["runs", "import", str(pack), "--results", str(home.parent)]) == 0
        rules = planned(pipeline.dry_run())
    finally:
        shutil.rmtree(home)
        (tmp_path / "away").rename(home)
    assert {"collect", "results", "trainability", "agreement", "figure"} <= rules
    assert not {"fetch", "prepare", "train", "pretrain", "study"} & rules


LOOP = "experiments/training/loop.py"


@pytest.mark.parametrize(
    ("edits", "again"),
    [
        (
            {LOOP: "# a comment", "experiments/studies/branches/fork.py": "OTHER = 1", "methods/mat.py": "OTHER = 1"},
            {"branches", "mat"},
        ),
        ({LOOP: "OTHER = 1"}, {"mat", "vanilla", "agreement", "branches", "step_times"}),
    ],
    ids=["a study and a method", "the loop"],
)
def test_edited_code_trains_again_what_stands_on_it(pipeline, edits, again):
    """Of the runs of vanilla and MAT, and of the studies."""
    with ExitStack() as edited:
        for name, text in edits.items():
            edited.enter_context(pipeline.edited(f"mat/{name}", adding(text)))
        said = pipeline.dry_run()
    runs = set(re.findall(r"wildcards: run=digits-vgg-(vanilla|mat)-s0", said))
    assert runs | set(re.findall(r"wildcards: study=(\w+)", said)) == again


@pytest.mark.parametrize(
    ("words", "said"),
    [(["results", "digits", "mat", "saving_executed_percent"], "agrees"), (["--check"], "are as recorded")],
    ids=["number", "files"],
)
def test_a_number_leads_to_its_runs_and_the_files_are_as_recorded(pipeline, monkeypatch, capsys, words, said):
    monkeypatch.chdir(pipeline.root)
    assert main(["trace", "--tables", "results/mini/tables", *words]) == 0
    assert said in capsys.readouterr().out


def test_a_terminal_has_one_line_that_says_how_far_it_is(pipeline):
    ran = pipeline.output.partition("scale mini")[0]  # before the summary
    assert re.search(r"\r.*\d+ of \d+ jobs done, about \d+ s left", ran)
    assert "digits-vgg-mat-s0" in ran
    assert "figure active_map" in ran
    assert not re.search("^(local)?rule ", ran, re.M)


@pytest.mark.parametrize(
    ("edit", "part", "message"),
    [
        (("outputs: 16", "outputs: 0"), "", "mini.yaml: ceiling.models.switch.outputs: expected a number ≥ 1"),
        (("# A mini", "# a mini"), "only=picture", "nothing is called 'picture' at this scale; tasks: broken, digits"),
    ],
    ids=["config", "selection"],
)
def test_what_cannot_be_used_ends_before_any_job_in_one_line(pipeline, edit, part, message):
    with pipeline.edited("workflows/config/mini.yaml", lambda text: text.replace(*edit)):
        done = pipeline.snakemake("--cores", "2", part=part)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
