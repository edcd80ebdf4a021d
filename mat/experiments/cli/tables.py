"""What ``python -m mat`` calls: from run directories to tables, from tables to results and verdicts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mat.errors import InputError
from mat.evidence.claims import load as claims_file
from mat.evidence.claims import page as verdicts_page
from mat.evidence.claims import verdicts as judging
from mat.evidence.runs import pool as pooling
from mat.evidence.runs import pooled as tables
from mat.evidence.runs.curves import Convergence
from mat.evidence.sensitivity import page as sensitivity_text
from mat.evidence.sensitivity import register as register
from mat.evidence.sensitivity import table as varying
from mat.evidence.tables import agreement as agreeing
from mat.evidence.tables import agreement_page, generalisation, page, results_page, rivals_page, trainability
from mat.evidence.tables import branches as branching
from mat.evidence.tables import ceiling as ceiling_table
from mat.evidence.tables import controls as controls_table
from mat.evidence.tables import learning_rate as rates
from mat.evidence.tables import results as table
from mat.evidence.tables import rivals as rivals_table
from mat.evidence.tables import sanity as checking
from mat.evidence.tables import scores as scoring
from mat.evidence.tables import wall_clock as clock
from mat.evidence.text import format
from mat.records.files import write_text


def collect(run_dirs: list[Path], tables_dir: Path, selection: str = "") -> None:
    """Pool run directories into ``runs.csv``, ``curves.parquet`` and ``probes.parquet`` in ``tables_dir``."""
    tables.save(pooling.collect(run_dirs, selection), tables_dir)


def results(tables_dir: Path, claims: Path | None = None) -> None:
    """Write ``results.csv``, ``results.md`` and ``results.tex``.

    Convergence is as the claims file defines it when one is given, else register entry A11's default.
    """
    pooled, rule = (
        tables.load(tables_dir),
        claims_file.load_claims(claims).convergence if claims else Convergence(),
    )
    frame = table.results(pooled, rule)
    format.csv(frame, tables_dir / "results.csv")
    write_text(results_page.markdown(frame, pooled, rule), tables_dir / "results.md")
    write_text(results_page.latex(frame, pooled), tables_dir / "results.tex")


def verdicts(tables_dir: Path, claims: Path) -> None:
    """Write ``verdicts.csv`` and ``verdicts.md``: the claims judged by the rules in ``claims``."""
    rules, pooled = claims_file.load_claims(claims), tables.load(tables_dir)
    frame = judging.verdicts(pooled, rules)
    format.csv(frame, tables_dir / "verdicts.csv")
    write_text(verdicts_page.markdown(frame, rules, pooled.command), tables_dir / "verdicts.md")


def scores(tables_dir: Path) -> None:
    """Write ``scores.csv``, ``scores.md`` and ``scores.tex``: every metric, and GLUE's average where there is one."""
    pooled = tables.load(tables_dir)
    frame = scoring.scores(pooled)
    format.csv(frame, tables_dir / "scores.csv")
    write_text(scoring.markdown(frame, pooled), tables_dir / "scores.md")
    write_text(scoring.latex(frame, pooled), tables_dir / "scores.tex")


def controls(tables_dir: Path, _: Path) -> None:
    """Write ``controls.csv``, ``.md`` and ``.tex``: selections of equal active share."""
    pooled = tables.load(tables_dir)
    frame = controls_table.controls(pooled)
    page.save(frame, controls_table.page(frame, pooled), pooled, tables_dir)


def rivals(tables_dir: Path, claims: Path) -> None:
    """Write ``rivals.csv``, ``.md`` and ``.tex``: every method at equal compute, at equal loss, at convergence."""
    pooled, rule = tables.load(tables_dir), claims_file.load_claims(claims).convergence
    frame = rivals_table.rivals(pooled, rule)
    page.save(frame, rivals_page.page(frame, pooled, rule), pooled, tables_dir)


def learning_rate(tables_dir: Path, _: Path) -> None:
    """Write ``learning_rate.csv``, ``.md`` and ``.tex``: vanilla and MAT at other learning rates."""
    pooled = tables.load(tables_dir)
    frame = rates.learning_rate(pooled)
    page.save(frame, rates.page(frame, pooled), pooled, tables_dir)


def wall_clock(tables_dir: Path, claims: Path) -> None:
    """Write ``wall_clock.csv``, ``.md`` and ``.tex``: savings in FLOP beside savings in seconds."""
    pooled = tables.load(tables_dir)
    frame = clock.wall_clock(pooled, claims_file.load_claims(claims).convergence)
    page.save(frame, clock.page(frame, pooled), pooled, tables_dir)


def sensitivity(tables_dir: Path, claims: Path, register_file: Path) -> None:
    """Write ``sensitivity.csv``, ``.md`` and ``.tex``: what the register's alternatives change."""
    pooled, entries = tables.load(tables_dir), register.load_register(register_file)
    frame = varying.sensitivity(pooled, claims_file.load_claims(claims), entries)
    page.save(frame, sensitivity_text.page(frame, pooled, entries), pooled, tables_dir)


def sanity(tables_dir: Path, levels: Path) -> None:
    """Write ``sanity.csv`` and ``sanity.md``: what vanilla reached, beside the levels in ``levels``.

    Raises InputError when that file has no entry for the scale.
    """
    pooled = tables.load(tables_dir)
    stated = checking.load_levels(levels).get(pooled.scale)
    if stated is None:
        raise InputError(f"{levels.name} has no entry for the scale {pooled.scale}; add one")
    frame = checking.sanity(pooled, stated)
    format.csv(frame, tables_dir / "sanity.csv")
    write_text(checking.markdown(frame, pooled), tables_dir / "sanity.md")


def agreement(files: list[Path], tables_dir: Path, claims: Path) -> None:
    """Write ``agreement.csv`` and ``agreement.md``: rank agreement of estimators, and the one the rule picks.

    The order of references and the margin of the choice are those of the claim X6. Raises InputError when the
    claims file has no rule for it.
    """
    rule = next((c for c in claims_file.load_claims(claims).claims if c.measure == "rankings"), None)
    if rule is None:
        raise InputError(
            f"{claims.name}: no claim has the measure 'rankings'; agreement needs its references"
        )
    frame = agreeing.summary(agreement_page.load(files), rule.role("references"))
    format.csv(frame, tables_dir / "agreement.csv")
    again = tables.load_agreement(
        tables_dir
    )  # rounded as it is written, so that page and verdict cannot differ
    write_text(agreement_page.markdown(again, rule.thresholds["choice_margin"]), tables_dir / "agreement.md")


def branches(files: list[Path], tables_dir: Path) -> None:
    """Write ``trainability`` and ``generalisation`` (``.csv``, ``.md``), where branches of their kind were trained, and
    ``trainability_modules.csv``: one row per module, seed and checkpoint."""
    pooled = branching.load(files)
    for part, analysis, name in (
        (branching.MODULE, trainability, "trainability"),
        (branching.SET, generalisation, "generalisation"),
    ):
        if not (pooled["part"] == part).any():
            raise InputError(
                f"no branches of kind {part!r} in these tables, so there is no {name}; train some of each kind"
            )
        format.csv(analysis.summary(pooled), tables_dir / f"{name}.csv")
        # read again, rounded as it is written, so that page and verdict cannot differ
        again = tables.load_branches(tables_dir, f"{name}.csv")
        write_text(analysis.markdown(again), tables_dir / f"{name}.md")
    format.csv(trainability.modules(pooled), tables_dir / "trainability_modules.csv")


def ceiling(parts: pd.DataFrame, savings: pd.DataFrame, tables_dir: Path) -> None:
    """Write ``ceiling_parts.csv``, ``ceiling.csv`` and ``ceiling.md``: what a step can save at most."""
    format.csv(parts, tables_dir / "ceiling_parts.csv")
    format.csv(savings, tables_dir / "ceiling.csv")
    # read again, rounded as they are written, so that page and tables cannot differ
    again = [tables.load_ceiling(tables_dir, name) for name in ("ceiling_parts.csv", "ceiling.csv")]
    write_text(ceiling_table.markdown(*again), tables_dir / "ceiling.md")


def ambiguities(register_file: Path, tables_dir: Path) -> None:
    """Write ``ambiguities.md``: the register as a page."""
    write_text(register.markdown(register.load_register(register_file)), tables_dir / "ambiguities.md")
