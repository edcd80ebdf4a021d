"""The commands that read run directories and tables; what they do is in ``mat.experiments.cli.tables``, imported when needed."""

from __future__ import annotations

import argparse
from pathlib import Path

from mat.experiments.cli.report_commands import add as add_report_commands

COMPARISONS = {
    "controls": "selections of equal active share beside each other",
    "rivals": "every method at equal compute, at equal loss and at convergence",
    "learning_rate": "vanilla and MAT at other learning rates",
    "wall_clock": "savings in FLOP beside savings in seconds",
}


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

    results = commands.add_parser("results", help="write the results table from pooled tables")
    results.set_defaults(run=_results)
    scores = commands.add_parser("scores", help="write every metric of every task and method")
    scores.set_defaults(run=_scores)
    verdicts = commands.add_parser("verdicts", help="judge the claims by their rules")
    verdicts.set_defaults(run=_verdicts)

    compared = []
    for name, text in COMPARISONS.items():
        compared.append(commands.add_parser(name.replace("_", "-"), help=f"write {text}"))
        compared[-1].set_defaults(run=_comparison, table=name)
    sensitivity = commands.add_parser("sensitivity", help="write what the register's alternatives change")
    sensitivity.set_defaults(run=_sensitivity)

    sanity = commands.add_parser(
        "sanity", help="write what vanilla reached beside the level that it must reach"
    )
    sanity.add_argument(
        "--levels", type=Path, required=True, metavar="YAML", help="the levels by scale and task"
    )
    sanity.set_defaults(run=_sanity)

    compare = commands.add_parser(
        "agreement-table", help="compare the module rankings of measured estimators"
    )
    compare.add_argument("files", type=Path, nargs="+", metavar="FILE", help="tables written by `agreement`")
    compare.set_defaults(run=_agreement_table)

    branches = commands.add_parser(
        "branches-table", help="correlate what single modules and sets of them do with their λ_max"
    )
    branches.add_argument("files", type=Path, nargs="+", metavar="FILE", help="tables written by `branches`")
    branches.set_defaults(run=_branches_table)

    register = commands.add_parser("register", help="write the ambiguity register as a page")
    for command in (register, sensitivity):
        command.add_argument("--ambiguities", type=Path, required=True, metavar="YAML", help="the register")
    register.set_defaults(run=_register)

    summary = commands.add_parser("summary", help="print results and verdicts as text")
    summary.set_defaults(run=_summary)
    compared.append(sensitivity)
    own = (collect, results, scores, verdicts, sanity, compare, branches, register, summary)
    for command in (*own, *compared):
        command.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder of tables")
    for command in (results, verdicts, compare, summary, *compared):
        command.add_argument("--claims", type=Path, required=True, metavar="YAML", help="the decision rules")


def _show(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    print(cli.show(args.dir))


def _collect(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.collect(args.runs, args.tables, args.selection)


def _results(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.results(args.tables, args.claims)


def _scores(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.scores(args.tables)


def _verdicts(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.verdicts(args.tables, args.claims)


def _comparison(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    getattr(cli, args.table)(args.tables, args.claims)


def _sensitivity(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.sensitivity(args.tables, args.claims, args.ambiguities)


def _sanity(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.sanity(args.tables, args.levels)


def _agreement_table(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.agreement(args.files, args.tables, args.claims)


def _branches_table(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.branches(args.files, args.tables)


def _register(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    cli.ambiguities(args.ambiguities, args.tables)


def _summary(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables as cli

    print(cli.summary(args.tables, args.claims))
