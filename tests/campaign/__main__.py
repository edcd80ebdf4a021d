"""``python -m tests.campaign``: carry out the attacks of every part, and write the table."""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mat.experiments.cli import serve
from mat.records.files import write_text
from tests.campaign import bench, configs, disks, files, kills, permissions, table, together, workflow
from tests.campaign.outcomes import GOOD, Outcome, Verdict

PARTS = {
    **{"kills": kills, "files": files, "configs": configs, "disks": disks, "permissions": permissions},
    **{"together": together, "workflow": workflow},
}
MODULES = (
    *(f"mat.experiments.tasks.{name}" for name in ("digits", "hmm", "cifar10")),
    *(f"mat.experiments.models.{name}" for name in ("vgg", "bert")),
    *(f"mat.methods.{name}" for name in ("mat", "vanilla", "controls")),
)
TAKES = "All parts take about an hour on two cores, --minutes at most; preparation, some minutes, comes before that."
FORKS = multiprocessing.get_context("fork")


def main(argv: list[str] | None = None) -> int:
    """0 where every attack ended well, 1 otherwise."""
    asked = _options().parse_args(argv)
    only = asked.only.partition("/")
    parts = {name: part for name, part in PARTS.items() if not asked.only or name == only[0]}
    if not parts:
        raise SystemExit(f"--only: expected one of {', '.join(PARTS)}, or one and /NUMBER, got {asked.only}")
    serve.import_all(MODULES)
    said = {"only": asked.only, "seed": asked.seed, "count": asked.count}
    command = " ".join(["python -m tests.campaign", *(f"--{name} {value}" for name, value in said.items() if value)])
    root, code = Path(tempfile.mkdtemp(prefix="mat-campaign-")), _code()
    found, seconds, planned, kept = [], {}, {}, known(asked, code)
    text = ""
    try:
        start = time.monotonic()
        made = bench.made(root)
        seconds["preparation"] = time.monotonic() - start
        whole = sum(part.SHARE for part in parts.values())
        for name, part in parts.items():
            attacks = list(enumerate(part.planned(random.Random(f"{asked.seed} {name}"))))
            attacks = [attacks[int(only[2])]] if only[2] else _some(attacks, asked.count)
            before = [kept[attack] for number, _ in attacks if (attack := f"{name}/{number}") in kept]
            left = [one for one in attacks if f"{name}/{one[0]}" not in kept]
            until = time.monotonic() + 60 * asked.minutes * part.SHARE / whole
            for outcome in carried_out(name, left, made, until, asked.workers):
                if code != _code():  # a run that is begun again by other code begins anew, and rightly so
                    raise SystemExit("the code changed meanwhile: repeat the command")
                keep(outcome, asked, code)
                before.append(outcome)
            seconds[name], planned[name] = sum(one.seconds for one in before), len(attacks)
            found += before
            text = table.page(found, seconds, planned, command)
            if asked.out:
                write_text(text, asked.out)  # part by part: it may take an hour
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(text)
    return int(any(one.verdict not in GOOD for one in found))


def _code() -> str:
    """The hash of all code that commands run by."""
    digest = hashlib.sha256()
    for path in sorted(path for room in ("mat", "workflows") for path in (bench.REPOSITORY / room).rglob("*.*")):
        if path.suffix in (".py", ".smk", ".yaml"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=f"{__doc__} {TAKES}")
    parser.add_argument("--only", default="", metavar="PART[/NUMBER]", help=f"{', '.join(PARTS)}; or one attack of it")
    parser.add_argument("--seed", type=int, default=0, help="what attacks are drawn by")
    parser.add_argument("--minutes", type=float, default=60, help="the most that all parts take, without preparation")
    parser.add_argument("--count", type=int, metavar="N", help="attacks of each part, spread over it (default: all)")
    parser.add_argument("--quick", dest="count", action="store_const", const=6, help="the same as --count 6")
    parser.add_argument("--workers", type=int, default=2, help="attacks at a time")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="outcomes: what is there is not tried again")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page to write")
    return parser


def _some(attacks: Sequence, count: int | None) -> list:
    """``count`` of the attacks, from the first to the last."""
    if count is None or count >= len(attacks):
        return list(attacks)
    return [attacks[i * len(attacks) // count] for i in range(count)]


def known(asked: argparse.Namespace, code: str) -> dict[str, Outcome]:
    """Outcomes that were kept of the same code and seed, by the attack."""
    if asked.keep is None or not asked.keep.exists():
        return {}
    lines = map(json.loads, asked.keep.read_text().splitlines())
    same = [line for line in lines if (line.pop("code"), line.pop("seed")) == (code, asked.seed)]
    return {line["attack"]: Outcome(**{**line, "verdict": Verdict(line["verdict"])}) for line in same}


def keep(outcome: Outcome, asked: argparse.Namespace, code: str) -> None:
    """Add a line to what is kept."""
    if asked.keep is not None:
        line = {**asdict(outcome), "verdict": outcome.verdict.value, "code": code, "seed": asked.seed}
        with asked.keep.open("a") as file:
            file.write(json.dumps(line) + "\n")


def carried_out(part: str, attacks: list, made: bench.Bench, until: float, workers: int) -> Iterator[Outcome]:
    """What comes of the numbered attacks of a ``part``, in their order, of those that begin before ``until``."""
    _now.update(part=part, attacks=attacks, made=made, until=until)  # the workers are forks: they have it
    with FORKS.Pool(workers) as pool:
        yield from (one for one in pool.imap(_one, range(len(attacks))) if one is not None)


_now: dict[str, Any] = {}


def _one(place: int) -> Outcome | None:
    number, attack = _now["attacks"][place]
    if time.monotonic() > _now["until"]:
        return None
    name, start = f"{_now['part']}/{number}", time.monotonic()
    try:
        verdict, why = attack.carry_out(_now["made"])
    except Exception as error:  # of the attack itself: it counts as a bad end, and the others go on
        verdict, why = Verdict.TRACEBACK, f"the attack failed: {type(error).__name__}: {error}"
    why = why.replace(f"{_now['made'].root}/", "")  # the same page anywhere
    print(f"{name} {verdict.value}: {attack.what} {why[:200]}", file=sys.stderr, flush=True)
    return Outcome(name, attack.kind, attack.what, verdict, why, time.monotonic() - start)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # unloading what was imported takes long, and some libraries complain of it
