"""Damaged files: cut, flipped, emptied, swapped with another run's, noise or a folder in their place; then read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mat.experiments.training.resume import STATE
from mat.records.run import CHECKPOINT, FILES
from mat.records.seal import SEAL
from tests.campaign.bench import REPOSITORY, Bench
from tests.campaign.commands import done, nothing
from tests.campaign.outcomes import Judged, judged, worst

COUNT, SHARE = 264, 0.3
DAMAGES = ("flipped", "cut", "flipped", "emptied", "swapped", "flipped", "cut", "noise", "flipped", "folder")
Reader = Callable[[Bench, Path], Judged]
POOLED = ("runs.csv", "curves.parquet", "probes.parquet")


def show(bench: Bench, place: Path, before: Callable[[], None] = nothing) -> Judged:
    ended = done(["show", bench.cases["first"].name], place, before)
    return judged(ended, "" if ended.said == bench.shown else "show says something else")


def pool(bench: Bench, place: Path) -> Judged:
    """Pooled with another run, the tables are the same."""
    names = [bench.cases[name].name for name in ("first", "second")]
    ended = done(["step", "collect", *names, "--tables", "pooled"], place)
    other = [name for name in POOLED if not _same(place / "pooled" / name, bench.root / "tables" / name)]
    return judged(ended, f"other {', '.join(other)}" if other else "")


def train(name: str) -> Reader:
    """The command that trains, given again."""

    def reader(bench: Bench, place: Path) -> Judged:
        ended = done(bench.cases[name].argv(place), place)
        kept = "already finished" in ended.said
        return judged(ended, bench.difference(name, place, not kept) if ended.status == 0 else "")

    reader.__name__ = f"train {name}"
    return reader


def table(bench: Bench, place: Path) -> Judged:
    """The table of results that is made of pooled runs."""
    ended = done(["step", "table", "results", "--tables", place / "tables"], REPOSITORY)
    same = _same(place / "tables/results.csv", bench.root / "tables/results.csv")
    return judged(ended, "" if same else "other results.csv")


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


@dataclass(frozen=True)
class Target:
    """A file by a ``pattern`` below a place with the finished runs of ``cases``, and what reads it; ``{first}`` stands
    for a run's name. It is swapped with the file of ``other``."""

    pattern: str
    cases: tuple[str, ...]
    other: str
    readers: tuple[Reader, ...]


RUNS = ("first", "second")
TARGETS = (
    *(
        Target(
            f"{{first}}/{name}",
            RUNS,
            f"{{second}}/{name}",
            (show, pool, train("follower"), train("first")),
        )
        for name in FILES
    ),
    *(Target(f".state/{{first}}-*/*/{name}", (), f"{{halfway}}/second/.state/*/*/{name}", (train("first"),))
      for name in (STATE, SEAL)),
    *(Target(f"{{text}}/{name}", ("text", "other_text"), f"{{other_text}}/{name}", (train("started"),))
      for name in CHECKPOINT),
    *(Target(f"tables/{name}", (), "{tables}/" + name, (table,)) for name in POOLED),
    *(Target(f"cache/cifar10/train-*/{name}", (), f"cache/cifar10/test-*/{name}", (train("pictures"),))
      for name in ("pixels.npy", "facts.npz")),
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """``where``: the share of the file at which it happens; ``bit``: of the byte there."""

    target: Target
    damage: str
    where: float
    bit: int

    @property
    def kind(self) -> str:
        return f"files: {self.damage}"

    @property
    def what(self) -> str:
        return f"{self.target.pattern} {self.damage} at {self.where:.4f}, bit {self.bit}"

    def carry_out(self, bench: Bench) -> Judged:
        place = bench.place(*self.target.cases)
        for copied in ("tables", "halfway/first/.state"):
            shutil.copytree(bench.root / copied, place / Path(copied).name)
        names = {name: case.name for name, case in bench.cases.items()}
        names |= {"halfway": f"{place}/halfway", "tables": f"{place}/other_tables"}
        if "{halfway}" in self.target.other:
            shutil.copytree(bench.root / "halfway/second", place / "halfway/second")
        if "{tables}" in self.target.other:
            shutil.copytree(bench.root / "other_tables", place / "other_tables")
        path = newest(place, self.target.pattern.format(**names))
        other = newest(place, self.target.other.format(**names).removeprefix(f"{place}/"))
        self.inflict(path, other)
        found = []
        for reader in self.target.readers:
            verdict, why = reader(bench, place)
            found.append((verdict, f"{reader.__name__}: {why}" if why else ""))
        return worst(found)

    def inflict(self, path: Path, other: Path) -> None:
        before = bytearray(path.read_bytes())
        at = int(self.where * len(before))
        if self.damage == "flipped":
            before[at] ^= 1 << self.bit
        elif self.damage == "cut":
            del before[at:]
        elif self.damage == "emptied":
            before.clear()
        elif self.damage == "swapped":
            before = bytearray(other.read_bytes())
        elif self.damage == "noise":
            before = bytearray(random.Random(at).randbytes(len(before)))
        if self.damage == "folder":
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(before)


def newest(place: Path, pattern: str) -> Path:
    """The newest file of a pattern."""
    return max(place.glob(pattern), key=lambda path: path.stat().st_mtime_ns)


def planned(rng: random.Random) -> list[Damage]:
    """Every target by every damage in turn."""
    return [
        Damage(TARGETS[i % len(TARGETS)], DAMAGES[i // len(TARGETS) % len(DAMAGES)], rng.random(), rng.randrange(8))
        for i in range(COUNT)
    ]
