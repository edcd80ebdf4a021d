"""The verdicts at a glance: a matrix of claims by tasks, each verdict a letter and a colour."""

from __future__ import annotations

from html import escape

import pandas as pd

from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.verdict import INCONCLUSIVE, INVALID, NOT_SUPPORTED, NOT_TESTED, PARTLY, SUPPORTED
from mat.evidence.report.forest import anchor
from mat.evidence.text import format, words
from mat.evidence.text.format import ALL

LETTERS = {SUPPORTED: "S", PARTLY: "P", NOT_SUPPORTED: "N", INCONCLUSIVE: "?", INVALID: "I", NOT_TESTED: "·"}


def grid(frame: pd.DataFrame) -> pd.DataFrame:
    """Verdicts of the claims that were tested: a row per claim, columns "all" and then every place that decided one, in
    the order of ``frame``; "" where a claim is not asked."""
    first = frame.drop_duplicates(["claim", "task"])
    wide = first.pivot(index="claim", columns="task", values="verdict").fillna("")
    wide = wide.loc[list(dict.fromkeys(first["claim"])), [ALL, *dict.fromkeys(first.loc[first["task"] != ALL, "task"])]]
    tested = ~wide.isin(["", NOT_TESTED])
    return wide.loc[tested.any(axis=1), tested.any(axis=0)]


def legend(found: pd.DataFrame) -> str:
    """What the letters in the matrix mean."""
    seen = set(found.to_numpy().ravel())
    return ", ".join(f"{letter} {verdict}" for verdict, letter in LETTERS.items() if verdict in seen)


def markdown(frame: pd.DataFrame, claims: Claims, page: str = "") -> str:
    """The matrix as a table of letters, with what they mean below it. ``page``: where a claim's words are, to which it
    is a link; else they stand beside it."""
    found = grid(frame)
    if found.empty:
        return ""
    header = ("claim", *map(words.place, found.columns), *([] if page else [""]))
    rows = [
        (
            format.Marked(f"[{claim.id}]({page}#{claim.id})") if page else claim.id,
            *(format.bold(LETTERS[cell]) if cell else "" for cell in found.loc[claim.id]),
            *([] if page else [claim.titled]),
        )
        for claim in _shown(found, claims)
    ]
    return f"{format.markdown_table(header, rows)}\n\n{_below(frame, found)}"


def html(frame: pd.DataFrame, claims: Claims) -> str:
    """The matrix with colours beside the letters, every cell a link to its numbers."""
    found = grid(frame)
    if found.empty:
        return ""
    places = (escape(words.place(place)).replace(", ", ",<br>") for place in found.columns)
    heads = "".join(f'<th scope="col"><span>{place}</span></th>' for place in places)
    rows = "".join(
        f'<tr class="{"superseded" if claim.after else "current"}"><th scope="row">'
        f'<a href="#{claim.id}" title="{escape(claim.titled)}"><b>{claim.id}</b> '
        f"<span>{escape(claim.titled)}</span></a></th>"
        f"{''.join(_cell(claim.id, place, cell) for place, cell in found.loc[claim.id].items())}</tr>\n"
        for claim in _shown(found, claims)
    )
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="verdicts by claim and task">
<table class="matrix">
<thead><tr><th scope="col">claim</th>{heads}</tr></thead>
<tbody>
{rows}</tbody>
</table>
</div>
<p><small>{escape(_below(frame, found))}</small></p>"""


def lines(frame: pd.DataFrame, claims: Claims, width: int) -> list[str]:
    """The matrix for a terminal: a claim a line, letters in columns that are numbered below."""
    found = grid(frame)
    room = width - 5 - 2 * len(found.columns) - 1
    said = [
        f"{claim.id:<5}{' '.join(LETTERS.get(cell, ' ') for cell in found.loc[claim.id])}  "
        f"{claim.text if len(claim.text) < room else claim.text[: room - 1] + '…'}"
        for claim in _shown(found, claims)
    ]
    return [*said, f"columns: {'; '.join(map(words.place, found.columns))}", _below(frame, found)] if said else said


def _shown(found: pd.DataFrame, claims: Claims) -> list[Claim]:
    """The claims of the matrix, those that are superseded last."""
    return sorted((claim for claim in claims.claims if claim.id in found.index), key=lambda claim: bool(claim.after))


def _below(frame: pd.DataFrame, found: pd.DataFrame) -> str:
    left = [claim for claim in dict.fromkeys(frame["claim"]) if claim not in found.index]
    return f"{legend(found)}." + (f" Not tested at this scale: {', '.join(left)}." if left else "")


def _cell(claim: str, place: str, verdict: str) -> str:
    if verdict in ("", NOT_TESTED):
        return f"<td>{LETTERS.get(verdict, '')}</td>"
    name = verdict.replace(" ", "-")
    where = claim if place == ALL else anchor(claim, place)
    return f'<td class="m-{name}"><a href="#{where}" title="{verdict}">{LETTERS[verdict]}</a></td>'
