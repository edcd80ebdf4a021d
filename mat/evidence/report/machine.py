"""The claims with their verdicts and effects, for other programs; ``workflows/schemas/claims.schema.json`` says how."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.pooling import OVER
from mat.evidence.claims.readings import apart
from mat.evidence.report import forest
from mat.evidence.report.finding import found
from mat.evidence.runs.pooled import Tables
from mat.evidence.text import words

NAME, SCHEMA = "claims.json", "workflows/schemas/claims.schema.json"


def text(tables: Tables, claims: Claims) -> str:
    """The document of a scale, as JSON. Numbers that are not known, and ends of a region that has none, are null."""
    frame = tables.made.get("verdicts")
    said = "" if frame is None else " ".join(found(frame, claims).headline).replace("*", "")
    judged = [] if frame is None else [_claim(claim, frame[frame["claim"] == claim.id]) for claim in claims.claims]
    document = {
        "scale": tables.scale, "selection": tables.selection, "command": tables.command, "confidence": 0.95,
        "finding": said, "claims": list(filter(None, judged)),
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def _claim(claim: Claim, rows: pd.DataFrame) -> dict[str, Any] | None:
    if rows.empty:
        return None
    return {
        "id": claim.id, "text": claim.text, "reported": claim.reported, "rule": claim.rule, "fixed": claim.fixed,
        "superseded_by": claim.superseded_by, "thresholds": claim.thresholds, "min_seeds": claim.min_seeds,
        "open_choices": claim.ambiguities,
        "verdicts": [_verdict(claim, same) for _, same in rows.groupby("task", sort=False)],
    }  # fmt: skip


def _verdict(claim: Claim, rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    return {
        "task": first["task"], "name": words.place(first["task"]),
        "verdict": first["verdict"], "after_correction": first["after_correction"],
        "p_value": _number(first["p_value"]), "reason": first["reason"],
        "effects": [_effect(row, claim.readings) for row in rows[rows["part"] != ""].to_dict("records")],
    }  # fmt: skip


def _effect(row: dict[str, Any], readings: bool) -> dict[str, Any]:
    reading, part = apart(row["part"], readings)
    return {
        "part": part, "reading": reading, "pooled": part.endswith(OVER), "decides": bool(row["decides"]),
        **{name: _number(row[name]) for name in ("effect", "low", "high")}, "n": int(row["n"]), "unit": row["unit"],
        "ledger": row["ledger"],
        "asked": [[_number(low), _number(high)] for low, high in forest.pieces(row.get("asked", ""))],
    }  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
