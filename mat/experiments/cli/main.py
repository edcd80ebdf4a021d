"""The command line: ``mat``, or ``python -m mat``. One file per group of commands; what they need is imported in them,
so that help and listings come at once."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from mat.errors import InputError
from mat.experiments.cli import stopping
from mat.experiments.cli.commands.burst import burst
from mat.experiments.cli.commands.kernels import kernels
from mat.experiments.cli.commands.look import compare, show, summary, trace
from mat.experiments.cli.commands.plugins import check_plugin, list_
from mat.experiments.cli.commands.reference import reference
from mat.experiments.cli.commands.runs import runs
from mat.experiments.cli.commands.step import step
from mat.experiments.cli.commands.train import plan, train
from mat.experiments.cli.commands.tune import tune

EXAMPLES = """\b
Examples:
  mat list methods
  mat train --task digits --model vgg --method mat --out runs/first
  mat train --task digits --model vgg --method mat --set method.alpha=0.05 --out runs/second
  mat train --spec my-run.json --out runs/third
  mat show runs/first
  mat compare runs/first runs/second
  mat plan --config subset --only glue,vanilla
  mat kernels path/to/huggingface/model -n 16
"""
DO = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "the disk is full: make room"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "allow it or choose another place"),
    errno.EROFS: "choose a place that can be written",
    **dict.fromkeys(
        (errno.EISDIR, errno.ENOTDIR, errno.EEXIST),
        "a file stands where a folder belongs, or a folder where a file does: move it away",
    ),
    **dict.fromkeys((errno.ENOENT, errno.ENXIO), "check the name"),
}
REFUSED = "mat: error: "  # how the line begins that says why
INSTEAD = "backslashreplace"
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
SHOWN = (
    *(train, list_, show, plan, tune, trace, summary, compare, runs, reference, kernels, check_plugin, burst, step),
)


class InOrder(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, epilog=EXAMPLES, context_settings=HELP)
def cli() -> None:
    """Modular Adaptive Training: train one run, look at runs, and read what a scale's runs say.

    The whole pipeline is `snakemake --cores all`; the steps that it is made of are under `mat step`.
    """


for command in SHOWN:
    cli.add_command(command)


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 on success, 2 for input that cannot be used (one line on stderr says why), 128 + the signal's
    number where one stopped it."""
    with stopping.as_interrupts() as come:
        return _status(argv, come)


def _status(argv: list[str] | None, come: Sequence[int]) -> int:
    """``main``; ``come``: the signals that have come, as ``stopping`` notes them."""
    for stream in (sys.stdout, sys.stderr):
        # λ and τ, or a file's name, where an encoding has none; not again in a command of a server, whose streams are
        # no longer what they were opened on
        if isinstance(stream, io.TextIOWrapper) and stream.errors != INSTEAD:
            stream.reconfigure(errors=INSTEAD)
    try:
        with cli.make_context("mat", list(sys.argv[1:] if argv is None else argv), obj=main) as context:
            cli.invoke(context)
        if sys.stdout is not None:  # closed by who started the command
            sys.stdout.flush()
    except click.exceptions.Exit as done:  # help was asked for
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _refused(" ".join(error.format_message().split()) + _help_hint(error))
    except InputError as error:
        return _refused(str(error))
    except KeyboardInterrupt as error:
        _say(f"mat: interrupted; {error if error.args else 'give the same command again'}")
        return 128 + (come[0] if come else signal.SIGINT)
    except BrokenPipeError:  # the reader, such as `head`, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as for a command that SIGPIPE ends
    except OSError as error:
        return _refused(_of_the_system(error))
    except UnicodeDecodeError as error:
        return _refused(
            f"expected text in UTF-8, got {bytes(error.object[:20])!r}: {error.reason}; save the file as UTF-8"
        )
    return 0


def _of_the_system(error: OSError) -> str:
    """One line: the file, what the system said of it, and what to do. What was saved before stays as it was."""
    place = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
    said = error.strerror or " ".join(str(error).split())
    return f"{place}{said}; {DO.get(error.errno, 'mend that')} and give the same command again"


def _refused(why: str) -> int:
    _say(REFUSED + why)
    return 2


def _say(line: str) -> None:
    """A line on stderr, where that can be written: the status says enough."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" See `{context.command_path} --help`." if context else ""
