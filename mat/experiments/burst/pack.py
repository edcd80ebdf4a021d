"""A burst in one zip file: the code and its tests, prepared data, and packages that the machine may not have.

Pure packages are taken from this environment; compiled ones from wheels for the other machine, which
``pip download --only-binary=:all: --platform … --python-version …`` gets. They lie in ``carried`` and come after
everything that the machine has itself.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from mat.errors import InputError
from mat.experiments.config.runs import Run
from mat.experiments.training.machine import Machine
from mat.records.files import replacing

MIRROR, CARRIED = "mirror", "carried"
PACKAGES = ("fvcore", "pydantic", "click", "filelock")  # and what they need
CODE = ("mat", "tests", "workflows/config", "pyproject.toml", "LICENSE")
LARGEST = 20 * 10**6  # bytes


def pack(runs: Iterable[Run], machine: Machine, root: Path, out: Path, wheels: Path | None = None) -> int:
    """Write ``out`` with the code at ``root`` and the data of the ``runs``; its bytes.

    Raises InputError where ``root`` is no checkout, for wheels that are none, and where it gets too large.
    """
    lacking = [name for name in CODE if not (root / name).exists()]
    if lacking:
        raise InputError(f"{root} lacks {', '.join(lacking)}: pack from a checkout of the repository")
    with TemporaryDirectory() as place:
        mirror = Path(place)
        for settings, module in {run.spec.task.settings: run.spec.task.module for run in runs}.items():
            if module.sources(settings):
                if not hasattr(module, "prepare"):
                    raise InputError(f"{module.__name__} cannot prepare its data to travel; choose another task")
                module.prepare(settings, machine.data, machine.cache, mirror)
        with replacing(out) as half, zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED) as archive:
            for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
                _copy(wheel, archive)
            theirs = set(archive.namelist())
            ours = {**dict(_code(root)), **dict(_data(mirror)), **dict(_packages())}
            for name, path in sorted(ours.items()):
                if name not in theirs:
                    archive.write(path, name)
    size = out.stat().st_size
    if size > LARGEST:
        raise InputError(f"{out} has {size / 1e6:.1f} MB, expected {LARGEST / 1e6:.0f} at most; carry fewer wheels")
    return size


def _code(root: Path) -> Iterator[tuple[str, Path]]:
    for name in CODE:
        place = root / name
        for path in [place] if place.is_file() else place.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix(), path


def _data(mirror: Path) -> Iterator[tuple[str, Path]]:
    for path in mirror.rglob("*"):
        if path.is_file():
            yield f"{MIRROR}/{path.relative_to(mirror).as_posix()}", path


def _packages() -> Iterator[tuple[str, Path]]:
    """Files of the pure ones among ``PACKAGES`` and what they need."""
    waiting, seen = list(PACKAGES), set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # needed elsewhere
            continue
        if not _is_pure(found):
            continue
        waiting += [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in found.requires or () if "extra ==" not in one]
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                yield f"{CARRIED}/{file.as_posix()}", Path(str(found.locate_file(file)))


def _is_pure(found: Distribution) -> bool:
    return "Root-Is-Purelib: true" in (found.read_text("WHEEL") or "")


def _copy(wheel: Path, archive: zipfile.ZipFile) -> None:
    """Put what a wheel holds among what is carried."""
    try:
        with zipfile.ZipFile(wheel) as content:
            for name in content.namelist():
                if not name.endswith("/"):
                    archive.writestr(f"{CARRIED}/{name}", content.read(name))
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} is no wheel ({error}); download it again") from None
