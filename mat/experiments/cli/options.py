"""Options that commands share, and how what is given with them is read."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mat.errors import InputError
from mat.regular import SAID, is_special

if TYPE_CHECKING:
    from mat.experiments.training.machine import Machine


class Place(click.Path):
    """A path of a file or folder that is there or is to be written: nothing else may stand there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        place = super().convert(value, param, ctx)
        if is_special(place):
            self.fail(f"{str(place)!r}: {SAID} or a folder; name another", param, ctx)
        return place


PATH = Place(path_type=Path)


class Finite(click.FloatRange):
    """A number in a range, which no NaN or infinity is: every comparison with NaN is false, also with the ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {value}", param, ctx)
        return number


def path(name: str, about: str, metavar: str = "DIR", **more: Any) -> Callable:
    """An option that takes a folder or a file; required unless there is a default, which its help shows."""
    how = {"required": "default" not in more, "show_default": True, **more}
    return click.option(name, type=PATH, metavar=metavar, help=about, **how)


def together(*options: Callable) -> Callable:
    """Several options as one decorator, listed in the order given."""

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


tables = path("--tables", "folder of tables")
claims = path("--claims", "the decision rules", "YAML", default=Path("workflows/claims.yaml"))
register = path("--ambiguities", "the register of open choices", "YAML", default=Path("workflows/ambiguities.yaml"))
data = together(
    path(
        "--data",
        "a mirror of data sets in hub layout (default: $MAT_DATA; without it the hub is asked)",
        default=None,
        envvar="MAT_DATA",
    ),
    path(
        "--cache",
        "downloaded and prepared data (default: $MAT_CACHE, or .mat-cache)",
        default=Path(".mat-cache"),
        show_default=False,
        envvar="MAT_CACHE",
    ),
)
machine = together(
    click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="where to run"),
    click.option(
        "--save-every",
        type=Finite(min=0),
        default=30.0,
        metavar="SECONDS",
        envvar="MAT_SAVE_EVERY",
        help="how often the state is saved (default: $MAT_SAVE_EVERY, or 30)",
    ),
    data,
)


def machine_of(data: Path | None, cache: Path, device: str = "cpu") -> Machine:
    """Where the command runs. Raises InputError for a mirror that is no folder or a device that is not there."""
    from mat.experiments.training.machine import Machine

    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError("--device cuda: this machine has no usable CUDA device; use --device cpu")
    if data is not None and not data.is_dir():
        raise InputError(f"the data folder {data} does not exist; set --data or MAT_DATA to a mirror in hub layout")
    return Machine(data, cache, device)


def mapping(option: str, given: str) -> dict[str, Any]:
    """A JSON mapping given as text or as the file that holds it."""
    from mat.settings.given import read_json, read_text

    inline = given.lstrip().startswith("{")
    content = read_json(given if inline else read_text(Path(given), f"{option} as JSON or a file of it"), option)
    if not isinstance(content, dict):
        raise InputError(f"{option} must be a JSON mapping, got {given[:60]}")
    return content


def say(line: str) -> None:
    """A line of the command's own, beside what it prints."""
    print(f"mat: {line}", file=sys.stderr, flush=True)


def reporter() -> Callable[[str, float], None]:
    """What a training reports to: a bar in a terminal, plain lines in a log."""
    if not sys.stderr.isatty():
        return lambda line, share: print(line, file=sys.stderr, flush=True)
    from tqdm import tqdm

    bar = tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}  {postfix}")

    def report(line: str, share: float) -> None:
        if not line.startswith("step "):  # said once, and no progress
            bar.write(line, file=sys.stderr)
            return
        bar.set_postfix_str("  ".join(line.split("  ")[2:]), refresh=False)  # the bar says which step it is
        bar.update(100 * share - bar.n)
        if share >= 1:
            bar.close()

    return report
