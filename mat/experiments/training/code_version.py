"""What identifies the code that something was made by: the modules that can change its numbers, each by what it does.

These are the modules that its entry imports, over any number of steps; they are read, not imported. What a registry
lists changes nothing of a run: its own task, model and method are followed instead. A module counts by its syntax tree
without docstrings: comments and formatting are in no tree.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import mat
from mat.experiments.config.plugins import file_of
from mat.experiments.config.spec import Spec
from mat.records.code import Modules

LIBRARY = Path(__file__).parents[2]
# what something is done by, beside a run's own task, model and method
TRAINING, PREPARING = "mat.experiments.training.run", "mat.experiments.training.prepare"
CEILING = "mat.experiments.studies.ceiling"
REGISTRIES = ("mat", "mat.methods", "mat.experiments.tasks", "mat.experiments.models")
_NO_MEANING = ("ctx", "kind", "type_comment", "type_ignores")  # fields of a tree that others decide, or none
DIGITS = 16  # of a module's hash


class _Source(NamedTuple):
    """A file's hash, "" where nothing but docstrings is in it, and the names that it imports."""

    digest: str
    imports: tuple[str, ...]


def run_modules(spec: Spec, entry: str = TRAINING) -> dict[str, str]:
    """Hash by module of what a run stands on: ``entry``, and the run's own task, model and method."""
    return modules(entry, *spec.modules())


def modules(*origins: str | Path) -> dict[str, str]:
    """Hash by module of what modules, or files of someone's own, stand on: themselves and what they import of the
    library. A file goes by its name, wherever it lies."""
    found = _closure(origins)
    return {name: found[name].digest for name in sorted(found) if found[name].digest}


def imports(*origins: str | Path) -> list[str]:
    """What modules import anywhere in their code, over any number of steps: modules, and names that stand in modules;
    those of the library first."""
    found = _closure(origins)
    named = dict.fromkeys(name for source in found.values() for name in source.imports)
    return [*found, *(name for name in named if name.partition(".")[0] != "mat")]


def code_hash(found: Modules) -> str:
    """SHA-256 over modules."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _closure(origins: tuple[str | Path, ...]) -> dict[str, _Source]:
    """The sources of modules and files, and of what they import of the library."""
    names = [one for one in origins if isinstance(one, str) and one.partition(".")[0] == "mat"]
    files = dict.fromkeys(file_of(one) for one in origins if one not in names)
    found = {path.name: _source(path.read_bytes()) for path in files}
    waiting = [*names, *(name for source in found.values() for name in source.imports)]
    seen = set(REGISTRIES)
    while waiting:
        name = _home(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        source = _module(name)
        if source is not None:
            found[name] = source
            waiting += [*source.imports, name.rpartition(".")[0]]
    return found


@cache
def _module(name: str) -> _Source | None:
    """The source of a module of the library; None where no module has that name."""
    path = _path(name)
    return None if path is None else _source(path.read_bytes())


def _home(name: str) -> str:
    """The module that a public name of the library comes from; any other name as it is."""
    package, _, rest = name.partition(".")
    return getattr(mat, rest).__module__ if package == "mat" and rest in mat.__all__ else name


def _path(name: str) -> Path | None:
    """The file of a module of the library; None where there is none: a name may be of something in a module."""
    package, _, rest = name.partition(".")
    place = LIBRARY.joinpath(*rest.split(".")) if rest else LIBRARY
    tried = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in tried if package == "mat" and path.is_file()), None)


@cache
def _source(content: bytes) -> _Source:
    words: list[str] = []
    imports: dict[str, None] = {}
    _read(ast.parse(content).body, words, imports)
    return _Source(hashlib.sha256("\n".join(words).encode()).hexdigest()[:DIGITS] if words else "", tuple(imports))


def _read(node: Any, words: list[str], imports: dict[str, None]) -> None:
    """A syntax tree as words, the same in every version of Python that knows its syntax, and what is imported anywhere
    in it but for type checking alone."""
    if isinstance(node, list):
        told = [one for one in node if not _is_text(one)]
        for one in told:
            _read(one, words, imports)
        if told:
            words.append("]")
        return
    if not isinstance(node, ast.AST):
        words.append(repr(node))
        return
    words.append(type(node).__name__)
    if isinstance(node, ast.Import):
        imports.update((alias.name, None) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        imports[node.module] = None
        imports.update((f"{node.module}.{alias.name}", None) for alias in node.names)
    unread = {} if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) else imports
    for name in node._fields:
        value = getattr(node, name, None)
        if name not in _NO_MEANING and value is not None and value != []:
            words.append(name)
            _read(value, words, imports if name == "orelse" else unread)


def _is_text(node: Any) -> bool:
    """Whether a statement is a text by itself: a docstring, of an attribute too."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
