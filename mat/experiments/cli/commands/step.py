"""``mat step``: what the workflow calls, one command a rule."""

from __future__ import annotations

import json
import platform
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mat.errors import InputError
from mat.experiments.cli import options
from mat.experiments.cli.commands.look import ROOT
from mat.experiments.cli.serve import serve

if TYPE_CHECKING:
    from mat.experiments.config.scale import ScaleConfig

FIGURES = options.path("--figures", "folder of figures")


@click.group(short_help="The steps of the pipeline, as the workflow calls them.")
def step() -> None:
    """The steps of the pipeline, as the workflow calls them; `snakemake --cores all` calls them all in order."""


step.add_command(serve)
_of_a_task = options.together(
    click.option("--spec", required=True, metavar="JSON|FILE", help="a specification of the task's runs"),
    options.path("--out", "what was found: files or sizes, and hashes", "FILE"),
    options.data,
)


@step.command()
@_of_a_task
def fetch(spec: str, out: Path, data: Path | None, cache: Path) -> None:
    """Download and check a task's data.

    Where there is a mirror, the files are found there.
    """
    from mat.experiments.config.spec import Spec
    from mat.experiments.training import prepare
    from mat.records.files import write_json

    write_json(prepare.fetch(Spec.of(options.mapping("--spec", spec)), options.machine_of(data, cache)), out)


@step.command()
@_of_a_task
def prepare(spec: str, out: Path, data: Path | None, cache: Path) -> None:
    """Read a task's data into the cache.

    Says what was read, and refuses a specification that does not fit it.
    """
    from mat.experiments.config.spec import Spec
    from mat.experiments.training.prepare import check
    from mat.records.files import write_json
    from mat.records.seal import beside, write_seal

    write_json(check(Spec.of(options.mapping("--spec", spec)), options.machine_of(data, cache)), out)
    write_seal(beside(out), [out.name])


@step.command()
@click.argument("study")
@click.option("--job", required=True, metavar="JSON|FILE", help="labels, specification and settings of the job")
@options.path("--out", "the table to write", "FILE")
@options.machine
def measure(study: str, job: str, out: Path, device: str, save_every: float, data: Path | None, cache: Path) -> None:
    """Measure beside a run what a study asks."""
    from mat.experiments.studies import registry

    machine, asked = options.machine_of(data, cache, device), registry.find(study)
    one = asked.job(options.mapping("--job", job))
    options.say(f"{one.name} -> {out} on {platform.node()}")
    asked.session.measure(one, out, machine, options.reporter(), save_every)


@step.command()
@click.argument("prepared", nargs=-1, metavar="[FILE]...", type=options.PATH)
@click.option("--config", required=True, metavar="JSON|FILE", help="a scale's config: scale, tasks and ceiling")
@options.tables
def ceiling(prepared: tuple[Path, ...], config: str, tables: Path) -> None:
    """Write what a step can save at most.

    By the closed forms of each model. FILEs are what `mat step prepare` wrote, named TASK-LABEL.json.
    """
    from mat.experiments.config.scale import ScaleConfig

    _store_ceiling(ScaleConfig.of(options.mapping("--config", config)), prepared, tables)


def _store_ceiling(asked: ScaleConfig, prepared: Iterable[Path], tables: Path) -> None:
    from mat.evidence.catalogue import tables as catalogue
    from mat.experiments.studies.ceiling import parts, savings, subjects_of
    from mat.records.files import read_json
    from mat.records.seal import beside, check_seal

    for path in prepared:
        check_seal(beside(path), [path.name], "prepare the task again")
    found = subjects_of(asked, {path.stem: read_json(path) for path in prepared})
    catalogue.store("ceiling_parts", parts(found, asked), tables)
    catalogue.store("ceiling", savings(found, asked), tables)


def ceiling_of(home: Path, tables: Path, labels: list[str]) -> bool:
    """The step for these tasks of a scale, from what was prepared in its results ``home``; whether all of that and the
    scale's config are there."""
    from mat.experiments.config.scale import CONFIGS, ScaleConfig, read_scale
    from mat.experiments.studies.ceiling import part

    prepared = [home / "data" / f"{label}.json" for label in labels]
    if not all(path.is_file() for path in (*prepared, CONFIGS / f"{home.name}.yaml")):
        return False
    _store_ceiling(ScaleConfig.of(json.loads(part(read_scale(home.name), labels))), prepared, tables)
    return True


@step.command()
@click.argument("runs", nargs=-1, required=True, metavar="DIR...", type=options.PATH)
@options.tables
@click.option("--selection", default="", metavar="TEXT", help="what was selected of the scale, for tables to say")
def collect(runs: tuple[Path, ...], tables: Path, selection: str) -> None:
    """Pool run directories into tables."""
    from mat.evidence.runs import pool, pooled

    pooled.save(pool.collect(runs, selection), tables)


@step.command()
@click.argument("name")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=options.PATH)
@options.tables
@options.claims
@options.register
@options.path("--levels", "the levels by scale and task", "YAML", default=Path("workflows/sanity.yaml"))
@options.path("--readings", "the readings of the paper", "YAML", default=Path("workflows/readings.yaml"))
def table(name: str, files: tuple[Path, ...], tables: Path, **rules: Path) -> None:
    """Write a table and its page.

    From the pooled runs, from other tables, or from FILEs that a study's jobs wrote.
    """
    from mat.evidence.catalogue.tables import write

    write(name, tables, files, **rules)


@step.command()
@options.tables
@options.claims
@options.path("--out", "the power plan to complete", "YAML", default=Path("workflows/power.yaml"))
@click.option("--most", type=click.IntRange(2), required=True, metavar="N", help="seeds that the scale lists")
def power(tables: Path, claims: Path, out: Path, most: int) -> None:
    """Say how many seeds each claim needs.

    Writes the part of the tables' scale into the power plan, from the spread of these tables' runs.
    """
    from mat.evidence.catalogue import tables as catalogue
    from mat.evidence.claims import readings, seeds_by_power
    from mat.evidence.claims.load import load_claims
    from mat.records.files import write_text
    from mat.settings.power import HEADER, read_power
    from mat.settings.yaml_file import yaml_text

    plan, pilot, rules = read_power(out), catalogue.load(tables), load_claims(claims)
    unknown = sorted(set(plan.matters) - {claim.id for claim in rules.claims})
    if unknown:
        raise InputError(f"{out.name}: matters.{unknown[0]}: expected a claim of {claims.name}; change it")
    matters = {name: matter.effects for name, matter in plan.matters.items()}
    found = seeds_by_power.scale_plan(pilot, rules, readings.load_beside(claims), matters, most)
    content = plan.model_dump(mode="json")
    content["scales"][pilot.scale] = found
    write_text(HEADER + yaml_text(content), out)


@step.command()
@click.argument("script", type=options.PATH)
@options.tables
@options.path("--out", "folder of the figure")
def draw(script: Path, tables: Path, out: Path) -> None:
    """Draw a figure.

    The same as `python SCRIPT --tables DIR --out DIR`.
    """
    drawn(script, tables, out)


def drawn(script: Path, tables: Path, out: Path) -> None:
    """The step."""
    sys.argv = [str(script), "--tables", str(tables), "--out", str(out)]
    sys.path.insert(0, str(script.parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.path.remove(str(script.parent))


@step.command()
@options.tables
@FIGURES
def provenance(tables: Path, figures: Path) -> None:
    """Record the hashes of tables, figures and runs."""
    from mat.evidence.report import files

    files.provenance(tables, figures, ROOT)


@step.command()
@options.tables
@FIGURES
@options.claims
@options.path("--page", "template, style and script", default=Path("workflows/report"))
@options.path(
    "--methods",
    "the methods' files, for their cards (default: the package's)",
    default=Path(__file__).parents[3] / "methods",
    show_default=False,
)
@options.path("--out", "folder of the page")
def report(tables: Path, figures: Path, claims: Path, page: Path, methods: Path, out: Path) -> None:
    """Write REPORT.md, report.html and claims.json."""
    from mat.evidence.report import files

    files.report(tables, figures, claims, methods, page, out, ROOT)


@step.command()
@options.tables
@options.claims
@options.register
@options.path("--out", "folder of the page")
def reproducibility(tables: Path, claims: Path, ambiguities: Path, out: Path) -> None:
    """Write REPRODUCIBILITY.md.

    The scale in the words of the ML Reproducibility Challenge.
    """
    from mat.evidence.report import files

    files.reproducibility(tables, claims, ambiguities, out)


@step.command()
@options.tables
@FIGURES
@options.path("--out", "the ZIP file to write", "FILE")
def crate(tables: Path, figures: Path, out: Path) -> None:
    """Pack tables, figures and pages as an RO-Crate."""
    from mat.evidence.report import files

    files.crate(tables, figures, out, ROOT)


def schema_text() -> str:
    """The JSON schema of a scale's YAML, studies included."""
    from mat.experiments.config.schema import schema
    from mat.experiments.studies.registry import STUDIES

    return schema({name: study.settings for name, study in STUDIES.items()})


@step.command()
@options.path("--out", "the JSON schema to write", "FILE", default=Path("workflows/schemas/scale.schema.json"))
def schema(out: Path) -> None:
    """Write the JSON schema of a scale's YAML.

    Editors complete and check a config by it.
    """
    from mat.records.files import write_text

    write_text(schema_text(), out)
