"""``mat list``: the plug-ins there are, with their settings; ``mat check-plugin``: whether a file is one."""

from __future__ import annotations

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
    from mat.experiments.config.plugins import find, known, record_of
    from mat.experiments.config.settings import descriptions

    yield f"{kind}s"
    for name in known(kind):
        module = find(kind, name)
        settings = record_of(kind, module, kind)
        yield f"  {name:<10} {(module.__doc__ or '').strip().splitlines()[0]}"
        for field in fields(settings):
            line = f"    {kind}.{field.name} = {_default(field)}"
            about = descriptions(settings).get(field.name)
            yield f"{line:<42}  {about}" if about else line


def _default(field: Field) -> str:
    if field.default_factory is not MISSING:
        return repr(field.default_factory())
    return "(required)" if field.default is MISSING else repr(field.default)


@click.command("check-plugin", short_help="Say whether a file is a task, model or method that runs can use.")
@click.argument("file", type=options.PATH)
def check_plugin(file: Path) -> None:
    """Run the contract suite on FILE, a task, model or method of your own, and say what is missing."""
    from mat.experiments.contract.check import check_file

    wrong = check_file(file)
    if wrong:
        raise InputError(
            "\n".join([f"{file}: {len(wrong)} of the contract not kept:", *(f"  {line}" for line in wrong)])
        )
    print(f"{file}: passes")
