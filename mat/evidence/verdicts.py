"""Evaluate every claim on the tables: one outcome per task and one over all tasks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mat.evidence import decisions, write
from mat.evidence.claims import Claim, Claims
from mat.evidence.measures import Convergence
from mat.evidence.outcomes import Effect, Outcome
from mat.evidence.rules import rule_named
from mat.evidence.statistics import Interval
from mat.evidence.tables import Tables

ALL = "all"
_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"), 0)
_NOTHING = Effect("", _UNKNOWN, "", "none")
_NOT_METHODS = ("kinds", "references")


def verdicts(tables: Tables, claims: Claims) -> pd.DataFrame:
    """One row per claim with task ``all``, then one per claim × task × number behind the verdict.

    A claim's ``all`` row has no effect (tasks have different units); its n is the smallest over tasks.

    Columns: claim, task, verdict, part, decides, effect, low, high, n, unit, ledger, scale,
    ambiguities, reason. ``decides`` is False for numbers that are only shown beside.
    """
    rows = []
    for claim in claims.claims:
        outcomes = (
            {}
            if claim.not_tested
            else {place: outcome(tables, place, claim, claims.convergence) for place in places(tables, claim)}
        )
        for task, found in {ALL: overall(claim, outcomes, claims), **outcomes}.items():
            rows += [_row(claim, task, found, effect, tables.scale) for effect in found.effects or [_NOTHING]]
    return pd.DataFrame(rows)


def places(tables: Tables, claim: Claim) -> list[str]:
    """What a claim is judged on: the tasks, or the families of the table that its rule reads."""
    table = rule_named(claim.measure).families
    return tables.families_of(table) if table else tables.tasks


def outcome(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """One claim on one task: tested only with runs of every method named, decided only with enough seeds."""
    if claim.tasks is not None and task not in claim.tasks:
        return Outcome(decisions.NOT_TESTED, f"The rule leaves task {task} out.")
    rule = rule_named(claim.measure)
    present = set(tables.methods(task))
    for role in sorted(rule.roles - set(_NOT_METHODS)):
        absent = [label for label in claim.role(role) if label not in present]
        if absent and (role != rule.any_role or len(absent) == len(claim.role(role))):
            return Outcome(decisions.NOT_TESTED, f"No runs of {', '.join(absent)} at this scale.")
    found = rule.evaluate(tables, task, claim, convergence)
    seeds = min((effect.interval.n for effect in found.effects if effect.decides), default=claim.min_seeds)
    if found.verdict != decisions.NOT_TESTED and seeds < claim.min_seeds:
        diverged = int((tables.runs.loc[tables.runs["task"] == task, "status"] == "diverged").sum())
        reason = (
            f"The rule needs {claim.min_seeds} finished seeds of every method compared and has {seeds} "
            f"({diverged} of the task's runs diverged)."
        )
        return Outcome(decisions.INCONCLUSIVE, reason, found.effects)
    return found


def overall(claim: Claim, outcomes: dict[str, Outcome], claims: Claims) -> Outcome:
    """The verdict over tasks (``decisions.combine``), with the verdict of every task as its reason."""
    if claim.not_tested:
        return Outcome(decisions.NOT_TESTED, claim.not_tested)
    if not outcomes:
        return Outcome(decisions.NOT_TESTED, "Nothing was measured for it at this scale.")
    verdict = decisions.combine(
        (found.verdict for found in outcomes.values()), claims.mixed, claims.any_inconclusive
    )
    reason = "; ".join(f"{task}: {found.verdict}{_brackets(found)}" for task, found in outcomes.items())
    decide = [effect for found in outcomes.values() for effect in found.effects if effect.decides]
    seeds = min((effect.interval.n for effect in decide), default=0)
    return Outcome(verdict, reason + ".", [Effect("", _UNKNOWN._replace(n=seeds), "", claim.ledger)])


def write_verdicts(frame: pd.DataFrame, claims: Claims, folder: Path, command: str) -> None:
    """``verdicts.csv`` (every number) and ``verdicts.md`` (to read, made by ``command``) into ``folder``."""
    write.csv(frame, folder / "verdicts.csv")
    write.text(markdown(frame, claims, command), folder / "verdicts.md")


def markdown(frame: pd.DataFrame, claims: Claims, command: str) -> str:
    """Verdict per claim, then per task with its numbers, then the rules they were judged by."""
    about = {claim.id: claim for claim in claims.claims}
    top = frame[frame["task"] == ALL]
    parts = [
        f"# Verdicts at scale {frame['scale'].iloc[0]}",
        "Rules fixed before the runs in `workflows/claims.yaml`; intervals are 95 % over seeds; made by "
        f"`{command}`.",
        write.markdown_table(
            ("claim", "text", "reported", "verdict", "why"),
            [
                (
                    row.claim,
                    about[row.claim].text,
                    about[row.claim].reported,
                    f"**{row.verdict}**",
                    row.reason,
                )
                for row in top.itertuples()
            ],
        ),
        "## By task",
        write.markdown_table(
            ("claim", "task", "verdict", "effect [95 %]", "n", "unit", "ledger", "depends on", "why"),
            [_cells(rows) for _, rows in frame[frame["task"] != ALL].groupby(["claim", "task"], sort=False)],
        ),
        "## Rules",
        "\n".join(_rule_text(claim) for claim in claims.claims if not claim.not_tested),
        "- Over tasks: all equal gives that verdict; otherwise any inconclusive task gives "
        f"{claims.any_inconclusive}, and a mixture of the rest gives {claims.mixed}. Tasks not tested are "
        "left out.\n"
        f"- Convergence: within {100 * claims.convergence.epsilon:g} % of the run's best validation loss, "
        f"smoothed over {claims.convergence.window} evaluations.",
    ]
    return "\n\n".join(parts)


def lines(frame: pd.DataFrame) -> Iterable[str]:
    """One line per claim for the terminal."""
    for row in frame[frame["task"] == ALL].itertuples():
        yield f"{row.claim:<4} {row.verdict:<25} {row.reason}"


def _brackets(found: Outcome) -> str:
    shown = [
        f"{effect.part} {write.estimate(effect.interval)} {effect.unit}"
        for effect in found.effects
        if effect.decides
    ]
    return f" ({', '.join(shown) or found.reason.rstrip('.')})"


def _rule_text(claim: Claim) -> str:
    numbers = ", ".join(f"{name} {value:g}" for name, value in (claim.thresholds or {}).items())
    values = f" ({numbers})" if numbers else ""
    return f"- **{claim.id}**: {claim.rule} At least {claim.min_seeds} seeds.{values}"


def _cells(rows: pd.DataFrame) -> tuple[str, ...]:
    first, shown = rows.iloc[0], rows[rows["decides"] & (rows["part"] != "")]

    def joined(cell: object) -> str:
        return "; ".join(cell(row) for row in shown.itertuples()) or write.MISSING

    return (
        first["claim"], first["task"], f"**{first['verdict']}**", joined(_effect),
        joined(lambda row: str(row.n)), joined(lambda row: row.unit), joined(lambda row: row.ledger),
        first["ambiguities"] or write.MISSING, first["reason"],
    )  # fmt: skip


def _effect(row: object) -> str:
    return f"{row.part}: {write.estimate(Interval(row.effect, row.low, row.high, row.n))}"


def _row(claim: Claim, task: str, found: Outcome, effect: Effect, scale: str) -> dict[str, object]:
    value, reason = effect.interval, found.reason
    return {
        "claim": claim.id, "task": task, "verdict": found.verdict, "part": effect.part,
        "decides": effect.decides,
        "effect": value.mean, "low": value.low, "high": value.high, "n": value.n, "unit": effect.unit,
        "ledger": effect.ledger, "scale": scale, "ambiguities": " ".join(claim.ambiguities),
        "reason": reason if task == ALL else reason[:1].upper() + reason[1:],
    }  # fmt: skip
