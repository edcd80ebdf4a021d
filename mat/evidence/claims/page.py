"""The verdicts as a page and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.readings import Reading
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_TESTED, tops
from mat.evidence.stats.bootstrap import COVERAGE
from mat.evidence.stats.intervals import Interval
from mat.evidence.stats.multiplicity import LEVEL
from mat.evidence.stats.power import POWER
from mat.evidence.tables import sanity
from mat.evidence.text import format, words
from mat.evidence.text.format import ALL

HEADER = (
    "claim", "task", "verdict", "after correction", "effect [95 %]", "bootstrap", "n", "unit", "ledger",
    "would show", "seeds it would take", "has vanilla learned?", "depends on", "why",
)  # fmt: skip


def markdown(frame: pd.DataFrame, claims: Claims, command: str, readings: Sequence[Reading] = ()) -> str:
    """Verdict per claim, then per task with its numbers, then how to read them and the rules they were judged by."""
    about = {claim.id: claim for claim in claims.claims}
    top = tops(frame)
    parts = [
        f"# Verdicts at scale {frame['scale'].iloc[0]}",
        "Rules are those of `workflows/claims.yaml`, each with when it was fixed; intervals are 95 % over seeds; "
        f"made by `{command}`.",
        format.markdown_table(
            ("claim", "text", "reported", "verdict", "after correction", "why"),
            [
                (row.claim, about[row.claim].titled, about[row.claim].reported, format.bold(row.verdict),
                 row.after_correction or format.MISSING, words.text(row.reason))
                for row in top.itertuples()
            ],
        ),
        "## By task",
        format.markdown_table(
            HEADER,
            [_cells(rows) for _, rows in frame[frame["task"] != ALL].groupby(["claim", "task"], sort=False)],
        ),
        format.how_to_read(notes(frame, claims)),
        "## Rules",
        format.bullets(f"**{claim.id}**: {rule_text(claim)} Fixed {claim.fixed}." for claim in claims.claims),
        combination(claims),
    ]  # fmt: skip
    if readings:
        about_them = "\n".join(f"- **{each.id}** (`{each.method}`): {each.text}" for each in readings)
        parts += ["## Readings", about_them]
    return "\n\n".join(parts)


def combination(claims: Claims) -> str:
    """How tasks give one verdict, and what convergence is."""
    return (
        "- Over tasks: all equal gives that verdict; otherwise any inconclusive task gives "
        f"{claims.any_inconclusive}, and a mixture of the rest gives {claims.mixed}. Tasks not tested are left out. "
        "Beside it the effect over tasks of a part that they have in common: random-effects model, τ² by Paule and "
        "Mandel, Hartung and Knapp's interval; a claim whose rule says so is judged on that.\n"
        f"- Convergence: within {100 * claims.convergence.epsilon:g} % of the run's best validation loss, "
        f"smoothed over {claims.convergence.window} evaluations."
    )


def notes(frame: pd.DataFrame, claims: Claims) -> list[str]:
    """What correction, bootstrap, power and sanity mean here."""
    first = frame.iloc[0]
    held = "; ".join(
        f"{shape}, n = {n}: {100 * percentile:.0f} % (t {100 * t:.0f} %)"
        for shape, by_n in COVERAGE.items()
        for n, (t, percentile) in by_n.items()
    )
    return [
        f"After correction: the verdict where it would be lost only at an error that Holm's correction allows, else "
        f"{INCONCLUSIVE}; so a correction makes no verdict stronger, and turns none into another. Its p-value is that "
        f"error, one-sided, from the same t statistics; over tasks the largest. Of the {first['claims_tested']} claims "
        f"tested at this scale that decide, inconclusive ones included, the smallest is asked to be at most {LEVEL:g} "
        "divided by their number, the next by one less, up to the first that is not: so with 95 % none of the verdicts "
        "that are left is by chance, whatever runs they share. A task's verdict is asked for what its claim is, not "
        "corrected for the number of tasks: over tasks a claim is supported only where every task supports it, "
        "but one task among many may be by chance. Nor is it corrected for the parts of a rule: harmless "
        "where all must hold (supported in C6, X1b), not where one of several is enough (partly in C1, C6, "
        "X1b; more memorised in C3). Rules that are superseded by others are shown as ever, without a corrected "
        f"verdict, and make no correction stricter; that was fixed {claims.corrected}.",
        "Effects are t intervals, which decide. Bootstrap: percentile bounds over seeds, beside. Over so few seeds "
        f"they are too narrow: of intervals that say 95 %, the true mean is in: {held} "
        "(`python -m tests.benchmarks.coverage`).",
        f"Would show: the smallest effect that the seeds at hand show with {100 * POWER:g} % power at this spread, as "
        "a distance from no effect; given only where the rule asks for such a difference (a threshold of 0). "
        "Seeds it would take: until the rule decides, were means and spreads to stay as "
        "they are. A spread over few seeds is itself uncertain: both say an order of magnitude.",
        "Diverged runs: measures are of finished runs. Where a compared method has diverged ones, C4, C5, C6, X1 "
        "and X1b (and X4 and X5, which stand on C4 and C5) are at most inconclusive; not supported stays "
        "where none but the judged method has diverged.",
        "Has vanilla learned? From `sanity.md`; where it has not, a comparison with it may be empty. It changes no "
        "verdict. Whether it has converged stands there too: a claim whose entry needs it is not tested where it has "
        "not.",
    ]


def rule_text(claim: Claim) -> str:
    """The decision rule with its thresholds, and what decides in its place."""
    numbers = ", ".join(f"{name} {value:g}" for name, value in claim.thresholds.items())
    values = f" ({numbers})" if numbers else ""
    needs = " Not tested where vanilla has not converged." if claim.needs else ""
    after = f" S{claim.after[1:]}." if claim.after else ""
    return f"{claim.rule}{needs} At least {claim.min_seeds} seeds.{values}{after}"


def _cells(rows: pd.DataFrame) -> tuple[str, ...]:
    first, shown = rows.iloc[0], list(rows[rows["decides"] & (rows["part"] != "")].itertuples())

    def joined(cell: object) -> str:
        return "; ".join(cell(row) for row in shown) or format.MISSING

    verdict = format.bold(first["verdict"])
    if first["sanity"] == sanity.NOT_REACHED and first["verdict"] != NOT_TESTED:
        verdict = format.Marked(f"{verdict} (vanilla has not learned this task: the comparison may be empty)")
    return (
        first["claim"], words.task(first["task"]), verdict, first["after_correction"] or format.MISSING,
        joined(_effect), joined(_bootstrap), joined(lambda row: str(row.n)), joined(lambda row: row.unit),
        joined(lambda row: row.ledger), joined(lambda row: format.estimate(Interval(row.detectable))),
        first["seeds_needed"] or format.MISSING, first["sanity"] or format.MISSING,
        first["ambiguities"] or format.MISSING, words.text(first["reason"]),
    )  # fmt: skip


def _effect(row: object) -> str:
    return f"{words.text(row.part)}: {format.estimate(Interval(row.effect, row.low, row.high, row.n))}"


def _bootstrap(row: object) -> str:
    decimals = format.decimals_for(max(abs(row.effect), 1e-3))
    return "[{}, {}]".format(*(format.number(bound, decimals) for bound in (row.bootstrap_low, row.bootstrap_high)))
