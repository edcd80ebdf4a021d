"""What attacks start from: a few miniature runs that nothing disturbed, and what is made of them."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from mat.experiments.config.spec import Spec
from mat.records.columns import FINAL_KEYS, RUN_KEYS
from mat.records.files import CURVE, FINAL, PROBES, RUN, read_whole
from mat.records.run import RECORDS
from tests.campaign.commands import Command, computed, counting, done, killed_at, nothing
from tests.experiments.cli.small_run import SPEC
from tests.experiments.tasks.made_images import write_images

REPOSITORY = Path(__file__).parents[2]
CLOCK = "seconds"  # what is measured by a clock differs from run to run
SMALL = {
    **SPEC,
    "model": {"name": "vgg", "plan": [4, "M"], "filter_groups": 2},
    "recipe": {**SPEC["recipe"], "epochs": 1, "evaluate_every": 3},
    "probe": {"n": 4, "every": 3},
}
TEXT = {
    "task": {"name": "hmm", "length": 8, "train": 128, "validation": 32, "test": 32},
    "model": {"name": "bert", "width": 16, "heads": 2, "layers": 1},
    "method": {"name": "mat"},
    "recipe": {"batch": 32, "epochs": 2, "evaluate_every": 3},
    "probe": {"n": 4, "directions": 2, "every": 3},
}
PICTURES = {**SMALL, "task": {"name": "cifar10", "validation_examples": 20}, "recipe": {**SMALL["recipe"], "batch": 10}}


@dataclass(frozen=True)
class Case:
    """A run: its specification, its own options, the runs that it reads."""

    spec: Spec
    options: tuple[str, ...] = ()
    needs: tuple[Spec, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    def argv(self, folder: Path, save_every: float = 0) -> list[object]:
        """The command that trains it, below ``folder``."""
        saving = ("--save-every", save_every, "--cache", folder / "cache")
        return ["train", "--spec", self.spec.json, "--out", folder / self.name, *saving, *self.options]


def cases(data: Path) -> dict[str, Case]:
    """The runs by name; ``data``: a mirror with pictures."""
    first, text = Spec.of(SMALL), Spec.of(TEXT)
    follower = Spec.of({**SMALL, "method": {"name": "random", "match": first.name}})
    started = Spec.of({**TEXT, "start": {"run": text.name}, "method": {"name": "vanilla"}})
    return {
        "first": Case(first),
        "second": Case(replace(first, seed=1)),
        "follower": Case(follower, needs=(first,)),
        "text": Case(text, ("--checkpoint",)),
        "other_text": Case(replace(text, seed=1), ("--checkpoint",)),
        "started": Case(started, needs=(text,)),
        "pictures": Case(Spec.of(PICTURES), ("--data", str(data))),
    }


@dataclass(frozen=True)
class Bench:
    """``root``: ``runs``, one folder by each run's name, and their ``cache``; ``halfway``: the same runs, each killed
    when it had saved a few states; ``tables``: the first two, pooled. ``seconds`` and file ``operations`` of each case;
    ``whole``: what is in each run's folder; ``shown``: what ``mat show`` says of the first."""

    root: Path
    cases: dict[str, Case]
    seconds: dict[str, float]
    operations: dict[str, int]
    whole: dict[str, dict[str, str]]
    shown: str = ""

    @cached_property
    def runs(self) -> Path:
        return self.root / "runs"

    def place(self, *names: str) -> Path:
        """A new folder with copies of these cases' finished runs, and the cache."""
        folder = Path(tempfile.mkdtemp(dir=self.root, prefix="attack-"))
        shutil.copytree(self.runs / "cache", folder / "cache")
        for name in names:
            shutil.copytree(self.runs / self.cases[name].name, folder / self.cases[name].name)
        return folder

    def difference(self, name: str, folder: Path, retrained: bool = True) -> str:
        """How the run below ``folder`` differs from the undisturbed one, "" for not at all: in all that is read of it,
        times apart where it was trained again."""
        found = computed(partial(content, folder / self.cases[name].name))
        keep = (lambda key: is_result(key)) if retrained else (lambda key: True)
        expected = {key: value for key, value in self.whole[name].items() if keep(key)}
        other = [key for key, value in expected.items() if found.get(key) != value]
        return f"{name}: other {', '.join(other)[:200]}" if other else ""


def content(run: Path) -> dict[str, str]:
    """What a run's folder holds, by file and part."""
    found = {}
    for name in RECORDS:
        try:
            if name.endswith(".json"):
                parts = {key: json.dumps(value, sort_keys=True) for key, value in json.loads(_text(run / name)).items()}
            else:
                frame = read_whole(run / name)
                parts = {column: _exactly(frame[column]) for column in frame}
            found |= {f"{name}:{key}": value for key, value in parts.items()}
        except Exception as error:  # damaged files fail in many ways
            found[f"{name}:"] = str(error)
    for path in sorted((run / "checkpoint").glob("*")):
        found[f"{path.name}:checkpoint"] = path.read_bytes().hex()
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _exactly(column: pd.Series) -> str:
    """The values of a column, to the last bit."""
    values = column.to_numpy()
    return repr(values.tolist()) if values.dtype == object else f"{values.dtype} {values.tobytes().hex()}"


def is_result(key: str) -> bool:
    """Whether two trainings of one run give the same there."""
    file, _, part = key.partition(":")
    if file in (RUN, FINAL):
        return part in (*RUN_KEYS, *FINAL_KEYS)
    return file not in (CURVE, PROBES) or CLOCK not in part


def made(root: Path, names: Container[str] | None = None) -> Bench:
    """A bench in the folder ``root`` with these cases, or all: each trained once, the first two also until three states
    were saved, and pooled."""
    data = root / "mirror"
    known = {name: case for name, case in cases(data).items() if names is None or name in names}
    if "pictures" in known:
        computed(partial(_mirror, data))
    bench = Bench(root, known, {}, {}, {})
    (bench.runs / "cache").mkdir(parents=True)
    for name, case in known.items():
        bench.operations[name] = _trained(bench, name, case)
        bench.whole[name] = computed(partial(content, bench.runs / case.name))
    for name in ("first", "second"):
        folder = root / "halfway" / name
        shutil.copytree(bench.runs / "cache", folder / "cache")
        after = killed_at(1 + 2 * 3, folder / ".state", ["os.rename"])  # each state's seal and its folder
        Command(known[name].argv(folder), folder, after).wait()
    for tables, pooled in (("tables", ("first", "second")), ("other_tables", ("second",))):
        _well(["step", "collect", *(bench.runs / known[name].name for name in pooled), "--tables", root / tables], root)
        _well(["step", "table", "results", "--tables", root / tables], REPOSITORY)
    return replace(bench, shown=_well(["show", bench.runs / known["first"].name], root))


def _mirror(data: Path) -> None:
    from mat.experiments.tasks.cifar10 import ORIGIN

    folder = data / ORIGIN.repo / ORIGIN.part
    write_images(folder, "train", 50, 0)
    write_images(folder, "test", 20, 1)


def _trained(bench: Bench, name: str, case: Case) -> int:
    """Train a case; the number of its operations on files."""
    counted, start = bench.root / f"{name}.operations", time.monotonic()
    _well(case.argv(bench.runs), bench.runs, counting(bench.runs, counted))
    bench.seconds[name] = time.monotonic() - start
    return counted.stat().st_size


def _well(argv: list[object], folder: Path, before: Callable[[], None] = nothing) -> str:
    """What an undisturbed command says."""
    ended = done(argv, folder, before)
    if ended.status != 0:
        raise RuntimeError(f"the undisturbed command failed: {ended.said[-2000:]}")
    return ended.said
