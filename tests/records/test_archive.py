"""Records that travel: the same records are the same bytes, all comes back, and nothing else is let in."""

import gzip
import json
import os
import shutil
import stat
import warnings
import zipfile
from pathlib import Path

import pytest

from mat.errors import InputError
from mat.records import archive
from mat.records.files import ENDING, write_json, write_record
from mat.records.run import WRITTEN, kept
from mat.records.seal import SEAL, beside, text, write_seal
from tests.evidence.synthetic import METHODS, write_runs
from tests.evidence.synthetic_branches import branches


def seal(path: Path) -> None:
    write_seal(beside(path), [path.name])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A scale's results: two runs, one of which kept its weights, what a job of a study measured, prepared data."""
    home = tmp_path_factory.mktemp("here") / "results/demo"
    methods = {"vanilla": METHODS["vanilla"]}
    first, _ = write_runs(home / "runs", tasks=["digits"], methods=methods, seeds=[0, 1], steps=60)
    (first / "checkpoint").mkdir()
    (first / "checkpoint/model.safetensors").write_bytes(b"weights")
    write_seal(first / SEAL, [*kept(first), "checkpoint/model.safetensors"])
    (home / "runs/.state").mkdir()
    job = branches(families=["vgg"], seeds=[0])[0]
    path = home / f"branches/{job['job'].iloc[0]}{ENDING}"
    write_record(job, path)
    seal(path)
    write_json(dict.fromkeys(archive.PREPARED, "x"), home / "data/digits.json")
    seal(home / "data/digits.json")
    return home


@pytest.fixture
def pack(home, tmp_path):
    archive.export([home], tmp_path / "runs.zip")
    return tmp_path / "runs.zip"


def taken_in(pack: Path, results: Path) -> dict[str, str]:
    """The state of each record before it is placed."""
    with archive.unpacked(pack, results) as items:
        states = {item.place: archive.state_of(item, results) for item in items}
        for item in items:
            if states[item.place] == archive.NEW:
                archive.place(item, results)
    return states


def test_all_records_come_back_as_they_were_and_weights_and_states_stay(home, pack, tmp_path):
    states = taken_in(pack, tmp_path / "there")
    assert set(states.values()) == {archive.NEW}
    assert {place.split("/")[1] for place in states} == {"runs", "branches", "data"}
    there = tmp_path / "there/demo"
    found = {path.relative_to(there) for path in there.rglob("*") if path.is_file()}
    for path in found:
        if path.name != SEAL:  # that of a run with weights was of them, too
            assert (there / path).read_bytes() == (home / path).read_bytes(), path
    left = {path.relative_to(home) for path in home.rglob("*") if path.is_file()} - found
    assert {path.name for path in left} == {"model.safetensors"}
    assert len(list((tmp_path / "there").iterdir())) == 1  # what was unpacked is gone


def test_equal_records_are_equal_bytes_whenever_they_were_written(home, pack, tmp_path):
    shutil.copytree(home, tmp_path / "demo")
    for path in (tmp_path / "demo").rglob("*"):
        os.utime(path, (1, 1))
    archive.export(reversed([*(tmp_path / "demo/runs").glob("[!.]*")]), tmp_path / "runs-alone.zip")
    archive.export([tmp_path / "demo"], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == pack.read_bytes()
    assert (tmp_path / "runs-alone.zip").stat().st_size < pack.stat().st_size


def test_runs_alone_take_what_was_prepared_for_them_along_once_and_the_unfinished_of_a_scale_stay(home, tmp_path):
    home = shutil.copytree(home, tmp_path / "demo")
    runs = sorted((home / "runs").glob("[!.]*"))
    (home / "runs/training").mkdir()
    assert archive.unfinished(home) == [home / "runs/training"]
    for folders in (runs, [home]):
        archive.export(folders, tmp_path / "runs.zip")
        states = taken_in(tmp_path / "runs.zip", tmp_path / f"there-{len(folders)}")
        assert [place for place in states if "/data/" in place] == ["demo/data/digits.json"]
        assert {place.split("/")[2] for place in states if "/runs/" in place} == {path.name for path in runs}


def test_what_is_taken_in_twice_is_compared_and_stays(pack, tmp_path):
    results = tmp_path / "there"
    taken_in(pack, results)
    runs = sorted((results / "demo/runs").iterdir())
    (runs[0] / "final.json").unlink()
    curve = (runs[1] / "run.json").read_text()
    (runs[1] / "run.json").write_text(curve + " ")
    states = taken_in(pack, results)
    assert states[f"demo/runs/{runs[0].name}"] == archive.UNFINISHED
    assert states[f"demo/runs/{runs[1].name}"] == archive.OTHER
    assert sorted(states.values()).count(archive.SAME) == len(states) - 2
    assert (runs[1] / "run.json").read_text() == curve + " "
    assert not (runs[0] / "final.json").exists()


def rewritten(pack: Path, change, seal_it: bool = True) -> None:
    """The archive with its files as ``change`` leaves them, and sums that fit."""
    with zipfile.ZipFile(pack) as read:
        files = {info.filename: read.read(info) for info in read.infolist() if info.filename != SEAL}
    change(files)
    if seal_it:
        files[SEAL] = (text({name: archive._digest(files[name]) for name in sorted(files)}) + "\n").encode()
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED) as write:
        for name, content in files.items():
            write.writestr(name, content)


def run_of(files: dict) -> str:
    return sorted(name for name in files if "/runs/" in name)[0].rpartition("/")[0]


def added(name: str):
    return lambda files: files.update({name: b"x"})


def dropped(files: dict) -> None:
    del files[f"{run_of(files)}/final.json"]


def renamed(files: dict) -> None:
    run = run_of(files)
    for name in WRITTEN:
        files[f"demo/runs/another/{name}"] = files.pop(f"{run}/{name}")


def altered(files: dict) -> None:
    files[f"{run_of(files)}/curve.csv"] += b"1"


def of_another_scale(files: dict) -> None:
    for name in [name for name in files if "/runs/" in name]:
        files[f"other/{name.partition('/')[2]}"] = files.pop(name)


def of_another_job(files: dict) -> None:
    name = next(name for name in files if name.endswith(ENDING) and "/branches/" in name)
    path = Path(f"demo/branches/x{ENDING}")
    files[path.as_posix()] = content = files.pop(name)
    del files[f"{name}.sha256"]
    files[beside(path).as_posix()] = (text({path.name: archive._digest(content)}) + "\n").encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (added("../outside"), "no file of a record"),
        (added("/etc/outside"), "no file of a record"),
        (added("demo/runs/../../outside"), "no file of a record"),
        (added("demo\\runs"), "no file of a record"),
        (added("demo/runs/x/model.pkl"), "no file of a record"),
        (added("demo/runs/x/checkpoint/model.safetensors"), "no file of a record"),
        (added("demo/branches/alone.csv"), "has no seal beside it"),
        (added("demo/data/alone.json"), "has no seal beside it"),
        (dropped, "incomplete"),
        (renamed, "expected 'another'"),
        (altered, "cut off, altered or taken from elsewhere"),
        (of_another_scale, "of the scale 'demo', expected 'other'"),
        (of_another_job, "expected of x"),
    ],
)
def test_what_is_no_whole_record_is_refused_in_one_line_and_nothing_is_kept(pack, tmp_path, change, said):
    rewritten(pack, change)
    with pytest.raises(InputError) as error:
        taken_in(pack, tmp_path / "there")
    assert said in str(error.value)
    assert str(error.value).startswith(f"{pack}: ")
    assert "\n" not in str(error.value)
    assert ".unpacked" not in str(error.value)
    assert list((tmp_path / "there").iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_a_file_that_the_sums_do_not_list_or_that_they_say_otherwise_is_refused(pack, tmp_path):
    with zipfile.ZipFile(pack, "a") as write:
        write.writestr("demo/data/more.json", "{}")
        write.writestr("demo/data/more.json.sha256", "{}")
    with pytest.raises(InputError, match="more"):
        taken_in(pack, tmp_path / "there")


def test_links_doubles_and_archives_without_sums_are_refused(home, tmp_path):
    link = zipfile.ZipInfo("demo/data/digits.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name, entries, said in (
        ("link", [(link, "/etc/passwd"), (SEAL, "")], "no file of a record"),
        ("twice", [("demo/data/a.json", "{}"), ("demo/data/a.json", "{}"), (SEAL, "")], "a name twice"),
        ("bare", [("demo/data/a.json", "{}")], f"no {SEAL}"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as write, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for entry in entries:
                write.writestr(*entry)
        with pytest.raises(InputError, match=said):
            taken_in(tmp_path / name, tmp_path / "there")


def test_bombs_are_refused_before_they_are_unpacked(pack, tmp_path, monkeypatch):
    with zipfile.ZipFile(pack) as read:
        size = sum(info.file_size for info in read.infolist())
    monkeypatch.setattr(archive, "LARGEST", size - 1)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(InputError, match=f"of {size} bytes, expected"):
        taken_in(pack, tmp_path / "there")


def test_a_packed_record_inside_may_be_no_bomb_either(pack, tmp_path, monkeypatch):
    def blown_up(files):
        files["demo/branches/a.csv.gz"] = gzip.compress(bytes(10**6 + 1))

    rewritten(pack, blown_up)
    monkeypatch.setattr(archive, "LARGEST", 10**6)
    with pytest.raises(InputError, match=r"holds more than 1000000 bytes"):
        taken_in(pack, tmp_path / "there")


@pytest.mark.parametrize("cut", [0, 1, 100, -30, -1])
def test_a_damaged_archive_is_refused(pack, tmp_path, cut):
    pack.write_bytes(pack.read_bytes()[:cut])
    with pytest.raises(InputError, match="cannot be read as a zip file"):
        taken_in(pack, tmp_path / "there")


def test_what_is_no_record_is_not_packed(home, tmp_path):
    run = next((home / "runs").glob("[!.]*"))
    shutil.copytree(run, tmp_path / "cut")
    (tmp_path / "cut/final.json").unlink()
    shutil.copytree(tmp_path / "cut", tmp_path / "runs-cut/runs/cut")
    for folders, said in (
        ([tmp_path / "cut"], "incomplete"),
        ([tmp_path], "holds no run"),
        ([tmp_path / "runs-cut"], "incomplete"),
        ([run, run], "given twice"),
    ):
        with pytest.raises(InputError, match=said):
            archive.export(folders, tmp_path / "out.zip")
    shutil.copytree(run, tmp_path / "odd")
    said = json.loads((run / "run.json").read_text())
    (tmp_path / "odd/run.json").write_text(json.dumps(said | {"name": "../up"}))
    write_seal(tmp_path / "odd" / SEAL, kept(tmp_path / "odd"))
    with pytest.raises(InputError, match="no name that an archive can hold"):
        archive.export([tmp_path / "odd"], tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
