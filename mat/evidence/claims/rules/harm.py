"""C3b: whether training the modules of small λ_max harms, where training can be shown to do anything."""

from __future__ import annotations

from collections.abc import Sequence

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, not_tested, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.tables.generalisation import MEASURES, at

LOSS = "val_loss_change_percent"
# what decides: a set, what it is compared with, in which measure
CLEAN = (("bottom", "none", LOSS), ("top", "bottom", LOSS), ("all", "none", LOSS))
NOISY = (
    *CLEAN[:2],
    ("all", "none", "train_loss_decrease"),
    ("all", "none", "memorised"),
    ("top", "bottom", "memorised"),
)


def harmful(values: Sequence[Interval], thresholds: Thresholds) -> str:
    """``values`` of ``CLEAN``, or of ``NOISY`` where labels are wrong.

    Positive control: training all modules beats training none, or with wrong labels fits the training samples better
    and memorises more; where it does not, inconclusive. Bottom worse than the remainder alone: supported where it is
    worse than top, or memorises more, too; else partly. Partly as well where it only memorises more than top. Harm
    above the relevant excluded, and more memorised: not supported. To help less than top is no harm.
    """
    noisy = len(values) > len(CLEAN)
    if not known(*values):
        return INCONCLUSIVE
    harm, against_top, control, *labels = values
    learned = control.low > 0 and labels[0].low > 0 if noisy else control.high < 0
    if not learned:
        return INCONCLUSIVE
    more = noisy and labels[1].high < 0
    if harm.low > 0:
        return SUPPORTED if against_top.high < 0 or more else PARTLY
    if more:
        return PARTLY
    no_more = not noisy or labels[1].low >= -thresholds["relevant_points"]
    return NOT_SUPPORTED if harm.high <= thresholds["relevant_percent"] and no_more else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """Paired differences between sets of modules."""
    tables, family, claim, _ = case
    table = tables.made["generalisation"]
    first = table[table["family"] == family].iloc[0]
    effects = []
    for name, minus, measure in NOISY if first["corrupted"] > 0 else CLEAN:
        what, unit = MEASURES[measure]
        value = at(table, family, name, minus, measure)
        effects.append(Effect(f"{what}, {name} minus {minus}", value, unit or first["loss_unit"], zero=True))
    if not effects[2].interval.n:
        return not_tested("The table does not compare training all modules with training none.")
    reason = f"{say(*effects)}."
    return decided(effects, lambda values: harmful(values, claim.thresholds), reason)


RULE = Rule(evaluate, ("relevant_percent", "relevant_points"), families="generalisation")
