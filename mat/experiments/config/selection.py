"""A part of a scale: the runs that terms name, and those they need. Pure; where its tables go is said here too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mat.errors import InputError
from mat.experiments.config.runs import Run


def terms_of(given: Any) -> list[str]:
    """Terms as they are given: a list, or a text with commas; [] for None, "" and []. Raises InputError otherwise, also
    where none is in what was given: everything is not what was meant."""
    if given in (None, "", [], ()):
        return []
    parts = given if isinstance(given, list | tuple) else str(given).split(",")
    if not all(isinstance(part, str | int) for part in parts):
        raise InputError(
            f"only must name labels or tags of tasks or labels of methods, as in glue,vanilla; got {given!r}"
        )
    terms = list(dict.fromkeys(term for part in parts if (term := str(part).strip())))
    if not terms:
        raise InputError(f"only names nothing, got {given!r}; name labels or tags, as in glue,vanilla, or leave it out")
    return terms


def choose(runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """The runs that the terms name: those of any task and of any method named; all of them without terms.

    A term is a task's label or tag, or a method's label. Raises InputError for an unknown one, listing what there is,
    and when no run is left.
    """
    tasks = {run.task for run in runs}
    tags = {tag for run in runs for tag in run.tags}
    methods = {run.method for run in runs}
    unknown = [term for term in only if term not in tasks | tags | methods]
    if unknown:
        raise InputError(
            f"nothing is called {unknown[0]!r} at this scale; tasks: {_listed(tasks)}; tags: {_listed(tags)}; "
            f"methods: {_listed(methods)}"
        )
    of_tasks, of_methods = set(only) & (tasks | tags), set(only) & methods
    found = [
        run
        for run in runs
        if (not of_tasks or of_tasks & {run.task, *run.tags}) and (not of_methods or run.method in of_methods)
    ]
    if not found:
        raise InputError(f"no run is both of {_listed(of_tasks)} and by {_listed(of_methods)}; change the terms")
    return found


def select(runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """What the terms name (``choose``), and the runs they follow or start from, however far; in the runs' order."""
    by_name = {run.spec.name: run for run in runs}
    kept: set[str] = set()
    waiting = [run.spec.name for run in choose(runs, only)]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            needs = (by_name[name].follows, by_name[name].starts_from)
            waiting += [need for need in needs if need is not None]
    return [run for run in runs if run.spec.name in kept]


def text(only: Sequence[str], seeds: Sequence[int] | None) -> str:
    """The selection as the command line has it, the same for any order of terms; "" for the whole scale. ``seeds``:
    None when they are the config's."""
    parts = [f"only={','.join(sorted(only))}"] if only else []
    return " ".join(parts + ([f"seeds=[{','.join(map(str, seeds))}]"] if seeds is not None else []))


def folder(only: Sequence[str], seeds: Sequence[int] | None) -> str:
    """Where a selection's tables and figures go, below the scale's: one name for the same terms in any order; "" for
    the whole scale."""
    parts = sorted(only) + ([f"seeds-{'-'.join(map(str, seeds))}"] if seeds is not None else [])
    return f"only/{','.join(parts)}" if parts else ""


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
