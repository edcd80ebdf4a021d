"""Files of records: there as a whole or not at all, and read strictly."""

import pandas as pd
import pytest

from mat.errors import InputError
from mat.records.files import missing, read_json, read_parquet, replacing, write_json, write_parquet, write_text


def test_what_is_not_finished_leaves_the_one_before(tmp_path):
    path = tmp_path / "new" / "page.md"
    write_text("before", path)
    with pytest.raises(KeyboardInterrupt), replacing(path) as half:
        half.write_text("half of")
        raise KeyboardInterrupt
    assert path.read_text() == "before\n"
    assert list(path.parent.iterdir()) == [path], "no half of a file is left"


def test_a_folder_takes_the_place_of_the_one_before(tmp_path):
    for name in ("old", "new"):
        with replacing(tmp_path / "checkpoint") as half:
            half.mkdir()
            (half / name).touch()
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["new"]
    assert missing(tmp_path, ["checkpoint/new", "checkpoint/old"]) == ["checkpoint/old"]


def test_a_file_takes_the_place_of_no_folder(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_text("a")
    with pytest.raises(IsADirectoryError):
        write_text("new", tmp_path / "kept")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "a"]


def test_what_is_written_is_read_again(tmp_path):
    write_json({"b": 1, "a": [None, "é"]}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"a": [None, "é"], "b": 1}
    table = pd.DataFrame({"step": [0, 1], "val_loss": [0.5, 0.25], "val_accuracy": [0.1, 0.2]})
    write_parquet(table, tmp_path / "a.parquet")
    found = read_parquet(tmp_path / "a.parquet", ("step", "val_loss"), prefix="val_")
    pd.testing.assert_frame_equal(found, table[["step", "val_loss", "val_accuracy"]])


def test_what_cannot_be_read_is_named_with_what_to_do(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json is not JSON .* measure it again"):
        read_json(tmp_path / "a.json", "measure it again")
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(InputError, match=r"a\.parquet is not a readable Parquet file .* repeat the run"):
        read_parquet(tmp_path / "a.parquet", ())
