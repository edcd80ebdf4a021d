"""Plug-ins: tasks, models and methods. Ours by name, others' by an entry point or by a file of their own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mat import regular
from mat.errors import InputError
from mat.experiments.models import MODELS
from mat.experiments.tasks import TASKS
from mat.methods import METHODS
from mat.settings.label import RULE, is_label
from mat.settings.strict import read

OURS = {"task": TASKS, "model": MODELS, "method": METHODS}
RECORD = {"task": "Settings", "model": "Settings", "method": "METHOD"}  # a plug-in's record of settings


@dataclass(frozen=True)
class Plugin:
    """A plug-in and its settings; of a method they are the ``mat.methods.base.Method`` itself.

    ``origin``: its dotted module, or its file; ``sha256``: of the file's content, None for the project's own.
    """

    kind: str
    name: str
    settings: Any
    origin: str | Path
    sha256: str | None = None

    @classmethod
    def of(cls, kind: str, given: Any, place: str, folder: Path = Path()) -> Plugin:
        """From ``{name: …}`` or ``{file: …}`` with settings; a file is looked for in ``folder``. Raises InputError."""
        if not isinstance(given, Mapping) or ("name" in given) == ("file" in given):
            raise InputError(
                f"{place} must be a mapping with a name, such as {{name: {min(OURS[kind])}}}, or the file of a "
                f"{kind} of your own, got {given!r}"
            )
        settings = {key: value for key, value in given.items() if key not in ("name", "file")}
        name, origin = _found(kind, given, place, folder)
        sha256 = None
        if name not in OURS[kind] or isinstance(origin, Path):
            file = file_of(origin)
            sha256 = _digest(file)
            if settings.pop("sha256", sha256) != sha256:
                raise InputError(f"{place}: {file} has changed since the specification was made; make that again")
        record = record_of(kind, _module(origin, sha256, place), place)
        return cls(kind, name, read(record, settings, place), origin, sha256)

    @property
    def module(self) -> ModuleType:
        return _module(self.origin, self.sha256, self.kind)

    @property
    def plain(self) -> dict[str, Any]:
        """What ``of`` takes, as JSON has it, with every setting; a file of one's own with the hash of its content."""
        named = {"file": str(self.origin)} if isinstance(self.origin, Path) else {"name": self.name}
        hashed = {} if self.sha256 is None else {"sha256": self.sha256}
        return {**named, **hashed, **json.loads(json.dumps(asdict(self.settings)))}

    @property
    def identity(self) -> dict[str, Any]:
        """The same, wherever the file lies."""
        return {**self.plain, **({"file": self.origin.name} if isinstance(self.origin, Path) else {})}


def known(kind: str) -> dict[str, str]:
    """The dotted modules of a ``kind``'s plug-ins by name: ours, then those of the entry points ``mat.<kind>s``."""
    others = {found.name: found.module for found in entry_points(group=f"mat.{kind}s")}
    return {**OURS[kind], **{name: module for name, module in others.items() if name not in OURS[kind]}}


def find(kind: str, name: Any) -> ModuleType:
    """The module of the plug-in ``name``; InputError listing the known names otherwise."""
    return _module(_found(kind, {"name": name}, kind, Path())[1], None, kind)


def load_file(path: Path, place: str) -> ModuleType:
    """The module that a Python file is. Raises InputError, in one line, where it cannot be imported."""
    _check_python(path, place)
    return _module(path, _digest(path), place)


def _check_python(path: Path, place: str) -> None:
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"{place}: expected a Python file, found none at {path}; name an existing one")


def record_of(kind: str, module: ModuleType, place: str) -> type:
    """The settings dataclass of a plug-in. Raises InputError for a module that has none."""
    record = vars(module).get(RECORD[kind])
    if not (isinstance(record, type) and is_dataclass(record)):
        raise InputError(
            f"{place}: {module.__file__} is no {kind}: expected {RECORD[kind]}, a frozen dataclass of its settings, "
            f"got {'none' if record is None else repr(record)}"
        )
    return record


def _found(kind: str, given: Mapping[str, Any], place: str, folder: Path) -> tuple[str, str | Path]:
    """Name and origin."""
    if "file" in given:
        if not isinstance(given["file"], str):
            raise InputError(f"{place}.file: expected the path of a Python file, got {given['file']!r}")
        path = folder / given["file"]
        _check_python(path, f"{place}.file")
        if not is_label(path.stem):
            raise InputError(f"{place}.file: its name becomes a label; {RULE}; got {path.stem!r}; rename it")
        return path.stem, path
    name = given["name"]
    origin = OURS[kind].get(name) if isinstance(name, str) else None
    if origin is None:
        all_known = known(kind)
        if not isinstance(name, str) or name not in all_known:
            raise InputError(
                f"{'' if place == kind else f'{place}: '}unknown {kind} {name!r}; known: {', '.join(sorted(all_known))}"
            )
        origin = all_known[name]
    return name, origin


def _module(origin: str | Path, sha256: str | None, place: str) -> ModuleType:
    if isinstance(origin, str) and origin.startswith("mat."):
        return importlib.import_module(origin)  # ours: no file of the user's is to blame
    with in_one_line(f"{place}: cannot import {origin}"):
        return importlib.import_module(origin) if isinstance(origin, str) else _loaded(origin, sha256)


@contextmanager
def in_one_line(said: str) -> Iterator[None]:
    """Whatever the user's own code raises, an end of the program included, as an InputError of one line that begins
    with ``said``; an InputError and an interrupt stay what they are."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise InputError(f"{said}: {' '.join(f'{type(error).__name__}: {error}'.split())}") from None


@cache
def _loaded(path: Path, sha256: str) -> ModuleType:
    """The module of a file with this content, once per process."""
    return run_file(path, f"mat_plugin_{path.stem}_{sha256[:12]}")  # by content, so that two of one name do not meet


def run_file(path: Path, name: str) -> ModuleType:
    """The module ``name`` of a Python file, run from its source: Python's cache of bytecode tells files apart by second
    and size alone."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        exec(spec.loader.source_to_code(regular.content(path), path), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def file_of(origin: str | Path) -> Path:
    """The file of a dotted module, or the file itself."""
    return origin if isinstance(origin, Path) else Path(importlib.util.find_spec(origin).origin)


def _digest(path: Path) -> str:
    return hashlib.sha256(regular.content(path)).hexdigest()
