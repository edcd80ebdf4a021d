"""Records that travel: runs, what studies measured and what was prepared, in one zip file, without weights or states.

``<scale>/runs/<run>/`` holds a run's records and their seal, ``<scale>/<study>/`` and ``<scale>/data/`` single files
with the seal of each; ``SHA256SUMS`` is of all of it. Entries are sorted and undated, so that equal records give equal
bytes. What is read is text alone, checked before anything is kept: names, sizes, sums, and that each record is whole.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mat.errors import InputError
from mat.records.files import ENDING, RUN, missing, read_json, read_record, replacing
from mat.records.run import FILES, WRITTEN, kept, read_run
from mat.records.seal import SEAL, beside, check_seal, text
from mat.records.studies import JOB
from mat.regular import opened

NAME = "runs.zip"
RUNS, DATA = "runs", "data"
PREPARED = ("task", "data_hash", "objective", "shapes", "outputs")  # of what was prepared, what is read again
LARGEST, MOST = 2**30, 100_000  # bytes in all, unpacked; files
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"
_MEMBER = re.compile(rf"{_PART}/(?:{RUNS}/{_PART}/(?:{'|'.join(map(re.escape, WRITTEN))})|(?!{RUNS}/){_PART}/{_PART})")
_AGAIN = "have the archive made again"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say


class Item(NamedTuple):
    """One record: a run's folder, or a file that has a seal of its own. ``place``: where it belongs in results."""

    place: str
    path: Path

    @property
    def kind(self) -> str:
        """``runs``, ``data`` or a study."""
        return self.place.split("/")[1]

    @property
    def names(self) -> dict[str, Path]:
        """Its files by their place."""
        if self.kind == RUNS:
            return {f"{self.place}/{name}": self.path / name for name in (*kept(self.path), SEAL)}
        return {self.place: self.path, f"{beside(Path(self.place)).as_posix()}": beside(self.path)}


def run_of(folder: Path) -> Item:
    """The record of a run's folder. Raises InputError for one that is not whole."""
    run = read_run(folder).run
    return Item(f"{run['labels'].get('scale')}/{RUNS}/{run['name']}", folder)


def items_of(folder: Path) -> list[Item]:
    """The records of a run's folder with what was prepared for its task, or of the folder of a scale's results without
    the runs that are ``unfinished``. Raises InputError for any other folder, and for a run's that is not whole."""
    if (folder / RUN).is_file():
        item, task = run_of(folder), read_json(folder / RUN)["labels"].get("task")
        prepared = folder.absolute().parents[1] / DATA / f"{task}.json"
        place = f"{item.place.split('/')[0]}/{DATA}/{prepared.name}"
        return [item, *([Item(place, prepared)] if beside(prepared).is_file() else [])]
    left = unfinished(folder)
    runs = [run_of(path) for path in _visible(folder / RUNS) if path not in left]
    scales = sorted({item.place.split("/")[0] for item in runs})
    if len(scales) != 1:
        found = f"runs of {len(scales)} scales ({', '.join(scales)})" if scales else "no run"
        raise InputError(
            f"{folder} holds {found}; give folders of runs (with {RUN}), or a scale's results, such as results/demo"
        )
    sealed = [path for path in sorted(folder.glob("*/*")) if beside(path).is_file()]
    return [*runs, *(Item(f"{scales[0]}/{path.parent.name}/{path.name}", path) for path in sealed)]


def unfinished(folder: Path) -> list[Path]:
    """The runs in the folder of a scale's results of which nothing is written yet: they train, or were interrupted."""
    return [path for path in _visible(folder / RUNS) if not any((path / name).exists() for name in FILES)]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


def export(folders: Iterable[Path], out: Path) -> list[Item]:
    """Write the records in ``folders`` (``items_of``) to the zip file ``out``; what it holds. Raises InputError for a
    record that is not whole, or not as it was written."""
    items = [item for folder in folders for item in items_of(folder)]
    items = [
        *(item for item in items if item.kind == RUNS),
        *dict.fromkeys(item for item in items if item.kind != RUNS),
    ]
    write(items, out)
    return items


def write(items: Iterable[Item], out: Path) -> None:
    """Write these records to ``out``. Raises InputError as ``export`` does, and for two of one name."""
    files: dict[str, bytes] = {}
    for item in items:
        wrong = [name for name in item.names if not _MEMBER.fullmatch(name)]
        if wrong:
            raise InputError(
                f"{wrong[0]!r} is no name that an archive can hold: expected letters, digits and ._- alone"
            )
        check(item)
        content = {name: path.read_bytes() for name, path in item.names.items()}
        if item.kind == RUNS:  # its own seal may be of weights, too, which do not travel
            sums = {name: _digest(content[f"{item.place}/{name}"]) for name in sorted(kept(item.path))}
            content[f"{item.place}/{SEAL}"] = f"{text(sums)}\n".encode()
        twice = sorted(set(files) & set(content))
        if twice:
            raise InputError(f"{item.place} is given twice; give each record once")
        files |= content
    files[SEAL] = f"{text({name: _digest(files[name]) for name in sorted(files)})}\n".encode()
    with replacing(out) as half, zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, compresslevel=9)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check(item: Item) -> None:
    """Raise InputError unless a record is whole, as it was written, and of the place that it has."""
    scale, kind, name = item.place.split("/")
    if kind == RUNS:
        labels = read_run(item.path, name).run["labels"]
        if labels["scale"] != scale:
            raise InputError(f"{item.path} is of the scale {labels['scale']!r}, expected {scale!r}; {_AGAIN}")
        return
    check_seal(beside(item.path), [item.path.name], _AGAIN)
    if kind == DATA:
        lacking = [key for key in PREPARED if key not in read_json(item.path, _AGAIN)]
        if lacking:
            raise InputError(f"{item.path} lacks the keys {', '.join(lacking)}; {_AGAIN}")
        return
    frame = read_record(item.path, JOB, _AGAIN)
    said = {(scale, f"{job}{ENDING}") for scale, job in zip(frame["scale"], frame["job"], strict=True)}
    if said != {(scale, name)}:
        raise InputError(f"{item.path} is of {sorted(said)}, expected of {name} of the scale {scale} alone; {_AGAIN}")


@contextmanager
def unpacked(path: Path, within: Path) -> Iterator[list[Item]]:
    """The records of the archive ``path``, in a folder in ``within`` that is removed at the end; all of one time.

    Raises InputError, before a record is used, for anything that ``export`` does not write: other names, links, sizes
    above ``LARGEST``, content that is not what the sums say, records that are not whole.
    """
    within.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=within, prefix=".unpacked-") as place:
        folder = Path(place)
        try:
            _unpack(path, folder)
            check_seal(folder / SEAL, (), _AGAIN)
            items = _found(folder)
            for item in items:
                check(item)
        except InputError as error:
            raise InputError(f"{path}: {str(error).replace(f'{folder}/', '')}") from None
        yield items


def _unpack(path: Path, folder: Path) -> None:
    with opened(path) as content:
        try:
            with zipfile.ZipFile(content) as archive:
                entries = archive.infolist()
                _check_entries(entries)
                now = time.time()
                for entry in entries:
                    file = folder / entry.filename
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(archive.read(entry))
                    os.utime(file, (now, now))  # none is older than what it was made from
        except (InputError, PermissionError):
            raise
        except Exception as error:  # damaged archives fail in many ways
            why = " ".join(str(error).split())[:200]
            raise InputError(f"it cannot be read as a zip file ({type(error).__name__}: {why}); {_AGAIN}") from None
    _check_expanded(folder.rglob("*.gz"))


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    size = sum(entry.file_size for entry in entries)
    if len(entries) > MOST or size > LARGEST:
        raise InputError(
            f"it holds {len(entries)} files of {size} bytes, expected {MOST} of {LARGEST} at most; {_AGAIN}"
        )
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not (entry.filename == SEAL or _MEMBER.fullmatch(entry.filename)) or kind not in (0, stat.S_IFREG):
            raise InputError(f"it holds {entry.filename[:200]!r}, which is no file of a record; {_AGAIN}")
    if len(set(names)) < len(names) or SEAL not in names:
        raise InputError(f"it holds a name twice, or no {SEAL}; {_AGAIN}")


def _check_expanded(files: Iterable[Path]) -> None:
    """Raise InputError where compressed records are larger than ``LARGEST``, or none."""
    left = LARGEST
    for path in files:
        try:
            with gzip.open(path) as content:
                while block := content.read(min(2**20, left + 1)):
                    left -= len(block)
                    if left < 0:
                        raise InputError(f"{path} holds more than {LARGEST} bytes; {_AGAIN}")
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is damaged ({error}); {_AGAIN}") from None


def _found(folder: Path) -> list[Item]:
    """The records of an unpacked archive. Raises InputError for a file that is of none."""
    runs = [Item(path.relative_to(folder).as_posix(), path) for path in sorted(folder.glob(f"*/{RUNS}/*"))]
    files = [path for path in sorted(folder.glob("*/*/*")) if path.is_file()]
    alone = {path for path in files if beside(path) in files}
    items = [*runs, *(Item(path.relative_to(folder).as_posix(), path) for path in sorted(alone))]
    known = {path for item in items for path in item.names.values()} | {folder / SEAL}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in known:
            raise InputError(f"{path} has no seal beside it; {_AGAIN}")
    there = {path.relative_to(folder).as_posix() for path in known if path.is_file()} - {SEAL}
    if unlisted := sorted(there - _listed(folder / SEAL)):
        raise InputError(f"{SEAL} does not list {unlisted[0]}; {_AGAIN}")
    return items


def _listed(seal: Path) -> set[str]:
    return {line.partition("  ")[2] for line in seal.read_text(encoding="utf-8").splitlines()[1:]}


NEW, SAME, OTHER, UNFINISHED = "new", "the same", "different", "unfinished here"


def state_of(item: Item, results: Path) -> str:
    """What of a record is in ``results`` already: nothing (``NEW``), the same to the byte, a different one, or a run
    that is not finished."""
    there = results / item.place
    if not there.exists() or (there.is_dir() and not any(there.iterdir())):
        return NEW
    if item.kind == RUNS and missing(there, FILES):
        return UNFINISHED
    names = kept(item.path) if item.kind == RUNS else ("",)  # a seal there may be of weights, too
    same = item.kind != RUNS or names == kept(there)
    same = same and all((item.path / name).read_bytes() == (there / name).read_bytes() for name in names)
    return SAME if same else OTHER


def place(item: Item, results: Path) -> None:
    """Move a record that is ``NEW`` into ``results``."""
    there = results / item.place
    there.parent.mkdir(parents=True, exist_ok=True)
    if item.kind == RUNS:
        os.replace(item.path, there)
    else:
        os.replace(beside(item.path), beside(there))  # a file without its seal is made again, a seal alone is nothing
        os.replace(item.path, there)
