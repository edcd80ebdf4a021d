"""The three things one does with reference results: check them, refresh them, make them of one's own results."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mat.errors import InputError
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.reference.build import Steps, build
from mat.evidence.reference.content import same
from mat.evidence.reference.places import REFERENCE, Place, references
from mat.evidence.report import files
from mat.evidence.runs import pooled
from mat.evidence.runs.files import run_folder
from mat.evidence.trace import provenance
from mat.records import archive
from mat.records.files import read_record
from mat.records.seal import beside
from mat.records.studies import JOB


class Agreement(NamedTuple):
    """Files made again beside those that are kept: how many are the same, and which are not, or are on one side
    alone. ``runs``: how many records they were made from; 0 where none were kept."""

    place: Place
    same: int
    apart: list[str]
    runs: int


def check(root: Path, scratch: Path, steps: Steps) -> list[Agreement]:
    """Make all reference results of ``root`` again in ``scratch``, and compare. Raises InputError where there are
    none, and for records that cannot be used."""
    return [_agreement(place, made) for place, made in _again(root, scratch, steps)]


def refresh(root: Path, scratch: Path, steps: Steps) -> list[str]:
    """Put what ``check`` makes in the place of what is kept; the names of the files that changed."""
    changed = []
    for place, made in _again(root, scratch, steps):
        changed += _agreement(place, made).apart
        _replace(place, made)
    return changed


def make(own: Place, scratch: Path, steps: Steps) -> tuple[Place, int]:
    """Make the reference of the results ``own``: their runs' records packed, and everything made from the pack. The
    reference, and how many runs it has.

    Raises InputError for results that are not as they were recorded, or not what their records give.
    """
    _empty(scratch)
    files.check(own.tables, own.root / catalogue.rule_files()["claims"].path, own.root)
    target = Place(own.root, f"{REFERENCE}/{own.name}")
    made = Place(scratch.resolve(), target.name)
    pack = scratch / archive.NAME
    items = _items(own)
    archive.write(items, pack)
    build(own, made, pack, steps)
    found = _agreement(own, made)
    pages = {"provenance.json", "provenance.md", *(path.name for path in own.results.glob("*.*"))}  # they name places
    apart = [name for name in found.apart if Path(name).name not in pages]
    if apart:
        raise InputError(f"{', '.join(apart)}: not what the records of the runs give; run the pipeline again")
    _replace(target, made)
    shutil.copy(pack, target.records)
    return target, sum(item.kind == archive.RUNS for item in items)


def _again(root: Path, scratch: Path, steps: Steps) -> list[tuple[Place, Place]]:
    """Every reference, and what is made in ``scratch`` like it; each in a process of its own."""
    kept = list(references(root))
    if not kept:
        raise InputError("there are no reference results here (results/reference/<scale>/tables); be in the repository")
    _empty(scratch)
    made = [Place((scratch / place.name.replace("/", "-")).resolve(), place.name) for place in kept]
    with ProcessPoolExecutor(min(len(kept), os.cpu_count() or 1)) as processes:
        builds = [processes.submit(build, *pair, pair[0].records, steps) for pair in zip(kept, made, strict=True)]
        for one in builds:
            one.result()
    return list(zip(kept, made, strict=True))


def _agreement(kept: Place, made: Place) -> Agreement:
    pairs = {path: kept.other(path, made) for path in kept.files()}
    apart = [path for path, other in pairs.items() if not same(path, other)]
    more = [made.other(path, kept) for path in made.files()]
    apart += [path for path in more if path not in pairs]
    runs = len(list((pooled.home(made.tables) / archive.RUNS).glob("*")))
    return Agreement(kept, len(pairs) - sum(path in pairs for path in apart), sorted(_names(kept, apart)), runs)


def _names(place: Place, paths: Iterable[Path]) -> list[str]:
    return [path.relative_to(place.root).as_posix() for path in paths]


def _items(own: Place) -> list[archive.Item]:
    """The records that the tables stand on: runs, what studies measured, what was prepared for the tasks."""
    tables = catalogue.load(own.tables)
    home, scale = tables.home, tables.scale
    runs = [archive.run_of(run_folder(home, name)) for name in tables.runs["run"]]
    sources = {name for file in provenance.load(own.tables)["files"].values() for name in file["from"]}
    paths = [own.root / name for name in sorted(sources)] + sorted((home / archive.DATA).glob("*.json"))
    sealed = [path for path in paths if beside(path).is_file()]
    _check_recipes(own, [path for path in sealed if path.parent.name != archive.DATA])
    return [*runs, *(archive.Item(f"{scale}/{path.parent.name}/{path.name}", path) for path in sealed)]


def _check_recipes(own: Place, measured: list[Path]) -> None:
    """Raise InputError, with the command that mends it, where a family was measured by an earlier recipe, too: its
    tables are of one, and both would be taken for what they were made from."""
    by_family: dict[tuple[str, str], dict[tuple[str, str], list[Path]]] = {}
    for path in measured:
        family, setup, data = read_record(path, JOB).loc[0, ["family", "setup", "data_hash"]]
        by_family.setdefault((path.parent.name, family), {}).setdefault((setup, data), []).append(path)
    earlier = [
        path
        for recipes in by_family.values()
        for paths in sorted(recipes.values(), key=lambda paths: max(path.stat().st_mtime for path in paths))[:-1]
        for path in paths
    ]
    if earlier:
        names = [path.relative_to(own.root).as_posix() for one in earlier for path in (one, beside(one))]
        places = [path.relative_to(own.root).as_posix() for path in (own.tables, own.figures)]
        raise InputError(
            f"{len(earlier)} files are of an earlier recipe of a family that was measured again since; remove them: "
            f"rm {shlex.join(names)} && mat step provenance --tables {places[0]} --figures {places[1]}"
        )


def _replace(target: Place, made: Place) -> None:
    """What is made takes the place of what is kept: its tables, figures, pages and erratum; parts stay."""
    for path in {*target.files(), *target.results.glob("*.md")}:
        path.unlink()
    for path in {*made.files(), *made.results.glob("*.md")}:
        place = made.other(path, target)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def _empty(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
