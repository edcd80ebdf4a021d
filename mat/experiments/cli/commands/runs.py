"""``mat runs``: records of runs to take along, and those that were made elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click

from mat.experiments.cli import options


@click.group(short_help="Take records of runs along, and take in those made elsewhere.")
def runs() -> None:
    """Take records of runs along, and take in those made elsewhere."""


@runs.command(name="export")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=options.PATH)
@click.option("-o", "--out", required=True, type=options.PATH, metavar="FILE", help="the zip file to write")
def export(folders: tuple[Path, ...], out: Path) -> None:
    """Put the records of runs into one zip file, with their SHA-256 sums and without weights.

    DIR is a run's folder, or a scale's results, such as results/demo: with its studies' records. What was prepared for
    a run's task goes with it. Runs of a scale that are not finished are left out.
    """
    from mat.records import archive

    items, left = archive.export(folders, out), [path for folder in folders for path in archive.unfinished(folder)]
    size, count = out.stat().st_size, sum(item.kind == archive.RUNS for item in items)
    print(f"{out}: {_said(items)}; {size} bytes, {size // count} for each run")
    if left:
        print(f"not finished, left out: {', '.join(path.name for path in left)}")


@runs.command(name="import")
@click.argument("file", type=options.PATH)
@options.path("--results", "where results are", default=Path("results"))
def import_(file: Path, results: Path) -> None:
    """Put the records of an archive into RESULTS/<scale>, where the pipeline pools them like any other.

    All of it is checked first. A record that is there already is compared and left as it is; the exit status is 1 when
    one differs.
    """
    from mat.evidence.comparison import folders, page
    from mat.records import archive

    with archive.unpacked(file, results) as items:
        states = {item: archive.state_of(item, results) for item in items}
        for state in dict.fromkeys(states.values()):
            there = [item for item, found in states.items() if found == state]
            print(f"{state}: {_said(there)}")
            for machine in sorted({folders.hardware_of(item.path) for item in there if item.kind == archive.RUNS}):
                print(f"  on {machine}")
        for item, state in states.items():
            if state == archive.NEW:
                archive.place(item, results)
            if state in (archive.NEW, archive.SAME):
                continue
            print(f"\n{results / item.place}: {state}, left as it is")
            if state == archive.OTHER and item.kind == archive.RUNS:
                print(page.text(folders.compare(results / item.place, item.path)))
    if archive.OTHER in states.values():
        raise click.exceptions.Exit(1)


def _said(items: Iterable) -> str:
    """How many of which kind."""
    counts = Counter(item.kind for item in items)
    return ", ".join(f"{count} of {kind}" for kind, count in counts.items())
