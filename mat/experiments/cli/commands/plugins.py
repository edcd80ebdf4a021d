"""``mat list``: the plug-ins there are, with their settings; ``mat check-plugin``: whether a file is one."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path

import click

from mat.errors import InputError
from mat.experiments.cli import options

KINDS, BLOCKS = ("tasks", "models", "methods"), ("recipe", "probe")
WIDTH, INDENT = 120, 40  # of lines, and of meanings in them


@click.command("list", short_help="List tasks, models and methods, recipe and probe, with their settings.")
@click.argument("kind", type=click.Choice([*KINDS, *BLOCKS]), required=False)
def list_(kind: str | None) -> None:
    """List tasks, models, methods, recipe and probe, or one KIND of them, with their settings and defaults."""
    for each in [kind] if kind else [*KINDS, *BLOCKS]:
        lines = block(each) if each in BLOCKS else listed(each.removesuffix("s"))
        print("\n".join(lines), end="\n\n")


def block(name: str) -> Iterator[str]:
    """The settings of a specification's ``recipe`` or ``probe``: a line each, default and meaning."""
    from mat.experiments.config.spec import Probe, Recipe

    record = {"recipe": Recipe, "probe": Probe}[name]
    yield f"{name}: {(record.__doc__ or '').strip()}"
    yield from _settings(name, record)


def listed(kind: str) -> Iterator[str]:
    """The plug-ins of one kind: a line each, and one for every setting: default and meaning. Settings that all of
    them have, most with the same line, come first, once."""
    from mat.experiments.config.plugins import find, known, record_of

    headings, settings = {}, {}
    for name in known(kind):
        try:
            module = find(kind, name)
            settings[name] = _settings(kind, record_of(kind, module, kind))
            headings[name] = (module.__doc__ or "").strip().splitlines()[0]
        except InputError as error:  # another package's: it must not hide the rest
            headings[name] = f"cannot be used: {error}"
    counts = Counter(line for own in settings.values() for line in own)
    named = [{_name(line) for line in own} for own in settings.values()]
    everywhere = [
        line for line, n in counts.items() if 2 * n > len(settings) and all(_name(line) in names for names in named)
    ]
    width = max(map(len, (*headings, "(every)")))
    yield f"{kind}s"
    if everywhere:
        yield f"  {'(every)':<{width}} Settings that every {kind} has; a line of its own goes before."
        yield from everywhere
    for name, heading in headings.items():
        yield f"  {name:<{width}} {heading}"
        yield from (line for line in settings.get(name, []) if line not in everywhere)


def _name(line: str) -> str:
    return line.partition(" = ")[0]


def _settings(kind: str, record: type) -> list[str]:
    """A line for every setting of a plug-in, or several where its meaning is long."""
    from mat.settings.strict import descriptions

    meanings = descriptions(record)
    return [
        _line(f"    {kind}.{field.name} = {_default(field)}", meanings.get(field.name, "")) for field in fields(record)
    ]


def _line(setting: str, meaning: str) -> str:
    """A setting and what it means, from the column of meanings on; below a setting that is too long for that."""
    margin = " " * (INDENT + 1)
    below = textwrap.wrap(meaning, WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False)
    if below and len(setting) <= INDENT:
        below[0] = setting.ljust(len(margin)) + below[0].lstrip()
        return "\n".join(below)
    return "\n".join([setting, *below])


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
