"""Reference results: made from the runs' records alone, made again to the byte, and whatever differs is named."""

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from mat.errors import InputError
from mat.evidence.reference import keep
from mat.evidence.reference.build import Steps
from mat.evidence.reference.content import same
from mat.evidence.reference.places import Place, reference_of
from mat.evidence.report import files
from mat.records.files import ENDING, write_record
from mat.records.seal import beside, write_seal
from tests.evidence.synthetic import METHODS, write_runs
from tests.evidence.synthetic_branches import branches
from tests.evidence.written import CLAIMS, REGISTER, ROOT, collect_into, write

TABLES = ("scores", "wall_clock")


def drawn(script: Path, tables: Path, out: Path) -> None:
    """A picture of the pooled runs, in place of the script's."""
    out.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256((tables / "runs.csv").read_bytes()).digest()
    Image.frombytes("L", (8, 4), digest).save(out / f"{script.stem}.png")
    (out / f"{script.stem}.pdf").write_bytes(b"stream\n" + zlib.compress(digest) + b"\nendstream\n")


def none(home: Path, tables: Path, labels: list[str]) -> bool:
    return False


STEPS = Steps(drawn, none)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A repository with a scale's results as the pipeline leaves them, a run of former times among them."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "workflows", root / "workflows")
    (root / "mat").mkdir()
    (root / "mat/methods").symlink_to(ROOT / "mat/methods")
    place = Place(root, "demo")
    for path in (ROOT / "paper_figures").glob("*.*"):
        place.figures.parent.mkdir(exist_ok=True)
        shutil.copy(path, place.figures.parent)
    methods = {name: METHODS[name] for name in ("vanilla", "mat")}
    runs = write_runs(place.results / "runs", ["digits"], methods, [0, 1], steps=60)
    write_runs(place.results / "runs", ["digits"], {"random": METHODS["random"]}, [0], steps=60)
    collect_into(runs, place.tables)
    (job,) = branches(families=["vgg"], seeds=[0])
    path = place.results / f"branches/{job['job'].iloc[0]}{ENDING}"
    write_record(job, path)
    write_seal(beside(path), [path.name])
    write(place.tables, "trainability_modules", measured=[path])
    write(place.tables, *TABLES)
    drawn(root / "paper_figures/dynamics.py", place.tables, place.figures)
    record(place)
    return place


def record(place: Place) -> None:
    files.provenance(place.tables, place.figures, place.root)
    page, methods = place.root / "workflows/report", place.root / "mat/methods"
    files.report(place.tables, place.figures, CLAIMS, methods, page, place.results, place.root)
    files.reproducibility(place.tables, CLAIMS, REGISTER, place.results)


@pytest.fixture(scope="module")
def kept(own):
    """Its reference."""
    before = {path: path.read_bytes() for path in own.files()}
    made, runs = keep.make(own, own.root / "build/reference", STEPS)
    assert runs == 4
    assert {path: path.read_bytes() for path in own.files()} == before
    return made


@pytest.fixture
def repository(kept, tmp_path):
    shutil.copytree(kept.root, tmp_path / "copy", symlinks=True)
    return Place(tmp_path / "copy", kept.name)


def checked(place: Place) -> keep.Agreement:
    (found,) = keep.check(place.root, place.root / "build/reference", STEPS)
    return found


def test_measurements_of_an_earlier_recipe_are_named_with_the_command_that_removes_them(repository):
    own = Place(repository.root, "demo")
    (now,) = (own.results / "branches").glob(f"*{ENDING}")
    (job,) = branches(families=["vgg"], seeds=[0])
    before = now.with_name(f"vgg-s0-before{ENDING}")
    write_record(job.assign(setup="before", job="vgg-s0-before"), before)
    write_seal(beside(before), [before.name])
    os.utime(before, (0, 0))
    record(own)
    with pytest.raises(InputError, match="1 files are of an earlier recipe") as caught:
        keep.make(own, own.root / "build/reference", STEPS)
    removes, _, records = str(caught.value).partition(": rm ")[2].partition(" && ")
    assert records == "mat step provenance --tables results/demo/tables --figures paper_figures/demo"
    assert removes.split() == [path.relative_to(own.root).as_posix() for path in (before, beside(before))]
    for name in removes.split():
        (own.root / name).unlink()
    record(own)
    keep.make(own, own.root / "build/reference", STEPS)


def test_a_reference_has_the_records_its_tables_stand_on_and_one_s_own_tables_to_the_byte(own, kept):
    with zipfile.ZipFile(kept.records) as pack:
        names = pack.namelist()
    runs = {name.split("/")[2] for name in names if "/runs/" in name}
    assert runs == {f"digits-{method}-{seed}" for method in ("vanilla", "mat") for seed in (0, 1)}
    assert [name for name in names if name.endswith(ENDING) and "/branches/" in name] != []
    for path in own.files():
        if path.suffix in (".csv", ".parquet", ".tex", ".png", ".pdf"):
            assert path.read_bytes() == own.other(path, kept).read_bytes(), path
    assert len(kept.files()) == len(own.files())
    said = (kept.results / "REPRODUCIBILITY.md").read_text()
    assert "The records of all 4 runs are kept" in said
    assert "paper_figures/reference/demo/dynamics.png" in (kept.results / "REPORT.md").read_text()
    assert reference_of(own.tables, own.root) == kept.tables


def test_all_of_it_comes_out_of_the_records_again(repository):
    found = checked(repository)
    assert (found.apart, found.runs) == ([], 4)
    assert found.same == len(repository.files())
    assert "5 run" not in files.check(repository.tables, CLAIMS, repository.root)


def test_what_does_not_come_out_again_is_named_and_a_refresh_mends_it(repository):
    table, picture = repository.tables / "scores.csv", repository.figures / "dynamics.png"
    before = table.read_bytes()
    table.write_bytes(before.replace(b"digits", b"digest"))
    Image.new("L", (8, 4)).save(picture)
    (repository.tables / "wall_clock.md").unlink()
    (repository.tables / "more.csv").write_text("a\n1\n")
    apart = checked(repository).apart
    names = {Path(name).name for name in apart}
    assert {"scores.csv", "dynamics.png", "wall_clock.md", "more.csv"} <= names
    assert not {"wall_clock.csv", "runs.csv", "curves.parquet", "dynamics.pdf"} & names
    changed = keep.refresh(repository.root, repository.root / "build/reference", STEPS)
    assert set(changed) == set(apart)
    assert table.read_bytes() == before
    assert not (repository.tables / "more.csv").exists()


def test_pooled_tables_stand_for_records_that_were_not_kept_and_pages_say_so(repository):
    recorded = json.loads((repository.tables / "provenance.json").read_text())
    repository.records.unlink()
    found = checked(repository)
    assert found.runs == 0
    assert {Path(name).name for name in found.apart} == {
        *("provenance.json", "provenance.md", "REPRODUCIBILITY.md", "REPORT.md", "report.html")
    }
    keep.refresh(repository.root, repository.root / "build/reference", STEPS)
    assert "Of the 4 runs the records of none were kept" in (repository.results / "REPRODUCIBILITY.md").read_text()
    again = json.loads((repository.tables / "provenance.json").read_text())
    assert (recorded.pop("kept"), again.pop("kept")) == (4, 0)
    assert again["runs"] == recorded["runs"]  # the hashes of what the runs wrote stay
    sources = [
        record["files"]["results/reference/demo/tables/trainability_modules.csv"]["from"]
        for record in (again, recorded)
    ]
    assert sources[0] == sources[1]
    assert any(name.endswith(ENDING) for name in sources[0])


def test_results_that_their_runs_do_not_give_make_no_reference_and_an_erratum_goes(kept, repository):
    own = Place(repository.root, "demo")
    (repository.results / "ERRATUM.md").write_text("# Erratum\n\nIt was wrong.\n")
    table = own.tables / "scores.md"
    before = table.read_text()
    table.write_text(before.replace("accuracy", "acuracy"))
    with pytest.raises(InputError, match=r"scores\.md was"):
        keep.make(own, own.root / "build/reference", STEPS)
    record(own)
    with pytest.raises(InputError, match=r"scores\.md.*not what the records of the runs give"):
        keep.make(own, own.root / "build/reference", STEPS)
    table.write_text(before)
    record(own)
    keep.make(own, own.root / "build/reference", STEPS)
    assert not (repository.results / "ERRATUM.md").exists()
    assert repository.records.read_bytes() == kept.records.read_bytes()


def test_a_folder_without_a_reference_says_which_there_are(kept):
    with pytest.raises(InputError, match=r"references: .*results/reference/demo/tables"):
        reference_of(kept.root / "results/other/tables", kept.root)
    with pytest.raises(InputError, match="no reference results here"):
        keep.check(kept.root / "workflows", kept.root / "build/none", STEPS)


def test_files_packed_otherwise_are_the_same_and_other_content_is_not(tmp_path):
    for name, level in (("a.png", 0), ("b.png", 9)):
        Image.new("L", (40, 40), 7).save(tmp_path / name, compress_level=level)
    Image.new("L", (40, 40), 12).save(tmp_path / "c.png")
    for name, level, text in (("a.pdf", 0, b"line" * 20), ("b.pdf", 9, b"line" * 20), ("c.pdf", 9, b"lime" * 20)):
        (tmp_path / name).write_bytes(b"stream\n" + zlib.compress(text, level) + b"\nendstream")
    for kind in ("png", "pdf"):
        a, b, c = (tmp_path / f"{name}.{kind}" for name in "abc")
        assert a.read_bytes() != b.read_bytes()
        assert same(a, b)
        assert not same(b, c)
    assert not same(tmp_path / "a.png", tmp_path / "absent.png")


def test_strokes_apart_by_a_rounding_are_the_same_and_shifted_ones_are_not(tmp_path):
    for name, text in (
        ("a", b"1.25 -3.5 m"),
        ("b", b"1.2500000001 -3.5 m"),
        ("c", b"1.26 -3.5 m"),
        ("d", b"1.25 -3.5 l"),
    ):
        (tmp_path / f"{name}.pdf").write_bytes(b"stream\n" + zlib.compress(text) + b"\nendstream")
    assert [same(tmp_path / "a.pdf", tmp_path / f"{name}.pdf") for name in "bcd"] == [True, False, False]
