"""``mat burst``: a machine with a GPU for some minutes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mat.errors import InputError
from mat.experiments.cli import options

ROOT = Path(__file__).parents[4]


@click.command(short_help="Use a GPU for some minutes: tests, benchmark, the headline's runs.")
@click.option("--minutes", type=options.Finite(0, 24 * 60, min_open=True), help="how long; it stops before they end")
@options.path("--out", "folder of a few small files: plan, tests, benchmark, summary, archive of runs", default=None)
@options.path("--kept", "runs and their states, for the next burst to go on with", default=Path(".burst"))
@click.option("--config", default="paper", show_default=True, metavar="NAME|FILE", help="the scale")
@click.option("--task", default="bert_wikitext2", show_default=True, metavar="LABEL", help="whose runs are made")
@click.option("--only", default="tests,benchmark,train", show_default=True, metavar="PARTS", help="what is done")
@options.path("--pack", "write code, data and pure packages to this zip file instead", "FILE", default=None)
@options.path("--wheels", "wheels that --pack takes along, for the machine that it goes to", default=None)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cuda", show_default=True, help="where to run")
@options.data
def burst(
    minutes: float | None,
    out: Path | None,
    kept: Path,
    config: str,
    task: str,
    only: str,
    pack: Path | None,
    wheels: Path | None,
    device: str,
    data: Path | None,
    cache: Path,
) -> None:
    """Use a machine with a GPU that one has for some minutes.

    Tests kernels and sparse pass on it, times sparse steps in bfloat16, and fills the rest with the runs of a task,
    all methods with one seed before the next seed. It stops on time; the same command goes on from what is kept.

    \b
    mat burst --pack burst.zip                      # here: code and prepared data, under 20 MB
    python -m zipfile -e burst.zip burst            # there
    cd burst && python -m mat burst --minutes 9 --out DIR
    """
    carried = ROOT / "carried"
    sys.path.append(str(carried))  # before anything that a machine may not have is imported
    from mat.experiments.burst import burst as bursts
    from mat.experiments.burst.pack import MIRROR
    from mat.experiments.burst.pack import pack as packed
    from mat.experiments.burst.plan import chosen
    from mat.experiments.config.runs import expand
    from mat.experiments.config.scale import CONFIGS, read_scale

    parts = only.split(",")
    if unknown := sorted(set(parts) - set(bursts.PARTS)):
        raise InputError(f"--only: expected some of {','.join(bursts.PARTS)}, got {unknown[0]!r}")
    runs = chosen(expand(read_scale(config, configs=ROOT / CONFIGS)), task)
    if pack is not None:
        size = packed(runs, options.machine_of(data, cache), ROOT, pack, wheels)
        options.say(f"{size / 1e6:.1f} MB written to {pack}")
        return
    if minutes is None or out is None:
        raise InputError("give --minutes and --out, or --pack FILE")
    mirror = ROOT / MIRROR
    machine = options.machine_of(data or (mirror if mirror.is_dir() else None), cache, device)
    whole = bursts.Burst(60 * minutes, out, kept, ROOT, carried, machine, options.say, options.reporter())
    whole.carry_out(runs, parts)
