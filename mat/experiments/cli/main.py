"""The command line: ``python -m mat``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.experiments.cli.table_commands import add as add_evidence_commands
from mat.records.files import write_json

DESCRIPTION = """\
Modular Adaptive Training: train one run, look at runs, and turn run directories into tables and verdicts.

The whole pipeline is `snakemake --cores all`; these are the steps it is made of.
"""
EXAMPLES = """\
examples:
  python -m mat list
  python -m mat train --task digits --model vgg --method mat --out runs/first
  python -m mat train --task digits --model vgg --method mat --set method.alpha=0.05 --out runs/second
  python -m mat train --spec my-run.json --out runs/third
  python -m mat show runs/first
  python -m mat plan --config subset --only glue,vanilla
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 on success, 2 for input that cannot be used (one line on stderr says why)."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except InputError as error:
        print(f"mat: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mat: interrupted; the same command resumes from the last saved state", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mat",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train one run, from a specification or from flags")
    train.add_argument("--spec", metavar="JSON|FILE", help="a specification: JSON text or a file holding it")
    for what in ("task", "model", "method"):
        train.add_argument(f"--{what}", metavar="NAME", help=f"{what} by name; see `python -m mat list`")
    train.add_argument("--seed", type=int, help="the run's seed (default 0)")
    train.add_argument("--threads", type=int, help="CPU threads; part of the run's identity (default 1)")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, such as method.alpha=0.05, recipe.epochs=3 or probe.n=16; may be repeated",
    )
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run directory to write")
    train.add_argument(
        "--labels", type=json.loads, metavar="JSON", help="names of scale, task and method in tables"
    )
    train.add_argument(
        "--save-every",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how often the state is saved (default 30)",
    )
    train.add_argument(
        "--checkpoint", action="store_true", help="keep the weights at the end, for runs that start from them"
    )
    train.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default cpu)"
    )
    _data_options(train)
    train.set_defaults(run=_train)

    lister = commands.add_parser("list", help="list tasks, models and methods with their settings")
    lister.set_defaults(run=_list)

    for name, run, about, out in (
        ("fetch", _fetch, "download a task's data, or find it in a mirror, and check it",
         "what there is: files, hashes and rows"),
        ("prepare", _prepare, "read a task's data, fill the cache, check that a run fits it",
         "what was read: sizes and hash"),
    ):  # fmt: skip
        reader = commands.add_parser(name, help=about)
        reader.add_argument(
            "--spec", required=True, metavar="JSON|FILE", help="a specification of the task's runs"
        )
        reader.add_argument("--out", type=Path, required=True, metavar="FILE", help=out)
        _data_options(reader)
        reader.set_defaults(run=run, task=None, model=None, method=None, seed=None, threads=None, set=[])

    for name, about in (
        ("agreement", "train one run and measure its spectra by every estimator"),
        ("branches", "train one run and, from its checkpoints, single modules and sets of them"),
    ):
        measure = commands.add_parser(name, help=about)
        measure.add_argument(
            "--job",
            required=True,
            metavar="JSON|FILE",
            help="labels, specification and settings of the measurement",
        )
        measure.add_argument(
            "--out", type=Path, required=True, metavar="FILE", help="the Parquet table to write"
        )
        measure.add_argument(
            "--device", choices=("cpu", "cuda"), default="cpu", help="where to run (default cpu)"
        )
        measure.add_argument(
            "--save-every", type=float, default=30.0, metavar="SECONDS", help="how often the state is saved"
        )
        _data_options(measure)
        measure.set_defaults(run=_measure, what=name)

    limit = commands.add_parser(
        "ceiling", help="compute what a training step can save at most, by the closed forms"
    )
    limit.add_argument(
        "prepared", type=Path, nargs="*", metavar="FILE", help="what `prepare` wrote, named TASK-LABEL.json"
    )
    limit.add_argument(
        "--config", required=True, metavar="JSON|FILE", help="a scale's config: scale, tasks and ceiling"
    )
    limit.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder of tables to write")
    limit.set_defaults(run=_ceiling)

    planner = commands.add_parser("plan", help="say what a scale's runs would cost, before anything is run")
    planner.add_argument(
        "--config", required=True, metavar="NAME|FILE", help="a scale of workflows/config, or a config file"
    )
    planner.add_argument(
        "--only",
        default="",
        metavar="TERMS",
        help="labels or tags of tasks, labels of methods, as in glue,vanilla",
    )
    planner.add_argument(
        "--rate", type=float, metavar="GFLOP/s", help="of one worker (default: measured here in a second)"
    )
    planner.set_defaults(run=_plan)
    add_evidence_commands(commands)
    return parser


def _data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ["MAT_DATA"]) if os.environ.get("MAT_DATA") else None,
        metavar="DIR",
        help="a mirror of data sets in hub layout (default: $MAT_DATA; without it the hub is asked)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("MAT_CACHE") or ".mat-cache"),
        metavar="DIR",
        help="downloaded and prepared data (default: $MAT_CACHE, or .mat-cache)",
    )


def _train(args: argparse.Namespace) -> None:
    from mat.experiments.config.spec import Spec
    from mat.experiments.training.run import train

    _check_device(args.device)
    spec, data = Spec.of(_given(args)), _folder(args.data)
    print(f"mat: {spec.name} -> {args.out}", file=sys.stderr)
    final = train(
        spec,
        args.out,
        labels=args.labels,
        data=data,
        cache=args.cache,
        device=args.device,
        report=_reporter(),
        save_every=args.save_every,
        keep=args.checkpoint,
    )
    print(
        f"mat: {final['status']} after {final['steps']} steps, test loss {final['test_loss']}",
        file=sys.stderr,
    )


def _check_device(device: str) -> None:
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError("--device cuda: this machine has no usable CUDA device; use --device cpu")


def _json(option: str, given: str) -> dict[str, Any]:
    """A JSON mapping given as text or as the file that holds it."""
    text = given if given.lstrip().startswith("{") else _read(option, Path(given))
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{option} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{option} must be a JSON mapping, got {text[:60]}")
    return content


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The specification that the flags describe; flags complete and override a given one."""
    given: dict[str, Any] = {}
    if args.spec:
        given = _json("--spec", args.spec)
    for what in ("task", "model", "method"):
        if getattr(args, what):
            given[what] = {"name": getattr(args, what)}
    for what in ("seed", "threads"):
        if getattr(args, what) is not None:
            given[what] = getattr(args, what)
    for setting in args.set:
        key, equals, value = setting.partition("=")
        block, dot, name = key.partition(".")
        if not (equals and dot and block in ("task", "model", "method", "recipe", "probe")):
            raise InputError(
                f"--set expects BLOCK.KEY=VALUE with a block of the specification, got {setting!r}"
            )
        with contextlib.suppress(json.JSONDecodeError):  # a bare word is a string
            value = json.loads(value)
        if not isinstance(given.setdefault(block, {}), dict):
            raise InputError(f"--set {setting}: {block} must be a mapping with a name, got {given[block]!r}")
        given[block][name] = value
    return given


def _read(option: str, path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise InputError(f"{option}: cannot read {path}: {error.strerror}") from None


def _folder(data: Path | None) -> Path | None:
    if data is not None and not data.is_dir():
        raise InputError(
            f"the data folder {data} does not exist; set --data or MAT_DATA to a mirror in hub layout"
        )
    return data


def _reporter():
    """A bar in a terminal, plain lines in a log."""
    if not sys.stderr.isatty():
        return lambda line, share: print(line, file=sys.stderr, flush=True)
    from tqdm import tqdm

    bar = tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}  {postfix}")

    def report(line: str, share: float) -> None:
        bar.set_postfix_str(line.partition("  train loss")[2].strip(), refresh=False)
        bar.update(100 * share - bar.n)
        if share >= 1:
            bar.close()

    return report


def _list(args: argparse.Namespace) -> None:
    from dataclasses import MISSING, fields

    from mat.experiments.config.plugins import OURS, find, known, record_of

    for kind in OURS:
        print(f"{kind}s")
        for name in known(kind):
            module = find(kind, name)
            first = (module.__doc__ or "").strip().splitlines()[0]
            print(f"  {name:<10} {first}")
            for field in fields(record_of(kind, module, kind)):
                default = "(required)" if field.default is MISSING else repr(field.default)
                print(f"    {kind}.{field.name} = {default}")
        print()


def _fetch(args: argparse.Namespace) -> None:
    from mat.experiments.config.spec import Spec
    from mat.experiments.tasks.storage.hub import fetch
    from mat.experiments.training import checkpoint

    spec, data = Spec.of(_given(args)), _folder(args.data)
    sources = spec.task.module.sources(spec.task.settings) + checkpoint.sources(spec.start)
    found = [fetch(source, data, args.cache) for source in sources]
    write_json(found, args.out)


def _prepare(args: argparse.Namespace) -> None:
    from mat.experiments.config.spec import Spec
    from mat.experiments.training.run import check

    found = check(Spec.of(_given(args)), _folder(args.data), args.cache)
    write_json(found, args.out)


def _measure(args: argparse.Namespace) -> None:
    if args.what == "agreement":
        from mat.experiments.studies.agreement.config import job_of
        from mat.experiments.studies.agreement.measure import measure
    else:
        from mat.experiments.studies.branches.config import job_of
        from mat.experiments.studies.branches.measure import measure

    _check_device(args.device)
    job, data = job_of(_json("--job", args.job)), _folder(args.data)
    print(f"mat: {job.name} -> {args.out}", file=sys.stderr)
    measure(
        job,
        args.out,
        data=data,
        cache=args.cache,
        device=args.device,
        report=_reporter(),
        save_every=args.save_every,
    )


def _ceiling(args: argparse.Namespace) -> None:
    from mat.experiments.cli import tables
    from mat.experiments.config.scale import ScaleConfig
    from mat.experiments.studies.ceiling.compute import parts, savings
    from mat.experiments.studies.ceiling.config import plan

    asked = plan(ScaleConfig.of(_json("--config", args.config)))
    if asked is None:
        raise InputError("--config has no block ceiling; add one")
    subjects = asked.subjects({path.stem: _json(str(path), str(path)) for path in args.prepared})
    tables.ceiling(parts(subjects, asked.scale), savings(subjects, asked), args.tables)


def _plan(args: argparse.Namespace) -> None:
    from mat.experiments.planning import cost as plan

    print(plan.report(args.config, args.only, args.rate))
