"""``mat train``: one run, from a specification or from flags; ``mat plan``: what a scale's runs would cost."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mat.errors import InputError
from mat.experiments.cli import options

BLOCKS = ("task", "model", "method", "recipe", "probe")


@click.command(short_help="Train one run, from a specification or from flags.")
@click.option("--spec", metavar="JSON|FILE", help="a specification: JSON text or a file holding it")
@options.together(
    *(
        click.option(
            f"--{kind}",
            metavar="NAME|FILE",
            help=f"{kind} by name, see `mat list {kind}s`; or a Python file of your own",
        )
        for kind in ("task", "model", "method")
    )
)
@click.option("--seed", type=int, help="the run's seed (default 0)")
@click.option("--threads", type=int, help="CPU threads; part of the run's identity (default 1)")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="one setting, such as method.alpha=0.05, recipe.epochs=3 or probe.n=16; may be repeated",
)
@options.path("--out", "the run directory to write")
@click.option("--labels", metavar="JSON", help="names of scale, task and method in tables")
@click.option("--checkpoint", is_flag=True, help="keep the weights at the end, for runs that start from them")
@options.machine
def train(
    spec: str | None,
    task: str | None,
    model: str | None,
    method: str | None,
    seed: int | None,
    threads: int | None,
    settings: tuple[str, ...],
    out: Path,
    labels: str | None,
    checkpoint: bool,
    device: str,
    save_every: float,
    data: Path | None,
    cache: Path,
) -> None:
    """Train one run, from a specification or from flags; flags complete and override a specification.

    A run that was interrupted goes on from its last saved state when the same command is given again.

    Several processes share each batch when `torchrun --nproc-per-node 2 -m mat train ...` starts them; their number is
    part of the run's identity.
    """
    from mat import processes
    from mat.experiments.config.blocks import RunLabels
    from mat.experiments.config.spec import Spec
    from mat.experiments.training import sharing
    from mat.experiments.training.resume import silent
    from mat.experiments.training.run import train as train_run
    from mat.settings.strict import validate

    machine = options.machine_of(data, cache, device)
    names = {"task": task, "model": model, "method": method}
    called = None if labels is None else validate(RunLabels, options.mapping("--labels", labels), "--labels")
    given = described(spec, names, {"seed": seed, "threads": threads}, settings)
    run = Spec.of({"processes": sharing.asked(), **given})
    with sharing.joined(device):
        report = options.reporter() if processes.rank() == 0 else silent
        if processes.rank() == 0:
            options.say(f"{run.name} -> {out} on {platform.node()}")
        final = train_run(
            run,
            out,
            machine,
            labels=None if called is None else called.model_dump(),
            report=report,
            save_every=save_every,
            keep=checkpoint,
        )
        if processes.rank() == 0:
            options.say(f"{final['status']} after {final['steps']} steps, test loss {final['test_loss']}")


def described(
    spec: str | None, names: Mapping[str, str | None], numbers: Mapping[str, int | None], settings: Sequence[str] = ()
) -> dict[str, Any]:
    """The specification that ``spec``, the plug-ins' ``names``, seed, threads and ``BLOCK.KEY=VALUE`` describe."""
    from mat.settings.given import read_json

    given = options.mapping("--spec", spec) if spec else {}
    given |= {kind: {"file" if name.endswith(".py") else "name": name} for kind, name in names.items() if name}
    given |= {what: number for what, number in numbers.items() if number is not None}
    for setting in settings:
        key, equals, value = setting.partition("=")
        block, dot, name = key.partition(".")
        if not (equals and dot and block in BLOCKS):
            raise InputError(f"--set expects BLOCK.KEY=VALUE with a block of the specification, got {setting!r}")
        if not isinstance(given.setdefault(block, {}), dict):
            raise InputError(f"--set {setting}: {block} must be a mapping with a name, got {given[block]!r}")
        given[block][name] = read_json(value, f"--set {setting[:60]}", words=True)
    return given


@click.command(short_help="Say what a scale's runs would cost, before anything is run.")
@click.option("--config", required=True, metavar="NAME|FILE", help="a scale of workflows/config, or a config file")
@click.option(
    "--only", default="", metavar="TERMS", help="labels or tags of tasks, labels of methods, as in glue,vanilla"
)
@click.option("--rate", type=float, metavar="GFLOP/s", help="of one worker (default: each model is timed here)")
def plan(config: str, only: str, rate: float | None) -> None:
    """Say what a scale's runs would cost, before anything is run."""
    from mat.experiments.planning import report

    print(report.report(config, only, rate))
