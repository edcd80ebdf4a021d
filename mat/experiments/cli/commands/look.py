"""Looking at what is there: one run, a scale's results, what is behind a number, and what differs between two."""

from __future__ import annotations

from pathlib import Path

import click

from mat.experiments.cli import options

ROOT = Path(".")  # paths that records name start here
TRACED = """\b
Examples:
  mat trace --tables results/demo/tables results digits mat saving_executed_percent
  mat trace --tables results/demo/tables scores hmm mat log_perplexity
  mat trace --tables results/demo/tables C4 digits
  mat trace --tables results/demo/tables --check
"""


@click.command(short_help="Show one run: what it was, how it went, what was active.")
@click.argument("directory", metavar="DIR", type=options.PATH)
def show(directory: Path) -> None:
    """Show the run in DIR: what it was, how it went, what was active."""
    from mat.evidence.report import terminal

    print(terminal.run(directory))


@click.command(short_help="Print results and verdicts as text.")
@options.tables
@options.claims
def summary(tables: Path, claims: Path) -> None:
    """Print results and verdicts as text."""
    from mat.evidence.report import terminal

    print(terminal.scale(tables, claims))


@click.command(epilog=TRACED, short_help="Lead a number, or a verdict, back to its runs; or check all files.")
@click.argument("words", nargs=-1, metavar="[WORD]...")
@options.tables
@options.claims
@click.option("--json", "as_json", is_flag=True, help="as JSON")
@click.option("--check", is_flag=True, help="compare every table, figure and run with what is recorded")
def trace(words: tuple[str, ...], tables: Path, claims: Path, as_json: bool, check: bool) -> None:
    """Lead a number of a table, or a verdict, back to its runs; or check all files.

    WORDs are a table, then what names the row and the number; or a claim.
    """
    from mat.evidence.report import files

    if check:
        print(files.check(tables, claims, ROOT))
    else:
        print(files.trace(tables, list(words), claims, ROOT, as_json))


@click.command(short_help="Say whether results agree with the reference, or what differs between two runs.")
@click.argument("a", type=options.PATH)
@click.argument("b", type=options.PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="as JSON")
def compare(a: Path, b: Path | None, as_json: bool) -> None:
    """Say what of A agrees with B: two run directories, or two folders of tables (B: the reference of A's scale).

    Of tables: verdicts, results and whether A's lie in B's intervals, and the curves of the runs that both have; the
    last line says whether A agrees with B. Wall-clock times are left out, so that two machines can be compared.
    """
    from mat.evidence.comparison import folders, page
    from mat.evidence.reference.places import reference_of

    found = folders.compare(a, reference_of(a, ROOT) if b is None else b)
    print(page.as_json(found) if as_json else page.text(found))
