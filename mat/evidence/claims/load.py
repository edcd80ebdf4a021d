"""The claims file, read strictly: a claim gives exactly what the rule of its measure asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.rules import rule_named
from mat.evidence.claims.verdict import VERDICTS
from mat.evidence.runs.curves import Convergence
from mat.evidence.text.yaml_reading import check_keys, one_of, real, text, texts, whole
from mat.records.costs import LEDGERS
from mat.records.yaml_file import read_yaml

_HEAD: Mapping[str, Callable[[str, Any], Any]] = {"id": text, "text": text, "reported": text}
_READ = _HEAD | {
    "rule": text,
    "fixed": text,
    "measure": text,
    "ledger": lambda where, value: one_of(where, value, (*LEDGERS, "none")),
    "tasks": lambda where, value: None if value == "all" else texts(where, value),
    "uses": lambda where, value: {role: _labels(f"{where}.{role}", found) for role, found in value.items()},
    "thresholds": lambda where, value: {
        name: real(f"{where}.{name}", found) for name, found in value.items()
    },
    "min_seeds": lambda where, value: whole(where, value, 2),
    "ambiguities": lambda where, value: tuple(texts(where, value)),
}


def load_claims(path: Path) -> Claims:
    """Read and check the claims file. Raises InputError at the first thing that is wrong."""
    where = path.name
    content = check_keys(where, read_yaml(path), ("convergence", "overall", "claims"))
    rule = check_keys(f"{where}: convergence", content["convergence"], ("epsilon", "window"))
    overall = check_keys(f"{where}: overall", content["overall"], ("mixed", "any_inconclusive"))
    for key, verdict in overall.items():
        one_of(f"{where}: overall.{key}", verdict, VERDICTS)
    if not isinstance(content["claims"], list) or not content["claims"]:
        raise InputError(f"{where}: claims: expected a list with at least one claim")
    claims = [_claim(f"{where}: claim {number}", entry) for number, entry in enumerate(content["claims"], 1)]
    ids = [claim.id for claim in claims]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise InputError(f"{where}: each claim may appear once, got {', '.join(twice)} twice")
    convergence = Convergence(
        epsilon=real(f"{where}: convergence.epsilon", rule["epsilon"]),
        window=whole(f"{where}: convergence.window", rule["window"], 1),
    )
    mixed, open_ = overall["mixed"], overall["any_inconclusive"]
    return Claims(
        convergence, mixed, open_, tuple(replace(claim, overall=(mixed, open_)) for claim in claims)
    )


def _claim(where: str, entry: Any) -> Claim:
    if isinstance(entry, dict) and isinstance(entry.get("id"), str):
        where = f"{where} ({entry['id']})"
    read = _HEAD | {"not_tested": text} if isinstance(entry, dict) and "not_tested" in entry else _READ
    check_keys(where, entry, read)
    if read is _READ:
        rule = rule_named(text(f"{where}.measure", entry["measure"]))
        check_keys(f"{where}.uses", entry["uses"], rule.roles)
        check_keys(f"{where}.thresholds", entry["thresholds"], rule.thresholds)
    return Claim(**{key: reader(f"{where}.{key}", entry[key]) for key, reader in read.items()})


def _labels(where: str, value: Any) -> list[str]:
    labels = texts(where, value if isinstance(value, list) else [value])
    if not labels:
        raise InputError(f"{where}: expected at least one label, got none")
    return labels
