"""The decision rules of the claims, read strictly from ``workflows/claims.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.evidence.claims import decisions
from mat.evidence.claims.rules.registry import rule_named
from mat.evidence.runs.curves import Convergence
from mat.evidence.text import yaml_reading
from mat.records.costs import LEDGERS

_HEAD = ("id", "text", "reported")
_TESTED = ("rule", "fixed", "measure", "ledger", "tasks", "uses", "thresholds", "min_seeds", "ambiguities")


@dataclass(frozen=True)
class Claim:
    """One claim. Either ``not_tested`` holds a reason, or the other fields hold its decision rule.

    ``fixed``: when the rule was written, and what had been seen by then. ``overall``: the file's verdicts for tasks
    that differ (mixed, any_inconclusive), which a rule over groups of tasks needs.
    """

    id: str
    text: str
    reported: str
    not_tested: str | None = None
    rule: str = ""
    fixed: str = ""
    measure: str = ""
    ledger: str = "none"
    tasks: list[str] | None = None  # None: every task
    uses: Mapping[str, list[str]] | None = None
    thresholds: Mapping[str, float] | None = None
    min_seeds: int = 0
    ambiguities: tuple[str, ...] = ()
    overall: tuple[str, str] = ("", "")

    def role(self, name: str) -> list[str]:
        """The labels that play a role in the rule."""
        return list((self.uses or {})[name])

    def one(self, name: str) -> str:
        """The one label of a role."""
        labels = self.role(name)
        if len(labels) != 1:
            raise InputError(
                f"claim {self.id}: role '{name}' needs exactly one label, got {', '.join(labels) or 'none'}"
            )
        return labels[0]

    def played_by(self, role: str, label: str) -> Claim:
        """The same claim with ``label`` alone in a role."""
        return replace(self, uses={**(self.uses or {}), role: [label]})


@dataclass(frozen=True)
class Claims:
    """The whole file: what holds for every claim, and the claims in their order."""

    convergence: Convergence
    mixed: str
    any_inconclusive: str
    claims: tuple[Claim, ...]


def load_claims(path: Path) -> Claims:
    """Read and check the claims file. Raises InputError at the first thing that is wrong."""
    where = path.name
    content = yaml_reading.check_keys(
        where, yaml_reading.read_yaml(path), ("convergence", "overall", "claims")
    )
    rule = yaml_reading.check_keys(f"{where}: convergence", content["convergence"], ("epsilon", "window"))
    overall = yaml_reading.check_keys(f"{where}: overall", content["overall"], ("mixed", "any_inconclusive"))
    for key, verdict in overall.items():
        if verdict not in decisions.VERDICTS:
            raise InputError(
                f"{where}: overall.{key}: expected one of {', '.join(decisions.VERDICTS)}, got {verdict!r}"
            )
    if not isinstance(content["claims"], list) or not content["claims"]:
        raise InputError(f"{where}: claims: expected a list with at least one claim")
    claims = tuple(
        replace(
            _claim(f"{where}: claim {number}", entry), overall=(overall["mixed"], overall["any_inconclusive"])
        )
        for number, entry in enumerate(content["claims"], 1)
    )
    ids = [claim.id for claim in claims]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise InputError(f"{where}: each claim may appear once, got {', '.join(twice)} twice")
    convergence = Convergence(
        epsilon=yaml_reading.real(f"{where}: convergence.epsilon", rule["epsilon"]),
        window=yaml_reading.whole(f"{where}: convergence.window", rule["window"], 1),
    )
    return Claims(convergence, overall["mixed"], overall["any_inconclusive"], claims)


def _claim(where: str, entry: Any) -> Claim:
    if isinstance(entry, dict) and isinstance(entry.get("id"), str):
        where = f"{where} ({entry['id']})"
    if isinstance(entry, dict) and "not_tested" in entry:
        yaml_reading.check_keys(where, entry, (*_HEAD, "not_tested"))
        return Claim(**{key: yaml_reading.text(f"{where}.{key}", value) for key, value in entry.items()})
    yaml_reading.check_keys(where, entry, (*_HEAD, *_TESTED))
    rule = rule_named(yaml_reading.text(f"{where}.measure", entry["measure"]))
    uses = yaml_reading.check_keys(f"{where}.uses", entry["uses"], rule.roles)
    thresholds = yaml_reading.check_keys(f"{where}.thresholds", entry["thresholds"], rule.thresholds)
    if entry["ledger"] not in (*LEDGERS, "none"):
        raise InputError(
            f"{where}.ledger: expected one of {', '.join(LEDGERS)}, none; got {entry['ledger']!r}"
        )
    tasks = None if entry["tasks"] == "all" else yaml_reading.texts(f"{where}.tasks", entry["tasks"])
    return Claim(
        **{
            key: yaml_reading.text(f"{where}.{key}", entry[key])
            for key in (*_HEAD, "rule", "fixed", "measure")
        },
        ledger=entry["ledger"],
        tasks=tasks,
        uses={role: _labels(f"{where}.uses.{role}", value) for role, value in uses.items()},
        thresholds={
            name: yaml_reading.real(f"{where}.thresholds.{name}", value) for name, value in thresholds.items()
        },
        min_seeds=yaml_reading.whole(f"{where}.min_seeds", entry["min_seeds"], 2),
        ambiguities=tuple(yaml_reading.texts(f"{where}.ambiguities", entry["ambiguities"])),
    )


def _labels(where: str, value: Any) -> list[str]:
    labels = yaml_reading.texts(where, value if isinstance(value, list) else [value])
    if not labels:
        raise InputError(f"{where}: expected at least one label, got none")
    return labels
