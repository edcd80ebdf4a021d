"""One run, or a scale's verdicts and results, in lines for a terminal."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mat.evidence.catalogue import tables as catalogue
from mat.evidence.claims.load import load_claims
from mat.evidence.measures import curves
from mat.evidence.report import erratum, matrix
from mat.evidence.report.finding import found
from mat.evidence.runs import metrics, pool
from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.results import main_rows, results
from mat.evidence.text import format, words
from mat.modes import DETACHED
from mat.records.costs import FLOPS_PER_MAC, LEDGERS, flop_unit

WIDTH = 80


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
    flop = FLOPS_PER_MAC * curves.value_at(curve, "macs_optimizer", -1)
    factor, flops = flop_unit(flop)
    lines.append(f"optimizer {flop / factor:.4g} {flops} of elementwise work, in neither total")
    seconds, active = curves.wall_clock(curve, charged), 100 * curves.mean_share(curve, "active_share")
    reached = 100 * curves.mean_share(curve, "reached_share")
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
    return f"vanilla on {words.task(task)}: {', '.join(filter(None, (tables.sanity_of(task), tables.converged(task))))}"


def _flags(rows: pd.DataFrame) -> str:
    """One character per interval: # active, ! active and reached in less than half of its steps, . inactive, x frozen
    for good."""
    ordered = rows.sort_values("interval")
    return "".join(
        "x" if row.frozen else "." if not row.active else "!" if row.reached < 0.5 else "#"
        for row in ordered.itertuples()
    )


def scale(tables_dir: Path, claims: Path) -> str:
    """For a terminal of ``WIDTH`` columns: the erratum that lies beside the folder, the finding and the verdicts when
    they are there, the results in a few columns, and what to open next."""
    tables, rules = catalogue.load(tables_dir), load_claims(claims)
    frame = results(tables, rules.convergence)
    judged = tables.made.get("verdicts")
    rows = [f"Modular Adaptive Training, scale {tables.scope}", ""]
    rows = [line for text in erratum.note(erratum.read(tables_dir.parent)) for line in (text, "")] + rows
    if judged is not None:
        said = found(judged, rules)
        short, points = (format.bullets(each).replace("*", "") for each in (said.headline, said.points))
        rows += [short, "", *matrix.lines(judged, rules, WIDTH), "", points, ""]
    rows += [*_results(tables, frame), ""]
    if "sanity" in tables.made:
        rows += [*(_learned(tables, task) for task in tables.made["sanity"]["task"]), ""]
    html = tables_dir.parent / "report.html"
    folded = [line for row in rows for line in _folded(row)]
    return "\n".join([*folded, f"Open next: {html if html.is_file() else tables_dir}"])


def _results(tables: Tables, frame: pd.DataFrame) -> Iterator[str]:
    """The results table in its few columns that answer most questions."""
    factor, unit = flop_unit(frame["compute_to_convergence_executed_flop_mean"].max())
    yield "Results: executed ledger, charged probes included; FLOP to convergence."
    shown = pd.concat([main_rows(frame, task) for task in tables.tasks])
    for task, same in shown.groupby("task", sort=False):
        yield f"{words.task(task)} ({same['metric'].iloc[0].replace('_', ' ')})"
        yield f"  {'method':<20} {'n':>2} {'test metric':>11} {unit:>9} {'saving %':>9} {'active %':>9} {'seconds':>8}"
        for row in same.itertuples():
            yield (
                f"  {words.method(row.method)[:20]:<20} {row.n_finished:>2} {row.test_metric_mean:>11.4f} "
                f"{row.compute_to_convergence_executed_flop_mean / factor:>9.4g} "
                f"{row.saving_executed_percent_mean:>9.1f} {row.active_share_percent_mean:>9.1f} "
                f"{row.train_and_probe_seconds_mean:>8.1f}"
            )
    if len(shown) < len(frame):
        yield f"{len(frame) - len(shown)} more rows in rivals, controls, learning_rate and sensitivity"


def _folded(text: str) -> list[str]:
    """Its lines, those longer than ``WIDTH`` folded between words; a path stays whole."""
    lines = text.splitlines() or [""]
    fold = {"width": WIDTH, "break_long_words": False, "break_on_hyphens": False, "subsequent_indent": ""}
    return [part for line in lines for part in (textwrap.wrap(line, **fold) if len(line) > WIDTH else [line])]
