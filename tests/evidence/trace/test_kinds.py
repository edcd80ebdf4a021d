"""Every table's numbers lead to the runs that they stand on, and are read from those runs' folders."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mat.evidence.catalogue.tables import load
from mat.evidence.report import files
from mat.evidence.runs import pool, pooled
from mat.evidence.runs.pooled import save
from mat.evidence.trace import number, page, provenance
from mat.records.files import CURVE, ENDING, read_whole, write_record
from mat.records.run import WRITTEN
from tests.evidence.synthetic import MANY, seal, write_runs
from tests.evidence.trace.repository import TABLES, traced
from tests.evidence.written import CLAIMS, write

METHODS = ("vanilla", "vanilla_lr_half", "mat", "mat_lr_half", "misa", "random", "smallest", "largest")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A repository with run folders and every table that is made from them."""
    root = tmp_path_factory.mktemp("repository")
    methods = {name: MANY[name] for name in METHODS}
    runs = write_runs(root / "results/demo/runs", methods=methods, seeds=(0, 1), steps=60)
    save(pool.collect(runs), root / TABLES)
    made = ("results", "controls", "rivals", "learning_rate", "wall_clock", "scores", "ambiguities")
    write(root / TABLES, *made)
    (root / "paper_figures").mkdir()
    files.provenance(root / TABLES, root / "paper_figures", root)
    return root


@pytest.mark.parametrize(
    ("words", "methods"),
    [
        ("rivals digits misa best_validation_loss", "misa"),
        ("rivals digits misa saving_at_convergence_percent", "misa vanilla"),
        ("wall_clock digits mat seconds", "mat"),
        ("wall_clock digits mat seconds_saving_whole_run_percent", "mat vanilla"),
        ("wall_clock digits mat time_per_flop_ratio", "mat vanilla"),
        ("learning_rate digits mat_lr_half best_validation_loss", "mat_lr_half"),
        ("learning_rate digits mat 1 best_validation_loss", "mat"),
        (
            "learning_rate digits mat_lr_half advantage_over_tuned_vanilla_percent",
            "mat_lr_half vanilla vanilla_lr_half",
        ),
        ("controls digits smallest loss_minus_random", "smallest random"),
        ("controls digits smallest loss_minus_largest", "smallest largest"),
        ("controls digits smallest best_validation_loss", "smallest"),
        ("results digits mat train_and_probe_seconds_ratio_to_vanilla", "mat vanilla"),
    ],
)
def test_a_number_is_its_mean_and_stands_on_the_runs_it_compares(kept, words, methods):
    (found,) = traced(kept, *words.split())
    assert found.agrees is True
    assert found.mean_agrees is True
    assert found.read == number.FOLDERS
    assert {run.method for run in found.runs} == set(methods.split())
    assert sorted(found.by_seed) == [0, 1]


def test_probabilities_are_no_mean_of_seeds_and_those_over_tasks_name_all_tasks(kept):
    (alone,) = traced(kept, "rivals", "digits", "misa", "better_equal_compute")
    assert (alone.agrees, alone.mean, dict(alone.by_seed)) == (True, None, {})
    assert {run.method for run in alone.runs} == {"misa", "vanilla"}
    (every,) = traced(kept, "rivals", "over tasks", "misa", "better_equal_compute")
    assert every.agrees is True
    assert {run.task for run in every.runs} == {"digits", "hmm"}
    assert len(every.runs) == 2 * 2 * 2


def edit(root, name, **where):
    """Move one number of a table by a percent."""
    path = root / TABLES / f"{name}.csv"
    column = where.pop("column")
    frame = pd.read_csv(path)
    rows = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    frame.loc[rows, column] *= 1.01
    frame.to_csv(path, index=False)
    pooled.seal(path.parent)


def test_a_number_that_is_not_its_mean_differs_in_both_ways(repository):
    column = "saving_at_convergence_percent_mean"
    edit(repository, "rivals", task="digits", method="misa", column=column)
    found = traced(repository, "rivals", "digits", "misa", column)
    assert (found[0].agrees, found[0].mean_agrees) == (False, False)
    assert page.text(found).count("DIFFERS") == 2


def test_tables_edited_in_agreement_with_each_other_differ_from_the_run_folders(repository):
    for name, column in (("runs", "test_log_perplexity"), ("scores", "mean")):
        where = {"metric": "log_perplexity"} if name == "scores" else {}
        edit(repository, name, task="hmm", method="mat", column=column, **where)
    words = "scores", "hmm", "mat", "log_perplexity"
    (found,) = traced(repository, *words)
    assert (found.read, found.agrees) == (number.FOLDERS, False)
    for folder in (repository / "results/demo/runs").iterdir():
        shutil.rmtree(folder)
    alone = traced(repository, *words)
    assert (alone[0].read, alone[0].agrees) == (number.POOLED, True)
    assert "run folders are not all here" in page.text(alone)


def change_final(folder):
    path = folder / "final.json"
    final = json.loads(path.read_text())
    path.write_text(json.dumps(final | {"test_loss": final["test_loss"] / 2}))


def changed_curve(folder, change):
    write_record(change(read_whole(folder / CURVE)), folder / CURVE)


def change_curve(folder):
    changed_curve(folder, lambda frame: frame.assign(macs_executed=frame["macs_executed"] * 1.1))


def change_seconds(folder):
    changed_curve(folder, lambda frame: frame.assign(seconds_train=frame["seconds_train"] * 1.1))


def lose_rows(folder):
    changed_curve(folder, lambda frame: frame.drop(index=3))


def change_specification(folder):
    path = folder / "run.json"
    path.write_text(path.read_text().replace("sum_of_logits", "projected"))


CHANGES = {
    "digits-mat-0": (change_final, "final.json is not the file that was recorded", "has the test_loss"),
    "digits-mat-1": (change_curve, "curve.csv is not the file", "runs/{run} has: macs_executed"),
    "hmm-mat-0": (
        change_seconds, "curve.csv is not the file", "has: in seconds alone, all other numbers are the same"
    ),
    "hmm-mat-1": (lose_rows, "curve.csv is not the file", "runs/{run} has: 31 rows beside 30"),
    "digits-vanilla-0": (change_specification, "has the spec_hash", "has the estimator projected"),
}  # fmt: skip


def test_run_folders_that_say_something_else_are_found_at_once(repository):
    for run, (change, *_) in CHANGES.items():
        change(repository / "results/demo/runs" / run)
        seal(repository / "results/demo/runs" / run)
    found = [*provenance.check(load(repository / TABLES), repository / TABLES, repository)]
    for run, (_, *messages) in CHANGES.items():
        said = [line for line in found if run in line]
        for message in messages:
            assert any(message.format(run=run) in line for line in said), (run, message, said)


def test_a_check_says_what_it_did_not_compute_again(kept):
    said = files.check(kept / TABLES, CLAIMS, kept)
    assert "32 run folders are here and say what the pooled tables say" in said
    assert said.endswith("compared by hash alone: ambiguities.csv")


def test_a_record_has_the_hashes_of_the_runs_files_and_of_what_jobs_measured(repository):
    record = provenance.load(repository / TABLES)
    run = next(run for run in record["runs"] if run["run"] == "digits-mat-0")
    assert set(run["files"]) == set(WRITTEN)
    assert run["tested"]["test_accuracy"] > 0
    measured = repository / "results/demo/branches"
    measured.mkdir()
    for name, code in (("vgg-s0-1", "c0de"), ("vgg-s0-0", "older")):
        frame = pd.DataFrame({"family": ["vgg"], "code_hash": [code]})
        write_record(frame, measured / f"{name}{ENDING}")
    pd.DataFrame({"family": ["vgg"], "code_hash": ["c0de"], "n": [3]}).to_csv(
        repository / TABLES / "trainability.csv", index=False
    )
    files.provenance(repository / TABLES, repository / "paper_figures", repository)
    made = provenance.load(repository / TABLES)["files"][f"{TABLES}/trainability.csv"]
    assert list(made["from"]) == ["results/demo/branches/vgg-s0-1.csv.gz"]
    shutil.rmtree(measured)  # a clone does not have them
    assert [*provenance.check(load(repository / TABLES), repository / TABLES, repository)] == []
