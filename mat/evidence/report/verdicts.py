"""The verdicts in a reader's words: one table over all claims, one paragraph and one table per claim.

Everything is read from ``verdicts.csv`` and the claims file; columns that a version of the table does not have are
left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.stats.intervals import CONFIDENCE, Interval
from mat.evidence.text import format, words
from mat.evidence.text.format import ALL

MANY = 6  # numbers of a claim that the table over all claims still holds
MEANING = (
    "*Supported*, *partly* and *not supported* are what a claim's rule says of the whole interval. *Inconclusive*: the "
    "interval allows more than one of them, seeds are too few, or one task is open. *Not tested*: no run of this scale "
    "answers it. Below, claim by claim: its numbers, its rule and the open choices it depends on."
)
# further columns of verdicts.csv, each shown where at least one row has something to say
MORE = {
    "bootstrap": "bootstrap over seeds",
    "after_correction": "after correction",
    "detectable": "smallest effect it would see",
    "seeds_needed": "seeds it would need",
    "sanity": "vanilla's level",
}


def overview(frame: pd.DataFrame, claims: Claims) -> str:
    """All claims in one table: what was reported, what was measured, the verdict, and what it stands on."""
    more = [name for name in ("after_correction", "seeds_needed") if _says(frame, name)]
    header = ("claim", "", "verdict", "reported", f"measured [{100 * CONFIDENCE:.0f} % interval]", "n", "ledger",
              "depends on", *(MORE[name] for name in more))  # fmt: skip
    rows = []
    for claim in claims.claims:
        mine = frame[frame["claim"] == claim.id]
        if mine.empty:
            continue
        top, numbers = mine[mine["task"] == ALL].iloc[0], _deciding(mine)
        rows.append(
            (
                _link(claim), claim.titled, format.bold(top["verdict"]), claim.reported,
                _in_lines(numbers, claim),
                extent(numbers["n"]) if len(numbers) else format.MISSING,
                _ledger(numbers), " ".join(claim.ambiguities) or format.MISSING,
                *(_joined(mine, name) for name in more),
            )
        )  # fmt: skip
    return format.markdown_table(header, rows)


def paragraph(rows: pd.DataFrame, claim: Claim) -> str:
    """The claim's outcome in plain words; ``rows``: those of the claim."""
    top, tasks = rows[rows["task"] == ALL].iloc[0], rows[rows["task"] != ALL].drop_duplicates("task")
    reported = claim.reported.rstrip(".")
    start = f"Reported: {reported}. " if reported != "not reported" else "The paper does not answer this. "
    if tasks.empty or ((tasks["verdict"] == top["verdict"]).all() and not _deciding(rows).size):
        reasons = list(dict.fromkeys(tasks["reason"])) or [top["reason"]]
        more = f" And {len(reasons) - 1} reasons more, below." if len(reasons) > 1 else ""
        return f"{start}Here: **{top['verdict']}**. {format.capital(words.text(reasons[0])).rstrip('.')}.{more}"
    groups = [
        f"*{verdict}* on {format.listed(map(words.task, same['task']))}"
        for verdict, same in tasks.groupby("verdict", sort=False)
    ]
    said = [f"{start}Over all tasks the verdict is **{top['verdict']}**: {format.listed(groups)}."]
    corrected = _joined(rows[rows["task"] == ALL], "after_correction")
    if corrected != format.MISSING:
        said.append(f"After correction for the number of claims: {corrected}.")
    needed = _joined(rows[rows["task"] != ALL], "seeds_needed")
    if needed != format.MISSING:
        said.append(f"Seeds that a decision would need: {needed.replace('<br>', '; ')}.")
    return " ".join(said)


def by_task(rows: pd.DataFrame) -> str:
    """The claim's numbers, one row per task and number; "" where nothing was measured."""
    shown = rows[(rows["task"] != ALL) | (rows["part"] != "")]
    if (shown["task"] == ALL).all():
        return ""
    shown = shown.sort_values("task", key=lambda task: task == ALL, kind="stable")  # pooled numbers last
    shown = shown.assign(bootstrap=[_bootstrap(row) for _, row in shown.iterrows()])
    more = [name for name in MORE if _says(shown, name)]
    header = ("task", "verdict", "number", f"measured [{100 * CONFIDENCE:.0f} % interval]", "n", "ledger",
              *(MORE[name] for name in more), "why")  # fmt: skip
    return format.markdown_table(
        header,
        [
            (
                "pooled" if row["task"] == ALL else words.task(row["task"]), format.bold(row["verdict"]),
                (words.text(row["part"]) or format.MISSING) + ("" if row["decides"] else " (beside)"),
                measured(row) if row["part"] else format.MISSING, str(row["n"]) if row["part"] else format.MISSING,
                row["ledger"] if row["ledger"] not in ("", "none") else format.MISSING,
                *(_cell(row[name]) for name in more),
                words.text(row["reason"]) if first else "″",
            )
            for _, same in shown.groupby("task", sort=False)
            for first, row in zip([True] + [False] * len(same), (row for _, row in same.iterrows()), strict=False)
        ],
    )  # fmt: skip


def in_short(claim: Claim) -> str:
    """The rule in one sentence with its thresholds in their places: when it says supported, or else how it begins."""
    said = re.search(r"(?<![Nn]ot )[Ss]upported (?:when|where|only)[^;]*?(?=;|\.(?:\s|$))", claim.rule)
    text = (
        f"Rule: {said[0][0].lower()}{said[0][1:]}." if said else f"Rule: {claim.rule.partition('. ')[0].rstrip('.')}."
    )
    for name, value in claim.thresholds.items():
        text = re.sub(rf"\b{name}\b", f"{value:g}", text)
    return text


def measured(row: pd.Series | object, unit: bool = True) -> str:
    """``effect [low, high] unit`` of a row of ``verdicts.csv``."""
    get = row.get if isinstance(row, Mapping | pd.Series) else lambda name: getattr(row, name)
    value = Interval(*(float(get(name)) for name in ("effect", "low", "high")), int(get("n")))
    said = format.estimate(value)
    return said if said == format.MISSING or not unit else f"{said} {get('unit')}".rstrip()


def _bootstrap(row: pd.Series) -> str:
    """``[low, high]`` of the bootstrap over seeds; "" where the table has none."""
    ends = [float(row.get(name, float("nan"))) for name in ("bootstrap_low", "bootstrap_high")]
    if any(pd.isna(end) for end in ends):
        return ""
    decimals = format.decimals_for(max(abs(float(row["effect"])), 1e-3))
    return f"[{', '.join(format.number(end, decimals) for end in ends)}]"


def _deciding(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["task"] != ALL) & rows["decides"] & (rows["part"] != "")]


def _says(frame: pd.DataFrame, name: str) -> bool:
    return name in frame.columns and any(_cell(value) != format.MISSING for value in frame[name])


def _joined(rows: pd.DataFrame, name: str) -> str:
    """What a column says: one value where all tasks say the same, else one line per task."""
    if name not in rows.columns:
        return format.MISSING
    said = {row["task"]: _cell(row[name]) for _, row in rows.iterrows() if _cell(row[name]) != format.MISSING}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    lines = [format.plain(f"{words.task(task)}: {text}") for task, text in said.items() if task != ALL]
    return format.Marked("<br>".join(lines) or format.MISSING)


def _link(claim: Claim) -> format.Marked:
    return format.Marked(f"[{format.plain(claim.id)}](#{claim.id})")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return format.MISSING if pd.isna(value) else f"{value:.4g}"
    return str(value) or format.MISSING


def _ledger(numbers: pd.DataFrame) -> str:
    found = sorted(set(numbers["ledger"]) - {"", "none"})
    return ", ".join(found) or format.MISSING


def _in_lines(numbers: pd.DataFrame, claim: Claim) -> str:
    """Numbers part by part, one line per task; where they are many, a link to where they stand."""
    if numbers.empty:
        return format.MISSING
    if len(numbers) > MANY:
        return format.Marked(f"{len(numbers)} numbers, under {_link(claim)}")
    lines = []
    for part, same in numbers.groupby("part", sort=False):
        units = same["unit"].unique()
        lines.append(f"*{words.text(part)}, {units[0]}*" if len(units) == 1 else f"*{words.text(part)}*")
        lines += [
            f"{words.task(row.task)} {measured(row, unit=len(units) > 1)}".replace(" [", "\u00a0[")
            for row in same.itertuples()
        ]
    return format.Marked("<br>".join(lines))


def extent(values: pd.Series) -> str:
    """The least and the largest of whole numbers, in words."""
    least, most = int(values.min()), int(values.max())
    return str(least) if least == most else f"{least} to {most}"
