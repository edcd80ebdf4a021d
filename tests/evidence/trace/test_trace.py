"""A number leads to its runs and is what they give; a file that was changed is found."""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml

from mat.errors import InputError
from mat.evidence.catalogue.tables import load
from mat.evidence.report import files
from mat.evidence.runs import pool, pooled
from mat.evidence.runs.pooled import save
from mat.evidence.trace import page, provenance
from mat.experiments.cli.main import main
from tests.evidence.report.test_report import png
from tests.evidence.synthetic import seal, write_runs
from tests.evidence.trace.repository import TABLES, traced
from tests.evidence.written import CLAIMS, ROOT, write


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A repository with run folders, tables, one figure and the record of them."""
    root = tmp_path_factory.mktemp("repository")
    save(pool.collect(write_runs(root / "results/demo/runs", seeds=(0, 1))), root / TABLES)
    write(root / TABLES, "results", "verdicts", "scores")
    png(root / "paper_figures/demo/dynamics.png")
    shutil.copy(ROOT / "paper_figures/dynamics.py", root / "paper_figures/dynamics.py")
    (root / "workflows").mkdir()
    for name in ("claims.yaml", "readings.yaml"):
        shutil.copy(CLAIMS.with_name(name), root / "workflows" / name)
    files.provenance(root / TABLES, root / "paper_figures/demo", root)
    return root


def check(root):
    return files.check(root / TABLES, CLAIMS, root)


def test_a_mean_is_the_mean_of_its_runs_values(kept):
    (found,) = traced(kept, "scores", "hmm", "mat", "log_perplexity")
    runs = load(kept / TABLES).runs.query("task == 'hmm' and method == 'mat'").set_index("seed")
    assert found.by_seed == pytest.approx(runs["test_log_perplexity"].to_dict())
    assert found.number == pytest.approx(runs["test_log_perplexity"].mean())
    assert found.agrees is True
    assert found.mean[0] == "mean"
    assert {run.run for run in found.runs} == set(runs["run"])
    assert all(run.there for run in found.runs)
    assert found.runs[0].hashes["code"] == runs["code_hash"].iloc[0]
    assert found.runs[0].command == (
        f"snakemake --cores all results/demo/runs/{found.runs[0].run}/final.json --config scale=demo"
    )


def test_a_saving_is_a_geometric_mean_and_stands_on_vanilla_too(kept):
    (found,) = traced(kept, "results.csv", "digits", "mat", "saving_executed_percent")
    assert found.column == "saving_executed_percent_mean"
    assert found.agrees is True
    assert found.mean[0].startswith("100 · (1 − geometric mean")
    assert found.mean[1] == pytest.approx(found.number)
    assert {run.method for run in found.runs} == {"mat", "vanilla"}
    assert len(found.by_seed) == 2


def test_a_claim_leads_to_the_runs_of_every_method_in_its_rule(kept):
    found = traced(kept, "C6", "hmm")
    assert {one.row["part"] for one in found} == {"advantage over multirate", "advantage over random"}
    assert {run.method for run in found[0].runs} == {"mat", "multirate", "random"}
    assert all(one.agrees for one in found)
    assert all(one.row["task"] == "hmm" for one in found)


def test_one_number_that_was_edited_differs(repository):
    path = repository / TABLES / "scores.csv"
    frame = pd.read_csv(path)
    row = (frame["task"] == "hmm") & (frame["method"] == "mat") & (frame["metric"] == "log_perplexity")
    frame.loc[row, "mean"] -= 0.01
    frame.to_csv(path, index=False)
    found = traced(repository, "scores", "hmm", "mat", "log_perplexity")
    assert found[0].agrees is False
    assert found[0].mean_agrees is False
    assert "DIFFERS" in page.text(found)
    with pytest.raises(InputError) as error:
        check(repository)
    assert "scores.csv: 1 of" in str(error.value)
    assert "results/demo/tables/scores.csv was" in str(error.value)


def test_text_and_json_say_the_same(kept):
    found = traced(kept, "C4", "digits")
    said = page.text(found)
    assert "agrees" in said
    assert "folder   results/demo/runs/digits-mat-0\n" in said
    assert "hardware: cpu, a processor, 2 cores, 1 threads" in said
    content = json.loads(page.as_json(found))
    assert content[0]["agrees"] is True
    assert content[0]["runs"][0]["run"] in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a table and a number"),
        (("nothing",), "tables there: results, runs, scores, verdicts"),
        (("results", "digits", "mat"), "name the number's column too, one of: .*saving_executed_percent"),
        (("results", "digits", "matt", "test_loss"), "no value and no column 'matt'; values: .*mat_exact"),
        (("C2",), "verdicts.csv has no number effect"),
    ],
)
def test_words_that_name_nothing_are_refused_with_what_there_is(kept, words, message):
    with pytest.raises(InputError, match=message):
        traced(kept, *words)


def test_files_that_are_as_recorded_pass_and_a_comment_on_a_rule_makes_nothing_stale(repository, monkeypatch, capsys):
    with open(repository / "workflows/claims.yaml", "a") as file:
        file.write("\n# a word of explanation\n")
    monkeypatch.chdir(repository)
    assert main(["trace", "--tables", TABLES, "--check"]) == 0
    assert "13 tables and figures and 20 runs are as recorded" in capsys.readouterr().out


def test_a_file_that_is_not_as_recorded_is_named_with_an_error_status(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    spoil_figure(repository)
    assert main(["trace", "--tables", TABLES, "--check"]) == 2
    assert "dynamics.png" in capsys.readouterr().err


def spoil_figure(root):
    with open(root / "paper_figures/demo/dynamics.png", "ab") as file:
        file.write(b"x")


def spoil_rules(root):
    path = root / "workflows/claims.yaml"
    assert "epsilon: 0.005" in path.read_text()
    path.write_text(path.read_text().replace("epsilon: 0.005", "epsilon: 0.006"))


def spoil_runs(root):
    path = root / TABLES / "runs.csv"
    path.write_text(path.read_text().replace("da7a-digits", "da7a-others"))
    pooled.seal(path.parent)


def retrain(root):
    path = root / "results/demo/runs/digits-mat-0/run.json"
    path.write_text(path.read_text().replace("c0de" * 10, "beef" * 10))
    seal(path.parent)


def lose_table(root):
    (root / TABLES / "results.tex").unlink()


def add_table(root):
    (root / TABLES / "other.csv").write_text("a\n1\n")


SPOILT = (
    (spoil_figure, "dynamics.png was .* when it was recorded and is .* now"),
    (spoil_rules, "results.csv was made from another workflows/claims.yaml; make it again: snakemake"),
    (spoil_runs, "run digits-mat-0 is recorded otherwise than runs.csv has it"),
    (retrain, "digits-mat-0 has the code_hash beefbeefbeef, the tables stand on c0dec0dec0de"),
    (lose_table, "results.tex is recorded and is not there"),
    (add_table, "other.csv is not recorded"),
)


def test_all_that_is_not_as_recorded_is_found_at_once(repository):
    for spoil, _ in SPOILT:
        spoil(repository)
    found = "\n".join(provenance.check(load(repository / TABLES), repository / TABLES, repository))
    for _, message in SPOILT:
        assert re.search(message, found), message


def test_a_record_holds_sources_and_runs(kept):
    record = provenance.load(kept / TABLES)
    figure = record["files"]["paper_figures/demo/dynamics.png"]
    assert set(figure["from"]) == {
        "paper_figures/dynamics.py", f"{TABLES}/runs.csv", f"{TABLES}/curves.parquet", f"{TABLES}/probes.parquet"
    }  # fmt: skip
    assert figure["from"][f"{TABLES}/runs.csv"] == record["files"][f"{TABLES}/runs.csv"]["sha256"]
    assert len(record["runs"]) == 20


def test_no_record_is_an_error(repository):
    (repository / TABLES / "provenance.json").unlink()
    with pytest.raises(InputError, match=r"expected provenance\.json"):
        check(repository)


def test_the_command_line_traces(kept, monkeypatch, capsys):
    monkeypatch.chdir(kept)
    assert main(["trace", "--tables", TABLES, "results", "hmm", "mat", "test_loss"]) == 0
    assert "test_loss_mean" in capsys.readouterr().out


def test_the_citation_has_the_projects_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert citation["cff-version"] == "1.2.0"
    assert f'version = "{citation["version"]}"' in project
    assert f'license = "{citation["license"]}"' in project
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2405.07527"
