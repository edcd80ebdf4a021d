"""What a record's JSON has to look like, whoever sealed it."""

import json
import shutil

import pytest

from mat.errors import InputError
from mat.evidence.runs import pool
from mat.records.files import FINAL, RUN
from mat.records.run import read_run
from mat.records.shape import MAPPING, NOTHING, NUMBER, TEXT, TRUTH, WHOLE, unlike
from tests.evidence.synthetic import edit, seal, write_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs"), tasks=["digits"], seeds=[0], methods=None)[0]


@pytest.mark.parametrize(
    ("value", "shape", "said"),
    [
        ("a", TEXT, None),
        (1, TEXT + NOTHING, "x: expected a text or nothing, got 1"),
        (None, TEXT + NOTHING, None),
        (True, WHOLE, "x: expected a whole number, got True"),
        (1, TRUTH, "x: expected true or false, got 1"),
        (1, NUMBER, None),
        ([], [TEXT], "x: expected a list that is not empty, got []"),
        (["a", 1], [TEXT], "x.1: expected a text, got 1"),
        ({"a": 1, "b": "c"}, {str: NUMBER}, "x.b: expected a whole number or a number, got 'c'"),
        ([], MAPPING, "x: expected a mapping, got []"),
        ({"a": {}, "more": 1}, {"a": {"b": TEXT}}, "x.a lacks the keys b"),
        ({"a": {"b": "c"}, "more": 1}, {"a": {"b": TEXT}}, None),
    ],
)
def test_what_is_of_another_shape_is_said_with_its_place(value, shape, said):
    assert unlike(value, shape, "x") == said


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (RUN, {"labels": {}}, r"run\.json\.labels lacks the keys scale, task, method"),
        (RUN, {"metrics": []}, r"run\.json\.metrics: expected a list that is not empty"),
        (RUN, {"bounds": {"floor_test": "x"}}, r"run\.json\.bounds\.floor_test: expected a whole number or a number"),
        (RUN, {"hardware": 3}, r"run\.json\.hardware: expected a mapping, got 3"),
        (FINAL, {"test_loss": "low"}, r"final\.json\.test_loss: expected .* or nothing, got 'low'"),
        (FINAL, {"steps": 30.0}, r"final\.json\.steps: expected a whole number, got 30\.0"),
    ],
)
def test_a_record_of_another_shape_is_one_line_though_it_is_sealed(run, tmp_path, name, changes, said):
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    seal(copy)
    with pytest.raises(InputError, match=f"{said}.*move the folder away"):
        read_run(copy)


def test_a_run_of_a_task_that_is_a_file_is_pooled_by_the_files_name(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    spec = read_run(copy).run["spec"]
    edit(copy, spec=spec | {"task": {"file": "own/my_task.py", "sha256": "0" * 64}})
    assert pool.collect([copy]).runs["task_name"].tolist() == ["my_task"]
