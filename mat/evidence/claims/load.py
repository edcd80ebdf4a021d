"""The claims file, read strictly: a claim gives exactly what the rule of its measure asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mat.errors import InputError
from mat.evidence.claims.claim import ROLES, Claim, Claims, Entry
from mat.evidence.claims.rules import rule_named
from mat.evidence.claims.verdict import VERDICTS
from mat.evidence.measures.curves import Convergence
from mat.settings.strict import Strict, read, validate, wrong_keys
from mat.settings.yaml_file import read_yaml


class _Overall(Strict):
    mixed: Literal[VERDICTS]
    any_inconclusive: Literal[VERDICTS]


class _Validity(Strict):
    min_reached_ratio: Annotated[float, Field(ge=0, le=1)]


class _Correction(Strict):
    fixed: Annotated[str, Field(min_length=1)]


class _File(Strict):
    convergence: dict[str, Any]
    overall: _Overall
    correction: _Correction
    validity: _Validity
    claims: list[Any]


def load_claims(path: Path) -> Claims:
    """Read and check the claims file. Raises InputError at the first thing that is wrong."""
    content = read_yaml(path)
    try:
        return _claims(validate(_File, content))
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None


def _claims(file: _File) -> Claims:
    both = file.overall.mixed, file.overall.any_inconclusive
    claims = tuple(
        replace(_claim(f"claim {number}", given), overall=both, min_reached_ratio=file.validity.min_reached_ratio)
        for number, given in enumerate(file.claims, 1)
    )
    ids = [claim.id for claim in claims]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice or not claims:
        got = f"{', '.join(twice)} twice" if twice else "none"
        raise InputError(f"claims: expected at least one claim, and each once, got {got}")
    deciding = [claim.id for claim in claims if claim.superseded_by is None]
    for claim in claims:
        if claim.superseded_by not in (None, *deciding):
            raise InputError(
                f"claim {claim.id}: superseded_by: expected one of the claims that decide, {', '.join(deciding)}, got "
                f"{claim.superseded_by!r}"
            )
    return Claims(read(Convergence, file.convergence, "convergence"), *both, claims, file.correction.fixed)


def _claim(where: str, given: Any) -> Claim:
    if isinstance(given, dict):
        where = f"{where} ({given.get('id')})"
        if isinstance(given.get("uses"), dict):  # one label need not be a list
            uses = {role: [found] if isinstance(found, str) else found for role, found in given["uses"].items()}
            given = given | {"uses": uses}
    entry = read(Entry, given, where)
    rule = rule_named(entry.measure)
    for name, found, keys in (("uses", entry.uses, rule.roles), ("thresholds", entry.thresholds, rule.thresholds)):
        if said := wrong_keys(found, keys, keys):
            raise InputError(f"{where}.{name}: {said}")
    named = sorted({label for labels in entry.uses.values() for label in labels if label.startswith("<")})
    if unknown := [label for label in named if label not in ROLES]:
        raise InputError(f"{where}.uses: expected a label or one of {', '.join(ROLES)}, got {unknown[0]}")
    if entry.readings != bool(named) or (entry.readings and (rule.scale or rule.families)):
        raise InputError(
            f"{where}.readings: expected true where uses names what a reading brings ({', '.join(ROLES)}), of a rule "
            f"that judges tasks, and false elsewhere; got {entry.readings} with {', '.join(named) or 'none of these'}"
        )
    if entry.needs and (rule.families or rule.scale):
        raise InputError(
            f"{where}.needs: expected none, because {entry.measure} is not judged by task, got {entry.needs}"
        )
    return Claim(**vars(entry))
