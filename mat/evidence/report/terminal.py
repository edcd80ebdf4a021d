"""One run, or a scale's verdicts and results, in lines for a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from mat.evidence.catalogue import tables as catalogue
from mat.evidence.claims.load import load_claims
from mat.evidence.measures import curves
from mat.evidence.report import erratum, verdicts
from mat.evidence.runs import metrics, pool
from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.results import main_rows, results
from mat.modes import DETACHED
from mat.records.costs import FLOPS_PER_MAC, LEDGERS, flop_unit


def run(directory: Path) -> str:
    """One run directory for a terminal: what it is, how it ended, what it cost, what was active."""
    row, spec, curve, probes, _ = pool.read_run(directory)
    charged, unit = row["charges_probe"], row["loss_unit"]
    tested = ", ".join(f"{name} {row[f'test_{name}']:.4f}" for name in metrics.read_names(row["metrics"]))
    lines = [
        f"run       {row['run']}",
        f"is        scale {row['scale']}, task {row['task']}, method {row['method']}, seed {row['seed']}",
        f"status    {row['status']} after {row['steps']} steps, {len(curve)} evaluations",
        f"test      {tested}, loss {row['test_loss']:.4f} {unit}",
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
    reached = 100 * curves.mean_reached_share(curve)
    if row["mode"] == "detach":
        lines.append(f"mode      {DETACHED}")
    lines += [
        f"time      {seconds:.1f} s of training and charged probes, {row['threads']} threads",
        f"probes    every {row['interval']} steps, n = {row['probe_n']}",
        f"active    {active:.1f} % of {row['modules']} modules on average, a gradient reached {reached:.1f} %",
        "          by interval (# active, ! and hardly reached by a gradient, . inactive, x frozen for good):",
        *(f"  {module:<20} {_flags(rows)}" for module, rows in probes.groupby("module", sort=False)),
        *(f"spec      {key}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(spec.items())),
    ]
    return "\n".join(lines)


def _learned(tables: Tables, task: str) -> str:
    return f"vanilla on {task}: {', '.join(filter(None, (tables.sanity_of(task), tables.converged(task))))}"


def _flags(rows: pd.DataFrame) -> str:
    """One character per interval: # active, ! active and reached in less than half of its steps, . inactive, x frozen
    for good."""
    ordered = rows.sort_values("interval")
    return "".join(
        "x" if row.frozen else "." if not row.active else "!" if row.reached < 0.5 else "#"
        for row in ordered.itertuples()
    )


def scale(tables_dir: Path, claims: Path) -> str:
    """For a terminal: the erratum that lies beside the folder, the verdicts when they are there, the results in a few
    columns, and where the report is."""
    tables, rules = catalogue.load(tables_dir), load_claims(claims)
    frame = results(tables, rules.convergence)
    factor, unit = flop_unit(frame["compute_to_convergence_executed_flop_mean"].max())
    wide = max(10, *map(len, tables.tasks))
    header = (
        f"{'task':<{wide}} {'method':<10} {'n':>2} {'test metric':>12} {f'to conv. {unit}':>15} {'saving %':>9} "
        f"{'active %':>9} {'seconds':>8}  metric"
    )
    judged = tables.made.get("verdicts")
    rows = [line for text in erratum.note(erratum.read(tables_dir.parent)) for line in (text, "")]
    if judged is not None:
        rows += [f"verdicts at scale {tables.scope}", *verdicts.lines(judged, rules), ""]
    rows += [f"scale {tables.scope}, executed ledger, charged probes included", header]
    shown = pd.concat([main_rows(frame, task) for task in tables.tasks])
    for row in shown.itertuples():
        rows.append(
            f"{row.task:<{wide}} {row.method:<10} {row.n_finished:>2} {row.test_metric_mean:>12.4f} "
            f"{row.compute_to_convergence_executed_flop_mean / factor:>15.4g} {row.saving_executed_percent_mean:>9.1f} "
            f"{row.active_share_percent_mean:>9.1f} {row.train_and_probe_seconds_mean:>8.1f}  {row.metric}"
        )
    if len(shown) < len(frame):
        rows.append(f"{len(frame) - len(shown)} more rows in rivals, controls, learning_rate and sensitivity")
    if "sanity" in tables.made:
        rows += ["", *(_learned(tables, task) for task in tables.made["sanity"]["task"])]
    html = tables_dir.parent / "report.html"
    if html.is_file():
        rows += ["", f"report: {html}"]
    return "\n".join(rows)
