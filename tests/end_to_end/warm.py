"""Processes that have the packages imported already, so that a command waits for its folder's own code alone."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from snakemake import cli

PROCESSES = multiprocessing.get_context("forkserver")
PACKAGES = ("torch", "pandas", "pydantic", "click", "yaml", "scipy.stats")
PROCESSES.set_forkserver_preload([__name__, *PACKAGES])


def snakemake(args: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess:
    """What ``subprocess.run`` of the command gives; the folder's own ``mat`` is imported anew."""
    out, err = cwd / ".said.out", cwd / ".said.err"
    process = PROCESSES.Process(target=_main, args=(args, cwd, env, out, err))
    process.start()
    process.join(500)
    assert process.exitcode is not None, "it does not end"
    return subprocess.CompletedProcess(args, process.exitcode, out.read_text(), err.read_text())


def _main(args: list[str], cwd: Path, env: dict[str, str], *files: Path) -> None:
    assert "mat" not in sys.modules, "it would not be that of the folder"
    for descriptor, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path.insert(0, str(cwd))
    sys.argv = args
    cli.main()
