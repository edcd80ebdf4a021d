"""What a campaign found, as Markdown."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import version

from mat.experiments.training.machine import HERE
from tests.campaign.outcomes import GOOD, Outcome, Verdict

SHOWN = 40  # attacks that are listed, at most
PACKAGES = ("torch", "pandas", "pyarrow", "snakemake")


def page(found: Sequence[Outcome], seconds: Mapping[str, float], planned: Mapping[str, int], command: str) -> str:
    """``seconds`` and the number of attacks that were ``planned``, by part; ``command``: what repeats them."""
    verdicts = list(Verdict)
    head = ["attack", "tried", *(verdict.value for verdict in verdicts)]
    rows = [_row(kind, [one for one in found if one.kind == kind]) for kind in dict.fromkeys(o.kind for o in found)]
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows, _row("all", found)]
    bad = [one for one in found if one.verdict not in GOOD]
    whole = sum(planned.values())
    return "\n".join(
        [
            "# The campaign of attacks",
            "",
            f"`{command}`",
            "",
            f"{date.today()}, {_machine()}; {sum(seconds.values()):.0f} s: "
            + ", ".join(f"{part} {value:.0f} s" for part, value in seconds.items())
            + f". Of {whole} planned attacks {len(found)} were tried"
            + ("." if len(found) == whole else ", because the time was over."),
            "",
            *(f"| {' | '.join(map(str, line))} |" for line in lines),
            "",
            "*recovered*: the result is that of an undisturbed run, bit for bit, by the same command given again; of",
            "a config, a value that is allowed and that the run has in its record. *clear error*: one line and an",
            "error status; nothing was trained or lost. *lost*: what had been done is not to be had again by the same",
            "command (of the workflow: and what Snakemake asks for), or the error came after training. *silent*:",
            "success was reported with another result, the command did not end, or the plan accepted what the workflow",
            "refuses. *traceback*: an error that is not one line.",
            *(["", *_listed(bad)] if bad else []),
        ]
    )


def _row(kind: str, found: Iterable[Outcome]) -> list[str | int]:
    verdicts = [one.verdict for one in found]
    return [kind, len(verdicts), *(verdicts.count(verdict) for verdict in Verdict)]


def _listed(bad: Sequence[Outcome]) -> list[str]:
    """The attacks that should have ended otherwise, each with its name."""
    lines = [f"- `--only {one.attack}` {one.verdict.value}: {one.what}: {one.why[:200]}" for one in bad[:SHOWN]]
    return ["## To be mended", "", *lines, *([f"- and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else [])]


def _machine() -> str:
    hardware = HERE.hardware()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{hardware['cpu']}, {hardware['cores']} cores, Python {platform.python_version()}, {packages}"
