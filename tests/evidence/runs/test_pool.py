from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mat.errors import InputError
from mat.evidence.measures import over_seeds
from mat.evidence.runs import pooled as pooled
from mat.evidence.runs.pool import collect, find, specification_hash
from mat.records.files import CURVE, read_whole
from mat.records.run import FILES
from tests.evidence.synthetic import METHODS, TASKS, collected, edit, write_runs

OTHER = {"task": {"name": "digits"}}


@pytest.fixture
def runs(tmp_path):
    """Two methods on one task with two seeds."""
    methods = {name: METHODS[name] for name in ("vanilla", "mat")}
    return write_runs(tmp_path / "runs", tasks=["digits"], methods=methods, seeds=[0, 1])


def test_all_runs_are_pooled_with_their_labels(runs):
    found = collect(runs)
    assert list(found.runs["method"]) == ["mat", "mat", "vanilla", "vanilla"]
    assert {"scale", "task", "method", "seed", "run"} <= set(found.curves.columns) & set(found.probes.columns)
    assert len(found.curves) == sum(len(read_whole(run / CURVE)) for run in runs)
    assert set(found.runs["estimator"]) == {"sum_of_logits"}
    assert found.runs["version_torch"].eq("2.11.0").all()


def test_runs_that_are_made_without_files_are_those_that_are_written(tmp_path):
    shapes = {"digits": replace(TASKS["digits"], more=("f1",)), "hmm": TASKS["hmm"]}
    which = {"methods": {name: METHODS[name] for name in ("vanilla", "random")}, "seeds": [0], "shapes": shapes}
    which["diverged"] = [("hmm", "random", 0)]
    written, made = collect(write_runs(tmp_path, **which)), collected(**which)
    for table in ("runs", "curves", "probes", "spectra"):
        pd.testing.assert_frame_equal(getattr(made, table), getattr(written, table), check_exact=True)


def test_every_metric_of_every_task_has_a_column(tmp_path):
    shapes = {"digits": replace(TASKS["digits"], more=("top5_accuracy",)), "hmm": TASKS["hmm"]}
    methods = {"vanilla": METHODS["vanilla"]}
    diverged = [("digits", "vanilla", 1)]
    paths = write_runs(tmp_path, methods=methods, seeds=[0, 1], shapes=shapes, diverged=diverged)
    found = [collect(order) for order in (paths, paths[::-1])]
    runs = found[0].runs.set_index(["task", "seed"])
    assert runs.loc[("digits", 0), "test_top5_accuracy"] == runs.loc[("digits", 0), "test_metric"]
    assert np.isnan(runs.loc[("digits", 1), "test_accuracy"])
    assert np.isnan(runs.loc[("hmm", 0), "test_accuracy"])
    assert runs.loc[("hmm", 0), "test_log_perplexity"] == runs.loc[("hmm", 0), "test_metric"]
    assert found[0].metrics("digits") == {"accuracy": True, "top5_accuracy": True}
    assert found[0].metrics("hmm") == {"log_perplexity": False}
    assert found[0].loss_unit("hmm") == "nats"
    for tables in (found[0].runs, found[0].curves):
        assert "seconds_data" in tables
    for name in ("runs", "curves"):  # columns too are in one order
        pd.testing.assert_frame_equal(*(getattr(tables, name) for tables in found))
    assert {"val_accuracy", "val_top5_accuracy", "val_log_perplexity"} <= set(found[0].curves.columns)


def test_one_task_has_one_set_of_metrics_and_one_unit(runs):
    edit(runs[0], loss_unit="squared points")
    with pytest.raises(InputError, match="different loss_unit"):
        collect(runs)
    edit(runs[0], loss_unit="nats", metrics=[{"name": "f1", "higher_is_better": True}])
    with pytest.raises(InputError, match=r"different metrics.*f1:higher"):
        collect(runs)


def test_what_was_selected_is_written_down(runs, tmp_path):
    pooled.save(collect(runs, "only=digits seeds=[0,1]"), tmp_path)
    found = pooled.load(tmp_path)
    assert found.scope == "demo (only=digits seeds=[0,1])"
    assert found.command == "snakemake --cores all --config scale=demo only=digits seeds=[0,1]"
    assert collect(runs).command == "snakemake --cores all --config scale=demo"


def test_the_order_of_directories_does_not_matter(runs, tmp_path):
    for name, order in (("a", runs), ("b", runs[::-1])):
        pooled.save(collect(order), tmp_path / name)
    for file in ("runs.csv", "curves.parquet", "probes.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_saved_tables_read_back_the_same(runs, tmp_path):
    before = collect(runs)
    pooled.save(before, tmp_path / "tables")
    after = pooled.load(tmp_path / "tables")
    pd.testing.assert_frame_equal(before.curves, after.curves)
    pd.testing.assert_frame_equal(before.runs, after.runs, check_dtype=False)
    older = replace(
        before,
        runs=before.runs.drop(columns="objective"),
        curves=before.curves.drop(columns="reached_share"),
        probes=before.probes.drop(columns="reached"),
    )
    pooled.save(older, tmp_path / "tables")
    unknown = pooled.load(tmp_path / "tables")
    assert unknown.probes["reached"].isna().all() and set(unknown.runs["objective"]) == {""}
    task, method = unknown.runs[["task", "method"]].iloc[0]
    assert over_seeds.reached_share_percent(unknown, task, method).isna().all()
    assert over_seeds.reached_share_percent(after, task, method).notna().all()


def test_hashes_that_look_like_numbers_stay_texts(runs, tmp_path):
    for run in runs:
        edit(run, code_hash="12e4", data_hash="007")
    pooled.save(collect(runs), tmp_path / "tables")
    first = pooled.load(tmp_path / "tables").runs.iloc[0]
    assert (first["code_hash"], first["data_hash"]) == ("12e4", "007")


@pytest.mark.parametrize("file", FILES)
def test_an_incomplete_directory_is_refused_by_the_missing_file(runs, file):
    (runs[1] / file).unlink()
    with pytest.raises(InputError, match=rf"{runs[1].name} is incomplete.*missing {file}"):
        collect(runs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_hash": "another"}, "different data_hash.*another"),
        (
            {"code": {"mat.controller": "another"}},
            r"different code: mat\.controller is another in .* leave out or repeat",
        ),
    ],
)
def test_mixed_versions_are_refused(runs, change, message):
    edit(runs[0], **change)
    with pytest.raises(InputError, match=message):
        collect(runs)


def test_runs_of_a_seed_that_start_from_different_weights_are_not_pooled(runs):
    for run in runs:
        edit(run, start_hash="5ea1")
    assert len(collect(runs).runs) == len(runs)
    edit(runs[0], start_hash="0ther")
    with pytest.raises(InputError, match=r"different start_hash: expected one in task digits, seed 0"):
        collect(runs)


def test_runs_pool_when_every_module_that_two_of_them_stand_on_is_the_same(runs):
    repeated = [run for run in runs if "-mat-" in run.name]  # an edited method, all of whose runs were made again
    for run in repeated:
        edit(run, code={"mat.controller": "c0de", "mat.methods.mat": "another"}, code_hash="0ther")
    assert set(collect(runs).runs["code_hash"]) == {"c0de" * 10, "0ther"}
    edit(repeated[0], code={"mat.controller": "c0de", "mat.methods.mat": "c0de"})
    with pytest.raises(InputError, match=rf"mat\.methods\.mat is .*{repeated[0].name}"):
        collect(runs)


def test_tasks_may_have_different_data(tmp_path):
    found = collect(write_runs(tmp_path, methods={"vanilla": METHODS["vanilla"]}, seeds=[0]))
    assert found.runs["data_hash"].nunique() == 2


def test_mixed_specifications_under_one_label_are_refused(runs):
    edit(runs[0], spec={"task": {"name": "digits"}, "method": {"name": "vanilla", "lr": 0.5}})
    with pytest.raises(InputError, match="different spec_hash"):
        collect(runs)


def test_mixed_scales_are_refused(runs):
    edit(runs[0], labels={"scale": "subset", "task": "digits", "method": "vanilla"})
    with pytest.raises(InputError, match="different scale"):
        collect(runs)


def test_a_seed_given_twice_is_refused(runs):
    edit(runs[0], seed=1)
    with pytest.raises(InputError, match=r"each seed once.*method vanilla"):
        collect(runs)


def test_no_directories_is_an_error():
    with pytest.raises(InputError, match="at least one run directory"):
        collect([])


def test_diverged_runs_are_kept_but_not_measured(tmp_path):
    found = collect(write_runs(tmp_path, tasks=["hmm"], diverged=[("hmm", "mat", 1)]))
    assert len(found.of("hmm", "mat")) == 3
    assert list(found.finished("hmm", "mat")["seed"]) == [0, 2]
    assert np.isnan(found.of("hmm", "mat").set_index("seed").loc[1, "test_loss"])
    assert list(found.by_seed("hmm", "mat", lambda run, curve: len(curve)).index) == [0, 2]


def test_methods_come_in_their_fixed_order_then_by_name(tables):
    assert tables.methods("hmm") == ["vanilla", "mat", "mat_exact", "random", "multirate"]
    extra = pd.concat([tables.runs, tables.runs.head(1).assign(method="aaa")])
    assert pooled.Tables(extra, tables.curves, tables.probes).methods("digits")[-1] == "aaa"


def test_load_names_the_missing_table(tmp_path):
    with pytest.raises(InputError, match=r"runs\.csv"):
        pooled.load(tmp_path)


def test_the_seed_is_no_part_of_the_specification_hash():
    assert specification_hash({"seed": 1, "lr": 2}, {}) == specification_hash({"lr": 2, "seed": 3}, {})
    assert specification_hash({"seed": 1, "lr": 2}, {}) != specification_hash({"seed": 1, "lr": 3}, {})


def test_runs_that_follow_the_paired_run_of_one_label_may_be_pooled(runs):
    followers = [run for run in runs if run.name.startswith("digits-vanilla")]
    for run in followers:
        edit(run, spec={**OTHER, "method": {"name": "random", "match": run.name.replace("vanilla", "mat")}})
    assert collect(runs).runs["spec_hash"].nunique() == 2
    edit(followers[0], spec={**OTHER, "method": {"name": "random", "match": "a run that is not there"}})
    with pytest.raises(InputError, match="different spec_hash"):
        collect(runs)


def test_find_looks_into_nested_settings():
    assert find({"a": {"b": {"key": 3}}, "c": 1}, "key") == 3
    assert find({"a": {"b": 2}}, "key") is None


def test_no_scan_of_all_probes_is_made_for_a_run(tables, monkeypatch):
    """Rows compared with a run's name, over all runs: none, so that the work grows with the rows and not with runs ×
    rows."""
    scanned = []
    equals = pd.Series.__eq__
    monkeypatch.setattr(pd.Series, "__eq__", lambda self, other: scanned.append(len(self)) or equals(self, other))
    found = {run: tables.probes_of(run) for run in tables.runs["run"]}
    assert not scanned
    monkeypatch.undo()
    for run, probes in found.items():
        own = tables.probes[tables.probes["run"] == run].sort_values(["interval", "module"], ignore_index=True)
        pd.testing.assert_frame_equal(probes, own)
    assert tables.probes_of("no such run").empty
