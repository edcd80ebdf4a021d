"""``mat list``: the plug-ins there are, with their settings; ``mat check-plugin``: whether a file is one."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path

import click

from mat.errors import InputError
from mat.experiments.cli import options

KINDS = ("tasks", "models", "methods")


@click.command("list", short_help="List tasks, models and methods with their settings.")
@click.argument("kind", type=click.Choice(KINDS), required=False)
def list_(kind: str | None) -> None:
    """List tasks, models and methods, or one KIND of them, with their settings and defaults."""
    for each in [kind] if kind else KINDS:
        print("\n".join(listed(each.removesuffix("s"))), end="\n\n")


def listed(kind: str) -> Iterator[str]:
    """The plug-ins of one kind: a line each, and one for every setting: default and meaning."""
    from mat.experiments.config.plugins import find
    from mat.experiments.models import MODELS
    from mat.experiments.tasks import TASKS
    from mat.methods import METHODS

    known, attribute = {
        "task": (TASKS, "Settings"),
        "model": (MODELS, "Settings"),
        "method": (METHODS, "METHOD"),
    }[kind]
    yield f"{kind}s"
    for name in known:
        module = find(kind, known, name)
        settings = getattr(module, attribute)
        about = meanings(settings)
        yield f"  {name:<10} {(module.__doc__ or '').strip().splitlines()[0]}"
        for field in fields(settings):
            line = f"    {kind}.{field.name} = {_default(field)}"
            yield f"{line:<42}  {about[field.name]}" if field.name in about else line


def _default(field: Field) -> str:
    if field.default_factory is not MISSING:
        return repr(field.default_factory())
    return "(required)" if field.default is MISSING else repr(field.default)


def meanings(settings: type) -> dict[str, str]:
    """What is written right below each field of a class, or of one that it inherits from, on one line."""
    found: dict[str, str] = {}
    for base in reversed(settings.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
        for field, below in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                found[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


@click.command("check-plugin", short_help="Say whether a file is a task, model or method that runs can use.")
@click.argument("file", type=options.PATH)
def check_plugin(file: Path) -> None:
    """Run the contract suite on FILE, a task, model or method of your own, and say what is missing."""
    from mat.experiments.contract import check_file

    wrong = check_file(file)
    if wrong:
        raise InputError(
            "\n".join([f"{file}: {len(wrong)} of the contract not kept:", *(f"  {line}" for line in wrong)])
        )
    print(f"{file}: passes")
