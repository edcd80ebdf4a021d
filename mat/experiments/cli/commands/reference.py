"""``mat reference``: the results that are committed, from the records of their runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from mat.errors import InputError
from mat.experiments.cli import options
from mat.experiments.cli.commands.look import ROOT
from mat.experiments.cli.commands.step import ceiling_of, drawn

SCRATCH = options.path("--scratch", "where to make files; emptied first", default=Path("build/reference"))


@click.group(short_help="Make the committed results again from their runs, and say what agrees.")
def reference() -> None:
    """The results that are committed (results/reference, paper_figures/reference), from the records of their runs."""


@reference.command()
@SCRATCH
def check(scratch: Path) -> None:
    """Make every committed table, figure and page again, without training, and compare.

    From runs.zip where the runs' records were kept, else from the tables that were pooled of them. The exit status is 1
    when a file differs.
    """
    from mat.evidence.reference import keep

    found = keep.check(ROOT, scratch, _steps())
    for one in found:
        of = f"the records of {one.runs} runs" if one.runs else "pooled tables, the runs' records were not kept"
        apart = f"; {len(one.apart)} not: {', '.join(one.apart)}" if one.apart else ""
        print(f"{one.place.name}: {one.same} files are the same (from {of}){apart}")
    apart = sum(len(one.apart) for one in found)
    print(f"{sum(one.same for one in found)} committed files come out again" + (f", {apart} do not" if apart else ""))
    if apart:
        raise click.exceptions.Exit(1)


@reference.command()
@SCRATCH
def refresh(scratch: Path) -> None:
    """Make every committed table, figure and page again, without training, in its place: after a change to what makes
    them. What README and docs say of them follows."""
    from mat.evidence.reference import keep
    from mat.evidence.reference.pages import fill

    changed = [*keep.refresh(ROOT, scratch, _steps()), *fill(ROOT)]
    print("\n".join([*changed, f"{len(changed)} files changed"]))


@reference.command()
def pages() -> None:
    """Write what README and docs say of the reference results, from their tables, into the places marked for it."""
    from mat.evidence.reference.pages import fill

    changed = fill(ROOT)
    print("\n".join([*changed, f"{len(changed)} files changed"]))


@reference.command()
@click.argument("name", metavar="SCALE[/only/PART]")
@SCRATCH
def make(name: str, scratch: Path) -> None:
    """Make the reference results of a scale from one's own, results/SCALE, with the records of all runs.

    Refused while the repository has changes that are not committed, because results name the code that made them. An
    erratum of the former reference goes.
    """
    from mat.evidence.reference import keep
    from mat.evidence.reference.places import Place

    _check_clean(ROOT)
    made, runs = keep.make(Place(ROOT, name.strip("/")), scratch, _steps())
    print(f"{made.results}: {runs} runs in {made.records.name}, {made.records.stat().st_size} bytes; look, and commit")


def _steps():
    from mat.evidence.reference.build import Steps

    return Steps(drawn, ceiling_of)


def _check_clean(root: Path) -> None:
    """Raise InputError unless ``root`` is in a repository without changes."""
    try:
        said = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        raise InputError("reference results are made in a git repository; this is none, or git is not there") from None
    if said:
        raise InputError(f"{len(said)} files are changed or new, first {said[0][3:]}; commit them or put them away")
