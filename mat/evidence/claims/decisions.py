"""From intervals and thresholds to a verdict: pure functions, one per decision rule.

The thresholds come from ``workflows/claims.yaml``; none is written here. Every function returns
``INCONCLUSIVE`` when an interval is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from mat.evidence.stats.intervals import Interval

SUPPORTED = "supported"
PARTLY = "partly"
NOT_SUPPORTED = "not supported"
INCONCLUSIVE = "inconclusive"
NOT_TESTED = "not tested at this scale"
VERDICTS = (SUPPORTED, PARTLY, NOT_SUPPORTED, INCONCLUSIVE, NOT_TESTED)

Thresholds = Mapping[str, float]


def known(*intervals: Interval) -> bool:
    """True when every interval has both bounds."""
    return all(math.isfinite(value.low) and math.isfinite(value.high) for value in intervals)


def spread_and_rank(spread: Interval, rho: Interval, thresholds: Thresholds) -> str:
    """Both parts hold: supported; one: partly; both refuted: not supported; otherwise inconclusive."""
    if not known(spread, rho):
        return INCONCLUSIVE
    ratio, strength = thresholds["min_spread"], thresholds["min_abs_correlation"]
    holds = (spread.low >= ratio) + ((rho.low > 0 or rho.high < 0) and abs(rho.mean) >= strength)
    if holds:
        return SUPPORTED if holds == 2 else PARTLY
    refuted = spread.high < ratio and rho.low > -strength and rho.high < strength
    return NOT_SUPPORTED if refuted else INCONCLUSIVE


def saving(value: Interval, reached: float, thresholds: Thresholds) -> str:
    """Lower bound in the reported range: supported; above 0: partly; upper bound below the range: not.

    ``reached`` is the share of seeds that got to the reference's best loss. A run that stalls early
    converges cheaply to its own, worse best, so a saving counts only where the reference was reached: in
    none of the seeds it is not supported, in fewer than ``min_reached_share`` at most partly.
    """
    if not known(value):
        return INCONCLUSIVE
    if value.low <= 0:
        return NOT_SUPPORTED if value.high < thresholds["reported_low_percent"] else INCONCLUSIVE
    if reached == 0:
        return NOT_SUPPORTED
    if value.low >= thresholds["reported_low_percent"] and reached >= thresholds["min_reached_share"]:
        return SUPPORTED
    return PARTLY


def not_worse(gain: Interval, margin: float) -> str:
    """Non-inferiority: lower bound ≥ −margin: supported; upper bound < −margin: not supported."""
    if not known(gain):
        return INCONCLUSIVE
    if gain.low >= -margin:
        return SUPPORTED
    return NOT_SUPPORTED if gain.high < -margin else INCONCLUSIVE


def better_than_all(gains: Iterable[Interval]) -> str:
    """Better than every baseline: supported; no advantage over any one: not; better than some: partly."""
    values = list(gains)
    if not known(*values):
        return INCONCLUSIVE
    if all(value.low > 0 for value in values):
        return SUPPORTED
    if any(value.high <= 0 for value in values):
        return NOT_SUPPORTED
    return PARTLY if any(value.low > 0 for value in values) else INCONCLUSIVE


def within(value: Interval, thresholds: Thresholds) -> str:
    """Interval inside [min, max]: supported; disjoint from it: not supported; overlapping: partly."""
    low, high = thresholds["min_percent"], thresholds["max_percent"]
    if not known(value):
        return INCONCLUSIVE
    if low <= value.low and value.high <= high:
        return SUPPORTED
    return NOT_SUPPORTED if value.high < low or value.low > high else PARTLY


def cheap(share: Interval, thresholds: Thresholds) -> str:
    """Upper bound ≤ cheap: supported; ≤ bearable: partly; lower bound > bearable: not supported."""
    if not known(share):
        return INCONCLUSIVE
    if share.high <= thresholds["cheap_percent"]:
        return SUPPORTED
    if share.high <= thresholds["bearable_percent"]:
        return PARTLY
    return NOT_SUPPORTED if share.low > thresholds["bearable_percent"] else INCONCLUSIVE


def advantage(gain: Interval, thresholds: Thresholds) -> str:
    """Lower bound > 0: supported; no advantage larger than the relevant one: not supported."""
    if not known(gain):
        return INCONCLUSIVE
    if gain.low > 0:
        return SUPPORTED
    return NOT_SUPPORTED if gain.high <= thresholds["relevant_percent"] else INCONCLUSIVE


def excluded(gain: Interval, thresholds: Thresholds) -> bool:
    """Whether an advantage above the relevant one is excluded, and none is shown."""
    return gain.low <= 0 and gain.high <= thresholds["relevant_percent"]


def better_selection(gains: Mapping[str, Interval], decisive: Iterable[str], thresholds: Thresholds) -> str:
    """Advantages over other selections, by label. All above 0, a ``decisive`` one among them: supported; one over a
    decisive label excluded (``excluded``): not supported; one over a decisive label above 0 and none below 0: partly;
    otherwise inconclusive."""
    asked = [gains[label] for label in decisive if label in gains]
    if not asked or not known(*gains.values()):
        return INCONCLUSIVE
    if all(gain.low > 0 for gain in gains.values()):
        return SUPPORTED
    if any(excluded(gain, thresholds) for gain in asked):
        return NOT_SUPPORTED
    won = any(gain.low > 0 for gain in asked)
    return PARTLY if won and not any(gain.high < 0 for gain in gains.values()) else INCONCLUSIVE


def survives_as_time(flop: Interval, seconds: Interval, thresholds: Thresholds) -> str:
    """A saving in compute that survives in time: ``kept_share`` of the compute's saving excluded: not supported, which
    is asked first; seconds saved, and at least that much: supported; less: partly. Inconclusive without a saving in
    compute to begin with."""
    if not known(flop, seconds) or flop.low <= 0:
        return INCONCLUSIVE
    enough = thresholds["kept_share"] * flop.mean
    if seconds.high < enough:
        return NOT_SUPPORTED
    if seconds.low > 0:
        return SUPPORTED if seconds.mean >= enough else PARTLY
    return INCONCLUSIVE


def no_gain(value: Interval, reached: float) -> bool:
    """No saving of any size: its upper bound is at most 0, or no seed got to the reference's best loss."""
    return (known(value) and value.high <= 0) or reached == 0


def saves_and_keeps(saved: str, kept: str) -> str:
    """From the verdicts on the saving (C4) and on the quality (C5): a saving of any size and no loss: supported; either
    refuted: not supported; not tested where one was not."""
    if NOT_SUPPORTED in (saved, kept):
        return NOT_SUPPORTED
    if NOT_TESTED in (saved, kept):
        return NOT_TESTED
    return SUPPORTED if saved in (SUPPORTED, PARTLY) and kept == SUPPORTED else INCONCLUSIVE


def gains_at_all(saved: str, kept: str, refuted: bool) -> str:
    """``saves_and_keeps``, but a saving that is only smaller than reported does not refute it: ``refuted`` says whether
    there is none at all (``no_gain``)."""
    if refuted:
        return NOT_SUPPORTED
    return saves_and_keeps(INCONCLUSIVE if saved == NOT_SUPPORTED else saved, kept)


def saving_without_bias(exact: Interval, extra: Interval, reached: float, thresholds: Thresholds) -> str:
    """The exact gradient saves, and detach adds at most the margin: supported; detach adds: partly.

    ``reached``: share of seeds in which exact mode got to the reference's best loss; below
    ``min_reached_share`` there is no saving whose source could be asked for.
    """
    if not known(exact, extra) or reached < thresholds["min_reached_share"]:
        return INCONCLUSIVE
    if exact.high <= 0:
        return NOT_SUPPORTED
    if exact.low <= 0:
        return INCONCLUSIVE
    if extra.high <= thresholds["extra_percent"]:
        return SUPPORTED
    return PARTLY if extra.low > 0 else INCONCLUSIVE


def survives(parts: Iterable[Interval], thresholds: Thresholds) -> str:
    """Rankings after each change. A change is survived when the lower bound of τ is at least ``survive_tau`` and
    lost when the upper bound is below ``lost_tau``. All survived: supported; some survived and some lost:
    partly; some lost and none survived: not supported; otherwise inconclusive.
    """
    values = list(parts)
    if not known(*values):
        return INCONCLUSIVE
    survived = sum(value.low >= thresholds["survive_tau"] for value in values)
    lost = sum(value.high < thresholds["lost_tau"] for value in values)
    if survived == len(values):
        return SUPPORTED
    if lost:
        return PARTLY if survived else NOT_SUPPORTED
    return INCONCLUSIVE


def combine(verdicts: Iterable[str], mixed: str, any_inconclusive: str) -> str:
    """One verdict over tasks; tasks that were not tested are left out.

    All equal: that one. Otherwise, when any is inconclusive: ``any_inconclusive``; else ``mixed``.
    """
    tested = {verdict for verdict in verdicts if verdict != NOT_TESTED}
    if not tested:
        return NOT_TESTED
    if len(tested) == 1:
        return tested.pop()
    return any_inconclusive if INCONCLUSIVE in tested else mixed
