"""Seals: any flipped bit, any cut, any file from elsewhere is found, and what can be read is as it was written."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mat.errors import InputError
from mat.records.run import FILES, kept, read_run
from mat.records.seal import SEAL, beside, check_seal, write_seal
from tests.evidence.synthetic import edit, write_runs

often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one method."""
    return write_runs(tmp_path_factory.mktemp("runs"), tasks=["digits"], seeds=[0, 1], methods=None)[:2]


@often
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_run_is_found(runs, name, place, bit):
    path = runs[0] / name
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        with pytest.raises(InputError, match="move the folder away and train the run again"):
            read_run(runs[0])
    finally:
        path.write_bytes(whole)


@often
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True))
def test_any_cut_of_a_run_is_found(runs, name, place):
    path = runs[0] / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(place * len(whole))])
    try:
        with pytest.raises(InputError, match="move the folder away and train the run again"):
            read_run(runs[0])
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_run_is_found(runs, name, tmp_path):
    copy = shutil.copytree(runs[0], tmp_path / runs[0].name)
    assert read_run(copy, copy.name).run["name"] == copy.name
    shutil.copy(runs[1] / name, copy / name)
    with pytest.raises(InputError, match="move the folder away"):
        read_run(copy)


def test_a_folder_of_another_run_is_found_where_one_is_asked_for(runs, tmp_path):
    copy = shutil.copytree(runs[1], tmp_path / runs[0].name)
    with pytest.raises(InputError, match=f"is of the run '{runs[1].name}', expected '{runs[0].name}'"):
        read_run(copy, copy.name)


def test_a_record_that_contradicts_itself_is_refused_though_it_is_sealed(runs, tmp_path):
    copy = shutil.copytree(runs[0], tmp_path / "run")
    edit(copy, seed=1)
    path = copy / "run.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2', 1))
    write_seal(copy / SEAL, kept(copy))
    with pytest.raises(InputError, match=r"run\.json has seed 2, its specification 1"):
        read_run(copy)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "begins with ''"),
        ("# sealed, version 2\n", "of another version"),
        ("# sealed, version 1\n" + "0" * 64 + "  ../a\n", "does not list a"),
        ("# sealed, version 1\n" + "0" * 64 + "  a\n" + "0" * 64 + "  ../b\n", "not what|which is not there"),
    ],
)
def test_a_seal_that_is_none_is_named(tmp_path, said, message):
    (tmp_path / "a").write_text("a")
    beside(tmp_path / "a").write_text(said)
    with pytest.raises(InputError, match=f"{message}.*write it again"):
        check_seal(beside(tmp_path / "a"), ["a"], "write it again")
