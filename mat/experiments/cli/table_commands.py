"""The commands that read run directories and tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from mat.evidence.catalogue.tables import rule_files, tables, write
from mat.experiments.cli.report_commands import add as add_report_commands


def add(commands: argparse._SubParsersAction) -> None:
    """Add them to the command line's ``commands``."""
    add_report_commands(commands)
    show = commands.add_parser("show", help="show one run: what it was, how it went, what was active")
    show.add_argument("dir", type=Path, metavar="DIR", help="a run directory")
    show.set_defaults(run=_show)

    collect = commands.add_parser("collect", help="pool run directories into tables")
    collect.add_argument("runs", type=Path, nargs="+", metavar="DIR", help="run directories")
    collect.add_argument(
        "--selection",
        default="",
        metavar="TEXT",
        help="what was selected of the scale, for the tables to say",
    )
    collect.set_defaults(run=_collect)

    table = commands.add_parser("table", help="write a table and its pages")
    table.add_argument("name", choices=tables(), metavar="NAME", help=f"one of {', '.join(tables())}")
    table.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="what the jobs of the table's study wrote"
    )
    for file in rule_files().values():
        table.add_argument(
            f"--{file.name}", type=Path, default=Path(file.path), metavar="YAML", help=f"default {file.path}"
        )
    table.set_defaults(run=_table)

    summary = commands.add_parser("summary", help="print results and verdicts as text")
    summary.set_defaults(run=_summary)
    summary.add_argument("--claims", type=Path, required=True, metavar="YAML", help="the decision rules")
    for command in (collect, table, summary):
        command.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder of tables")


def _show(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    print(cli.show(args.dir))


def _collect(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.collect(args.runs, args.tables, args.selection)


def _table(args: argparse.Namespace) -> None:
    files = {name: getattr(args, name) for name in rule_files()}
    write(args.name, args.tables, args.files, **files)


def _summary(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    print(cli.summary(args.tables, args.claims))
