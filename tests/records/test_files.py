"""Files of records: there as a whole or not at all, and read strictly."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.errors import InputError
from mat.records.files import (
    missing,
    read_json,
    read_record,
    read_whole,
    replacing,
    write_json,
    write_record,
    write_text,
)


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
    table = pd.DataFrame({"step": [0, 1], "val_loss": [0.5, 0.25], "val_accuracy": [0.1, 0.2], "more": [1, 2]})
    write_record(table, tmp_path / "a.csv")
    found = read_record(tmp_path / "a.csv", ("step", "val_loss"), prefix="val_")
    pd.testing.assert_frame_equal(found, table[["step", "val_loss", "val_accuracy"]])
    older = read_record(tmp_path / "a.csv", ("step", "reached_share"))
    assert older["step"].tolist() == [0, 1] and older["reached_share"].isna().all(), "written before there was any"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(
    ["NA", "nan", "", "1", "1.0", "True", "-inf", "None", '"', "a,b", "\r\n", " ", "#", "é"]
)
KINDS = {
    "step": (st.integers(-(2**63), 2**63 - 1), "int64"),
    "val_loss": (st.floats(width=64), "float64"),
    "active": (st.booleans(), "bool"),
    "module": (texts, "str"),
    "version_torch": (texts, "str"),
}


@settings(max_examples=60)
@given(data=st.data(), rows=st.integers(0, 6), names=st.permutations(list(KINDS)), ending=st.sampled_from(["", ".gz"]))
def test_a_table_comes_back_bit_for_bit_from_the_same_bytes(data, rows, names, ending, tmp_path_factory):
    table = pd.DataFrame(
        {
            name: pd.Series(data.draw(st.lists(KINDS[name][0], min_size=rows, max_size=rows)), dtype=KINDS[name][1])
            for name in names[: data.draw(st.integers(1, len(names)))]
        }
    )
    folder = tmp_path_factory.mktemp("tables")
    one, other = (folder / f"{name}.csv{ending}" for name in "ab")
    write_record(table, one)
    found = read_whole(one)
    write_record(found, other)
    assert one.read_bytes() == other.read_bytes()
    assert list(found) == list(table) and len(found) == rows
    for name, column in table.items():
        if rows:
            assert found[name].dtype == column.dtype
        if name == "val_loss":
            same = found[name].to_numpy(float).view("int64") == column.to_numpy().view("int64")
            assert (same | (column.isna() & found[name].isna())).all()
        else:
            assert found[name].tolist() == column.tolist()


@pytest.mark.parametrize(
    ("column", "values"),
    [("module", [1]), ("module", ["a", None]), ("surprise", ["a"]), ("val_loss", pd.Series([1.0], dtype="float32"))],
)
def test_a_column_that_would_not_come_back_as_it_is_is_not_written(tmp_path, column, values):
    with pytest.raises(TypeError, match=f"column '{column}' of a.csv"):
        write_record(pd.DataFrame({column: values}), tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


def test_records_need_no_parquet(tmp_path):
    code = f"""
import sys
sys.modules["pyarrow"] = sys.modules["fastparquet"] = None
import subprocess
import sys
from pathlib import Path

import pandas as pd
from pathlib import Path
from mat.records.files import read_whole, write_record
table = pd.DataFrame({{"module": ["NA", "b"], "step": [1, 2], "tau": [0.1, None]}})
write_record(table, Path({str(tmp_path)!r}, "a.csv.gz"))
assert read_whole(Path({str(tmp_path)!r}, "a.csv.gz")).astype(object).equals(table.astype(object))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"no\n\xff", b"a\n1,2\n3,4,5,6\n"])
def test_what_cannot_be_read_is_named_with_what_to_do(tmp_path, name, content):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json is not JSON .* measure it again"):
        read_json(tmp_path / "a.json", "measure it again")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv(\.gz)? is not a readable table .* repeat the run"):
        read_record(tmp_path / name, ())


def test_a_packed_table_that_was_cut_off_is_named(tmp_path):
    write_record(pd.DataFrame({"step": range(1000)}), tmp_path / "a.csv.gz")
    whole = (tmp_path / "a.csv.gz").read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.csv.gz").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.csv\.gz is not a readable table"):
            read_whole(tmp_path / "a.csv.gz")
