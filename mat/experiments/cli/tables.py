"""What ``python -m mat`` calls: from run directories to tables, from tables to results and verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence.claims import claim as claims_file
from mat.evidence.claims import verdicts as judging
from mat.evidence.report import chapters as reporting
from mat.evidence.report import verdicts as report_verdicts
from mat.evidence.runs import curves, metrics
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
from mat.records.costs import FLOPS_PER_MAC, LEDGERS, flop_unit
from mat.records.files import write_text


def collect(run_dirs: list[Path], tables_dir: Path, selection: str = "") -> None:
    """Pool run directories into ``runs.csv``, ``curves.parquet`` and ``probes.parquet`` in ``tables_dir``."""
    tables.save(pooling.collect(run_dirs, selection), tables_dir)


def show(directory: Path) -> str:
    """One run directory for a terminal: what it is, how it ended, what it cost, what was active."""
    row, spec, curve, probes = pooling.read_run(directory)
    charged, unit = row["charges_probe"], row["loss_unit"]
    lines = [
        f"run       {row['run']}",
        f"is        scale {row['scale']}, task {row['task']}, method {row['method']}, seed {row['seed']}",
        f"status    {row['status']} after {row['steps']} steps, {len(curve)} evaluations",
        f"test      {', '.join(_tested(row))}, loss {row['test_loss']:.4f} {unit}",
        f"best      validation loss {row['best_val_loss']:.4f} {unit} at step {row['best_step']:.0f}",
    ]
    for ledger in LEDGERS:
        flop = FLOPS_PER_MAC * curves.final_macs(curve, ledger, charged)
        factor, flops = flop_unit(flop)
        share = 100 * curves.probe_share(curve, ledger, charged)
        lines.append(f"{ledger:<9} {flop / factor:.4g} {flops} in all, {share:.1f} % of it charged probes")
    flop = FLOPS_PER_MAC * curves.optimizer_macs(curve)
    factor, flops = flop_unit(flop)
    lines.append(f"optimizer {flop / factor:.4g} {flops} of elementwise work, in neither total")
    seconds, active = curves.wall_clock(curve, charged), 100 * curves.mean_active_share(curve)
    lines += [
        f"time      {seconds:.1f} s of training and charged probes, {row['threads']} threads",
        f"probes    every {row['interval']} steps, n = {row['probe_n']}",
        f"active    {active:.1f} % of {row['modules']} modules on average",
        "          by interval (# active, . inactive, x frozen for good):",
        *(f"  {module:<20} {_flags(rows)}" for module, rows in probes.groupby("module", sort=False)),
        *(f"spec      {key}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(spec.items())),
    ]
    return "\n".join(lines)


def _tested(row: Mapping[str, Any]) -> list[str]:
    """The test split's metrics, the one judged by first."""
    return [f"{name} {row[f'test_{name}']:.4f}" for name in metrics.read_names(row["metrics"])]


def _flags(rows: pd.DataFrame) -> str:
    """One character per interval: # active, . inactive, x frozen for good."""
    ordered = rows.sort_values("interval")
    return "".join("x" if row.frozen else "#" if row.active else "." for row in ordered.itertuples())


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
    rules = claims_file.load_claims(claims)
    pooled = tables.load(tables_dir)
    judging.write_verdicts(judging.verdicts(pooled, rules), rules, tables_dir, pooled.command)


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


def summary(tables_dir: Path, claims: Path) -> str:
    """The verdicts when they are there, the results in a few columns, and where the report is, for a terminal."""
    pooled, rules = tables.load(tables_dir), claims_file.load_claims(claims)
    frame = table.results(pooled, rules.convergence)
    factor, unit = flop_unit(frame["compute_to_convergence_executed_flop_mean"].max())
    wide = max(10, *map(len, pooled.tasks))
    header = (
        f"{'task':<{wide}} {'method':<10} {'n':>2} {'test metric':>12} {f'to conv. {unit}':>15} {'saving %':>9} "
        f"{'active %':>9} {'seconds':>8}  metric"
    )
    judged = reporting.read_verdicts(tables_dir)
    rows = (
        []
        if judged is None
        else [f"verdicts at scale {pooled.scope}", *report_verdicts.lines(judged, rules), ""]
    )
    rows += [f"scale {pooled.scope}, executed ledger, charged probes included", header]
    shown = pd.concat([results_page.main(frame, task) for task in pooled.tasks])
    for row in shown.itertuples():
        rows.append(
            f"{row.task:<{wide}} {row.method:<10} {row.n_finished:>2} {row.test_metric_mean:>12.4f} "
            f"{row.compute_to_convergence_executed_flop_mean / factor:>15.4g} "
            f"{row.saving_executed_percent_mean:>9.1f} "
            f"{row.active_share_percent_mean:>9.1f} {row.train_and_probe_seconds_mean:>8.1f}"
            f"  {row.metric}"
        )
    if len(shown) < len(frame):
        rows.append(f"{len(frame) - len(shown)} more rows in rivals, controls, learning_rate and sensitivity")
    if pooled.sanity is not None:
        rows += ["", *(f"vanilla on {row.task}: {row.verdict}" for row in pooled.sanity.itertuples())]
    html = tables_dir.parent / "report.html"
    if html.is_file():
        rows += ["", f"report: {html}"]
    return "\n".join(rows)
