"""Altered configs: every key misspelt, every value of a wrong type or range, hostile labels, texts that are none."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mat.evidence.runs import pooled
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.config.spec import Spec
from mat.experiments.studies import ceiling
from mat.experiments.studies.registry import STUDIES
from mat.settings.yaml_file import read_yaml
from tests.campaign.bench import REPOSITORY, SMALL, Bench
from tests.campaign.commands import computed, done
from tests.campaign.kills import STEP
from tests.campaign.outcomes import Judged, Verdict, refused, worst

SHARE, TOLD = 0.25, "mat: error: "
SCALE = REPOSITORY / "tests/end_to_end/mini.yaml"
FREE = ("tasks", "methods", "families", "models", "shapes")  # keys below them are labels
WRONG = (None, True, "text", "", -1, 0, 1.5, 5, 10**6, 10**20, float("inf"), float("nan"), [], {}, [None])
LABELS = (
    *("", " ", "NA", "nan", "null", "None", "True", ".", "..", "../..", "/etc", "-rf", "a,b", "a b", "a\nb", "a|b"),
    *("$x$", "_x_", "*x*", "![i](http://example.org/i.png)", "<script>alert(1)</script>", "`x`", "{x}", "%s", "é" * 9),
    *("x" * 300, "\x1b[31m", "‮x", "'; rm -rf x; '", "a\x00b", "1", "1e3"),
)
MARKUP = ("<", "![", "$", "|", "`", "\x1b", "\n", "\u202e")
SPEC = json.loads(Spec.of(SMALL).json)  # with every default written out


def paths(tree: Any, above: tuple = ()) -> Iterator[tuple]:
    """The places of all keys and items."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield (*above, key)
        yield from paths(value, (*above, key))


def at(tree: Any, path: tuple) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def kind_of(value: Any) -> str:
    names = {bool: "truth", int: "number", float: "number", str: "text", list: "list", dict: "mapping"}
    return names.get(type(value), "nothing")


@dataclass(frozen=True)
class Alteration:
    """Of the ``carrier``, a scale or one run's specification: the key at ``path`` misspelt, or another value there."""

    carrier: str
    path: tuple
    value: Any
    misspelt: bool = False

    @property
    def kind(self) -> str:
        return f"{self.carrier}: {'misspelt keys' if self.misspelt else 'wrong values'}"

    @property
    def what(self) -> str:
        return f"{'.'.join(map(str, self.path))} {'misspelt ' if self.misspelt else ''}{self.value!r:.60}"

    @property
    def original(self) -> Any:
        return SPEC if self.carrier == "specification" else read_yaml(SCALE)

    @property
    def never_right(self) -> bool:
        """Whether nothing of the kind may be accepted: a key that there is none, a value of another type."""
        before, given = kind_of(at(self.original, self.path)), kind_of(self.value)
        return self.misspelt or (before != given and "nothing" not in (before, given))

    def altered(self) -> Any:
        tree = copy.deepcopy(self.original)
        block, key = at(tree, self.path[:-1]), self.path[-1]
        if self.misspelt:
            block[self.value] = block.pop(key)
        else:
            block[key] = self.value
        return tree

    def carry_out(self, bench: Bench) -> Judged:
        place, altered = bench.place(), self.altered()
        if self.carrier == "specification":
            found = trained(json.dumps(altered), place)
            if found[0] is Verdict.RECOVERED and not self.never_right:
                return _as_given(place / "out", self.path, self.value)
        else:
            found = read_as_scale(yaml.safe_dump(altered), place)
            if found[0] is Verdict.RECOVERED and not self.never_right:
                return carried_through(place)
        return (Verdict.SILENT, "accepted") if found[0] is Verdict.RECOVERED else found


def trained(spec: str, place: Path, *options: object) -> Judged:
    """One run of a specification: refused before its first step, or trained."""
    argv = ["train", "--spec", spec, "--out", place / "out", "--cache", place / "cache", *options]
    ended = done(argv, place)
    found = refused(ended) or (Verdict.RECOVERED, "")
    if found[0] is Verdict.CLEAR and STEP.search(ended.said):
        return Verdict.LOST, f"after training: {found[1]}"
    return found


def _as_given(run: Path, path: tuple, value: Any) -> Judged:
    """Whether a run's record says what was given."""
    record = json.loads((run / "run.json").read_text())
    if path[0] in ("seed", "threads"):
        record["spec"][path[0]] = record[path[0]]
    said = at(record["spec"], path)
    same = said == value or (said != said and value != value) or (value == {} and isinstance(said, dict))  # defaults
    return (Verdict.RECOVERED, "") if same else (Verdict.SILENT, f"the record says {said!r}")


def read_as_scale(text: str | bytes, place: Path) -> Judged:
    """What the plan and the workflow say of a config."""
    path = place / "mini.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    planned = done(["plan", "--config", path, "--rate", 1], place)
    found = refused(planned)
    if found is not None:
        return found
    return computed(partial(_by_workflow, path))


def _by_workflow(path: Path) -> Judged:
    """The checks that the workflow does before any job."""
    try:
        config = read_scale(path)
        expand(config), ceiling.models_of(config)
        for study in STUDIES.values():
            study.jobs(config)
    except Exception as error:
        clear = type(error).__name__ == "InputError"
        return (Verdict.SILENT if clear else Verdict.TRACEBACK), f"planned, but the workflow says {error!r:.200}"
    return Verdict.RECOVERED, ""


def carried_through(place: Path) -> Judged:
    """The first of the runs that differ from the unaltered scale's is trained."""
    spec = computed(partial(_first_other, place / "mini.yaml"))
    return trained(spec, place) if spec else (Verdict.RECOVERED, "")


def _first_other(path: Path) -> str | None:
    known = {run.spec.name for run in expand(read_scale(SCALE))}
    others = [run.spec for run in expand(read_scale(path)) if run.spec.name not in known and run.follows is None]
    return others[0].json if others else None


@dataclass(frozen=True)
class HostileLabel:
    """``where``: which label of a config, or of a run."""

    where: str
    label: str
    kind: str = "hostile labels"

    @property
    def what(self) -> str:
        return f"{self.where} {self.label!r:.60}"

    def carry_out(self, bench: Bench) -> Judged:
        place = bench.place()
        if self.where.startswith("run's "):
            return self._trained(self.where.removeprefix("run's "), place)
        config = read_yaml(SCALE)
        if self.where == "tag":
            config["tasks"]["digits"]["tags"] = [self.label]
        elif self.where == "scale":
            config["scale"] = self.label
        elif self.where == "family":
            config["branches"]["families"] = {self.label: {"of": "digits"}}
        else:
            config[f"{self.where}s"][self.label] = config[f"{self.where}s"].pop(
                {"task": "broken", "method": "vanilla"}[self.where]
            )
        found = read_as_scale(yaml.safe_dump(config), place)
        if found[0] is not Verdict.RECOVERED or self.where in ("tag", "family"):
            return self._harmless() if found[0] is Verdict.RECOVERED else found
        return self._trained(self.where, place)

    def _trained(self, what: str, place: Path) -> Judged:
        """A run whose scale, task or method has the label."""
        labels = {"scale": "s", "task": "t", "method": "m", what: self.label}
        found = trained(json.dumps(SMALL), place, "--labels", json.dumps(labels))
        return self._in_tables(place) if found[0] is Verdict.RECOVERED else found

    def _harmless(self) -> Judged:
        """No name of a file or a column, or text of a page, can come of it that means something else."""
        bad = [sign for sign in (*MARKUP, "/", "..") if sign in self.label]
        ends = not self.label.strip() or len(self.label) > 200
        return (Verdict.SILENT, "accepted") if bad or ends else (Verdict.RECOVERED, "")

    def _in_tables(self, place: Path) -> Judged:
        """The label comes back out of the pooled tables, and stands on the page as itself."""
        steps = [done(["step", "collect", place / "out", "--tables", place / "tables"], REPOSITORY)]
        if steps[0].status == 0:
            steps.append(done(["step", "table", "results", "--tables", place / "tables"], REPOSITORY))
        ends = [one for one in map(refused, steps) if one]
        if ends:
            verdict, why = worst(ends)
            return (Verdict.LOST if verdict is Verdict.CLEAR else verdict), f"after training: {why}"
        read = computed(partial(_pooled_labels, place / "tables"))
        if self.label not in read:
            return Verdict.SILENT, f"the tables have {read[:3]}"
        if any(sign in self.label for sign in MARKUP) and self.label in (place / "tables/results.md").read_text():
            return Verdict.SILENT, "stands raw on the page"
        return Verdict.RECOVERED, ""


def _pooled_labels(tables: Path) -> list[str]:
    runs: pd.DataFrame = pooled.load(tables).runs
    return [str(value) for name in ("scale", "task", "method") for value in runs[name]]


@dataclass(frozen=True)
class NoText:
    """A config that is not what a config is at all."""

    carrier: str
    name: str
    content: bytes | None
    kind: str = "configs that are none"

    @property
    def what(self) -> str:
        return f"{self.carrier} {self.name}"

    def carry_out(self, bench: Bench) -> Judged:
        place = bench.place()
        path = place / "given"
        if self.content is None:
            path.mkdir()
        else:
            path.write_bytes(self.content)
        if self.carrier == "scale":
            found = refused(done(["plan", "--config", path, "--rate", 1], place))
        elif self.carrier == "labels":
            argv = ["train", "--spec", json.dumps(SMALL), "--out", place / "out", "--labels", path]
            ended = done(argv, place)
            found = refused(ended)
            if found and found[0] is Verdict.CLEAR and STEP.search(ended.said):
                found = Verdict.LOST, f"after training: {found[1]}"
        else:
            found = refused(done(["train", "--spec", path, "--out", place / "out"], place))
        return found or (Verdict.SILENT, "accepted")


NO_TEXTS = {
    "emptied": b"",
    "a folder": None,
    "binary": bytes(range(256)),
    "UTF-16": "scale: mini".encode("utf-16"),
    "Latin-1": "scale: mïni".encode("latin-1"),
    "zeros": b"\x00" * 64,
    "deeply nested": b"[" * 20_000,
    "a list": b"[1, 2]",
    "a number": b"3",
    "aliases of aliases": b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 121)),
    "a key twice": b'{"seed": 1, "seed": 2}',
}


def planned(rng: random.Random) -> list[Any]:
    """All of them, in random order."""
    found: list[Any] = []
    for carrier, tree in (("specification", SPEC), ("scale", read_yaml(SCALE))):
        for path in paths(tree):
            if isinstance(path[-1], str) and not (len(path) > 1 and path[-2] in FREE):
                place = rng.randrange(len(path[-1]))
                found.append(Alteration(carrier, path, f"{path[-1][:place]}x{path[-1][place:]}", misspelt=True))
            before = at(tree, path)
            wrong = [value for value in WRONG if kind_of(value) != kind_of(before) or value != before]
            found += [Alteration(carrier, path, value) for value in rng.sample(wrong, 4 if carrier == "scale" else 7)]
    for where in ("task", "method", "scale", "tag", "family", "run's task", "run's method", "run's scale"):
        found += [HostileLabel(where, label) for label in rng.sample(LABELS, 12)]
    found += [NoText(carrier, *one) for carrier in ("scale", "specification", "labels") for one in NO_TEXTS.items()]
    rng.shuffle(found)
    return found
