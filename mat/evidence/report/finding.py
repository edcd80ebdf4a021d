"""What was found, in plain words: a headline that names the tasks, and a point for every question that was asked.

All is read from the table of verdicts, so README, docs, report and terminal say the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.readings import apart
from mat.evidence.claims.rules.equal_compute import OF_RANGE
from mat.evidence.claims.verdict import (
    INCONCLUSIVE,
    INVALID,
    NOT_SUPPORTED,
    NOT_TESTED,
    PARTLY,
    SUPPORTED,
    effect_of,
    tops,
)
from mat.evidence.report import verdicts
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.text import format, words
from mat.evidence.text.format import ALL

UNKNOWN = Interval(math.nan)
BETTER, WORSE, OPEN, NEVER, FEW = "better", "worse", "open", "never", "few"
BETTER_IN_PART, WORSE_IN_PART, MIXED = "better in part", "worse in part", "mixed"
HEADED = {
    BETTER: "ends better {than}", BETTER_IN_PART: "ends better {than} under some readings of the paper",
    OPEN: "is not told apart {from}", MIXED: "ends better or worse {than}, by how the paper is read",
    WORSE_IN_PART: "ends worse {than} under some readings of the paper", WORSE: "ends worse {than}",
}  # fmt: skip
SAID = {
    BETTER: "better by {}", WORSE: "worse by {}", OPEN: "not told apart, {}", NEVER: "not known", FEW: "not known",
}  # fmt: skip
SAVED = {
    BETTER: "{} less", WORSE: "{} more", OPEN: "not told apart, {} less", NEVER: "not reached by any run",
    FEW: "reached by too few runs to say",
}  # fmt: skip
AGREES = {
    BETTER: (SUPPORTED, PARTLY), WORSE: (NOT_SUPPORTED,), OPEN: (INCONCLUSIVE,), NEVER: (NOT_SUPPORTED,),
    FEW: (INCONCLUSIVE,),
}  # fmt: skip
COUNTED = {
    SUPPORTED: "supported", NOT_SUPPORTED: "not supported", PARTLY: "partly so", INVALID: "invalid",
    INCONCLUSIVE: "left open",
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """Asked of every scale, answered by the first of ``claims`` that is tested there, on each task by the first number
    that decides and whose part has ``part`` in it (``best``: by the largest of them). In the headline: ``rival``, whom
    ``who`` is compared with, and ``that``, of which the verdict is said; "": it leaves them out. ``said``: a number
    by what it says; ``means``: what follows where it says so; ``asks``: what else its rule asks, where that is why it
    says something else; ``strict``: a number in MAT's favour that the rule leaves open does not count."""

    text: str
    claims: tuple[str, ...]
    part: str = ""
    best: bool = False
    who: str = "MAT"
    rival: str = ""
    that: str = ""
    said: Mapping[str, str] = field(default_factory=lambda: SAID)
    means: Mapping[str, str] = field(default_factory=dict)
    asks: str = ""
    strict: bool = False


CHOOSING = {
    BETTER: "Where it is better λ_max, or what it goes with, tells what is worth training.",
    OPEN: "Where it is not told apart other modules may do as well.",
    WORSE: "Where it is worse other modules do better.",
}
LAMBDA, LARGEST = "λ_max tells which modules to train", "training the modules of largest λ_max"
QUESTIONS = (
    Question(
        "Quality at the end of training, against vanilla", ("C5r", "C5b", "C5"), rival="vanilla",
        asks="Its rule counts quality as kept only where a selection known to be bad is seen to lose some, and as lost "
        "beyond a margin.",
    ),
    Question(
        "Validation loss against vanilla given only the compute that MAT spent", ("X7",),
        rival="vanilla given the same compute",
        means={
            BETTER: "Where MAT is better it gives more than a shorter schedule does.",
            OPEN: "Where they are not told apart a shorter schedule may do as well.",
            WORSE: "Where MAT is worse a shorter schedule saves as much and loses less.",
        },
        asks="Its rule asks for the test metric too, and that both spent as much.",
        strict=True,
    ),
    Question(
        "Validation loss against random selection given the same compute", ("C6br", "C6b", "C6r", "C6"),
        part="over random",
        rival="random selection given the same compute", asks="Its rule asks the same of Multirate.",
    ),
    Question(
        "Compute until vanilla's final loss is reached, against vanilla", ("C4b",), said=SAVED,
        that="MAT reaches vanilla's final loss with nearly half the compute",
        asks="Its rule asks for the least saving that the paper reports.",
    ),
    Question("The same, both tuned alike", ("X8",), said=SAVED, asks="Its rule asks how many runs reach it, too."),
    Question(
        "Validation loss against random selection, both tuned alike and given vanilla's compute", ("X12",),
        asks="Its rule asks that both spent as much.",
    ),
    Question(
        "Validation loss over budgets, MAT's best against vanilla's line", ("X9r", "X9"), best=True,
        asks="Its rule corrects for the number of budgets.",
    ),
    Question(
        "Is it λ_max? Largest λ_max against the same values shuffled over modules, shares from small to large",
        ("X10",), part="over shuffled", who=LARGEST, rival="training as many by shuffled values", that=LAMBDA,
        means=CHOOSING,
        asks="Its rule asks the same of shuffled against smallest, and that training few modules costs something.",
    ),
    Question(
        "Is it λ_max? Largest λ_max against the same values shuffled among modules of one kind in one layer",
        ("X11",), part="λ_max itself", who=LARGEST, rival="training as many by values shuffled within kind and layer",
        that="λ_max says more of a module than its kind and its layer",
        means={
            BETTER: "Where it is better λ_max tells more than what is known before anything is measured.",
            OPEN: "Where it is not told apart kind and layer may say all of it.",
            WORSE: "Where it is worse other modules of the same kinds and layers do better.",
        },
        asks="Its rule asks how much, and that there is an advantage over values shuffled among all.",
    ),
    Question(
        "Is it λ_max? Largest λ_max against random selection of as many modules", ("X1c", "X1b", "X1"),
        part="over random", who=LARGEST, rival="training as many at random", that=LAMBDA, means=CHOOSING,
        asks="Its rule asks the same of other selections.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """``headline``: sentences without a number; ``points``: one of each question, then how to read them and what all
    rules said. Markdown."""

    headline: tuple[str, ...]
    points: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The headline as a list."""
        return format.bullets(self.headline)

    @property
    def markdown(self) -> str:
        """The headline, and the points below it."""
        points = (f"In numbers:\n\n{format.bullets(self.points)}",) if self.points else ()
        return "\n\n".join((self.short, *points))


@dataclass(frozen=True)
class Answer:
    """What a task says: ``kind``, over all readings; ``value``, ``own`` (its kind), ``unit`` and ``reading`` of the
    number that is shown, ``alike`` of ``readings`` say so too. ``kind`` "": no number counts, ``why`` says so."""

    task: str
    verdict: str
    kind: str = ""
    own: str = ""
    value: Interval = UNKNOWN
    unit: str = ""
    reading: str = ""
    alike: int = 0
    readings: int = 0
    why: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the rule says on this task what the number does."""
        return self.verdict in AGREES[self.own]


def found(frame: pd.DataFrame, claims: Claims) -> Finding:
    """What a table of verdicts says."""
    top = tops(frame).set_index("claim")["verdict"]
    judged = top[top != NOT_TESTED]
    if judged.empty:
        return Finding(("No claim is tested by the runs of this scale.",))
    by_id = {claim.id: claim for claim in claims.claims}
    asked = [
        (question, by_id[name], answers(frame[frame["claim"] == name], question, by_id[name]))
        for question in QUESTIONS
        if (name := next((one for one in question.claims if one in judged and one in by_id), ""))
    ]
    shown = [answer for _, _, said in asked for answer in said]
    counted = _counted(judged, claims)
    points = [_point(question, claim, judged[claim.id], said) for question, claim, said in asked]
    thats = {question.that: judged[claim.id] for question, claim, _ in reversed(asked) if question.that}
    sentences = (
        *_headline((question, said) for question, _, said in asked if question.rival),
        *(f"That {that} is **{COUNTED[verdict]}**." for that, verdict in reversed(thats.items())),
    )
    return Finding(sentences or (counted,), tuple(filter(None, (*points, _how_to_read(shown), counted))))


def _headline(asked: Iterable[tuple[Question, list[Answer]]]) -> Iterator[str]:
    """How MAT, and what else is compared, ends against each rival, tasks of which the same is said together."""
    by_task: dict[tuple[str, str], dict[str, list[str]]] = {}
    for question, said in asked:
        for answer in said:
            if answer.kind in HEADED:
                by_task.setdefault((question.who, answer.task), {}).setdefault(answer.kind, []).append(question.rival)
    together: dict[str, list[str]] = {}
    for (who, task), kinds in by_task.items():
        clauses = [
            text.format_map({word: format.listed(f"{word} {rival}" for rival in kinds[kind])
                             for word in ("than", "from")})
            for kind, text in HEADED.items() if kind in kinds
        ]  # fmt: skip
        together.setdefault(f"{who} {', and '.join(clauses)}", []).append(format.bold(words.on(task)))
    yield from (f"On {format.listed(tasks)} {clauses}." for clauses, tasks in together.items())


def answers(rows: pd.DataFrame, question: Question, claim: Claim) -> list[Answer]:
    """The answers of a claim's ``rows``, task by task, those that were not tested left out."""
    tested = rows[(rows["task"] != ALL) & (rows["verdict"] != NOT_TESTED)]
    return [_answer(task, same, question, claim) for task, same in tested.groupby("task", sort=False)]


def _answer(task: str, rows: pd.DataFrame, question: Question, claim: Claim) -> Answer:
    verdict = rows["verdict"].iloc[0]
    counts = rows[rows["decides"] & rows["part"].str.contains(question.part, regex=False) & (rows["part"] != "")]
    by_reading: dict[str, pd.Series] = {}
    for _, row in counts.iterrows():
        reading, _ = apart(row["part"], claim.readings)
        if reading not in by_reading or (question.best and row["effect"] > by_reading[reading]["effect"]):
            by_reading[reading] = row
    if not by_reading:
        return Answer(task, verdict, why=words.text(rows["reason"].iloc[0].split(". ")[0].rstrip(".")))
    values = {reading: effect_of(row) for reading, row in by_reading.items()}
    kinds = {reading: kind_of(value, verdict) for reading, value in values.items()}
    if question.strict and verdict == INCONCLUSIVE and BETTER in kinds.values():
        return Answer(task, verdict, why=question.asks.rstrip("."))
    shown = next(iter(values))
    return Answer(
        task, verdict, over(kinds.values()), kinds[shown], values[shown], by_reading[shown]["unit"], shown,
        sum(kind == kinds[shown] for kind in kinds.values()), len(kinds),
    )  # fmt: skip


def kind_of(value: Interval, verdict: str) -> str:
    """What one number says: which side of 0 its interval lies on. Without an interval no run reached the level that was
    asked for, or too few did, or there is one seed."""
    if not known(value):
        return NEVER if verdict == NOT_SUPPORTED else FEW
    return BETTER if value.low > 0 else WORSE if value.high < 0 else OPEN


def over(kinds: Iterable[str]) -> str:
    """What the readings of the paper say together."""
    said = set(kinds)
    if len(said) == 1:
        return said.pop()
    if {BETTER, WORSE} <= said:
        return MIXED
    return BETTER_IN_PART if BETTER in said else WORSE_IN_PART if WORSE in said else OPEN


def _point(question: Question, claim: Claim, verdict: str, said: list[Answer]) -> str:
    units = {answer.unit for answer in said if answer.kind}
    unit = f", in {units.pop()}" if len(units) == 1 else ""
    each = "; ".join(_on_task(question, answer, "" if unit else answer.unit) for answer in said)
    means = [text for kind, text in question.means.items() if kind in {answer.own for answer in said}]
    means += [question.asks] * any(answer.kind and not answer.agrees for answer in said)
    return " ".join(filter(None, (f"**{question.text}**{unit}: {each}.", *means, f"{claim.id}: *{verdict}*.")))


def _on_task(question: Question, answer: Answer, unit: str) -> str:
    if not answer.kind:
        why = answer.why[:1].lower() + answer.why[1:] if answer.why[1:2].islower() else answer.why
        return f"left open on {words.on(answer.task)}: {format.plain(why)}"
    value = answer.value
    if answer.own == WORSE:
        value = Interval(-value.mean, -value.high, -value.low, value.n)
    number = f"{format.estimate(value)} {unit}".rstrip().replace(" [", "\u00a0[").replace(", ", ",\u00a0")
    beside = [answer.reading.replace("_", " ")] if answer.reading else []
    if answer.readings > 1:
        beside.append(f"{answer.alike} of {answer.readings} readings alike")
    if not answer.agrees:
        beside.append(f"by its rule {answer.verdict}")
    said = f"{question.said[answer.own].format(number)} on {words.on(answer.task)}"
    return f"{said} ({', '.join(beside)})" if beside else said


def _how_to_read(said: list[Answer]) -> str:
    counted = pd.Series([answer.value.n for answer in said if answer.kind], dtype=int)
    if counted.empty:
        return ""
    ranged = any(answer.unit == OF_RANGE for answer in said)
    readings = [answer.reading for answer in said if answer.reading]
    parts = [f"In brackets: 95 % intervals, paired by seed, n = {verdicts.extent(counted)}."]
    if ranged:
        parts.append("Vanilla's range is its way from its start to its best.")
    if readings:
        parts.append(
            f"A reading, such as {readings[0]}, is one way to read what the paper leaves open; shown is the first that "
            "counts."
        )
    return " ".join(parts)


def _counted(judged: pd.Series, claims: Claims) -> str:
    """How many claims have which verdict, those that are superseded left out."""
    current = [claim.id for claim in claims.claims if claim.id in judged and not claim.superseded_by]
    named = {word: [name for name in current if judged[name] == word] for word in COUNTED}
    said = [f"{len(names)} {COUNTED[word]} ({', '.join(names)})" for word, names in named.items() if names]
    left = f", {len(judged) - len(current)} superseded ones left out" if len(judged) > len(current) else ""
    return f"Of {len(current)} claims and questions judged here{left}: {format.listed(said)}."
