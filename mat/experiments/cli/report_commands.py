"""The commands that a reader's pages are made by, and the one that leads from a number to its runs."""

from __future__ import annotations

import argparse
from pathlib import Path

ROOT, CLAIMS = Path("."), Path("workflows/claims.yaml")
EXAMPLES = """\
examples:
  python -m mat trace --tables results/demo/tables results digits mat saving_executed_percent
  python -m mat trace --tables results/demo/tables scores hmm mat log_perplexity
  python -m mat trace --tables results/demo/tables C4 digits
  python -m mat trace --tables results/demo/tables --check
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add them to the command line's ``commands``."""
    provenance = commands.add_parser("provenance", help="record the hashes of tables, figures and runs")
    provenance.set_defaults(run=_provenance)
    report = commands.add_parser("report", help="write REPORT.md and report.html from tables and figures")
    report.add_argument(
        "--page",
        type=Path,
        default=Path("workflows/report"),
        metavar="DIR",
        help="template, style and script",
    )
    report.add_argument(
        "--methods", type=Path, default=Path(__file__).parents[2] / "methods", metavar="DIR",
        help="the methods' files, for their cards",
    )  # fmt: skip
    report.set_defaults(run=_report)
    for command in (provenance, report):
        command.add_argument("--figures", type=Path, required=True, metavar="DIR", help="folder of figures")
    challenge = commands.add_parser(
        "reproducibility", help="write REPRODUCIBILITY.md, in the words of the ML Reproducibility Challenge"
    )
    challenge.add_argument(
        "--ambiguities",
        type=Path,
        default=Path("workflows/ambiguities.yaml"),
        metavar="YAML",
        help="the register",
    )
    challenge.set_defaults(run=_reproducibility)
    for command in (report, challenge):
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the page")
    trace = commands.add_parser(
        "trace", help="lead a number of a table, or a verdict, back to its runs; or check all files",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
    )  # fmt: skip
    trace.add_argument(
        "words", nargs="*", metavar="WORD", help="a table, then what names the row and the number; or a claim"
    )
    trace.add_argument("--json", action="store_true", help="as JSON")
    trace.add_argument(
        "--check", action="store_true", help="compare every table, figure and run with what is recorded"
    )
    trace.set_defaults(run=_trace)
    for command in (provenance, report, challenge, trace):
        command.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder of tables")
    for command in (report, challenge, trace):
        command.add_argument("--claims", type=Path, default=CLAIMS, metavar="YAML", help="the decision rules")


def _provenance(args: argparse.Namespace) -> None:
    from mat.experiments.cli import report as report_cli

    report_cli.provenance(args.tables, args.figures, ROOT)


def _report(args: argparse.Namespace) -> None:
    from mat.experiments.cli import report as report_cli

    report_cli.report(args.tables, args.figures, args.claims, args.methods, args.page, args.out, ROOT)


def _reproducibility(args: argparse.Namespace) -> None:
    from mat.experiments.cli import report as report_cli

    report_cli.reproducibility(args.tables, args.claims, args.ambiguities, args.out)


def _trace(args: argparse.Namespace) -> None:
    from mat.experiments.cli import report as report_cli

    if args.check:
        print(report_cli.check(args.tables, args.claims, ROOT))
    else:
        print(report_cli.trace(args.tables, args.words, args.claims, ROOT, args.json))
