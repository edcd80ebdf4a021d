"""The whole experiment: data, runs, tables, figures. `snakemake --cores all` runs the demo scale."""

import sys
from pathlib import Path


include: "workflows/rules/common.smk"


wildcard_constraints:
    run="[^/]+",
    task="[^/]+",
    figure="[^/]+",
    job="[^/]+",


include: "workflows/rules/requests.smk"
include: "workflows/rules/data.smk"
include: "workflows/rules/train.smk"
include: "workflows/rules/study.smk"
include: "workflows/rules/ceiling.smk"
include: "workflows/rules/tables.smk"
include: "workflows/rules/figures.smk"
include: "workflows/rules/report.smk"


rule all:
    default_target: True
    input:
        # the runs themselves too: tables must not stand in for them
        rules.collect.input.runs,
        made,
        rules.provenance.output,
        rules.report.output,
        rules.reproducibility.output,


onstart:
    logger.addHandler(retries.NoSecondRefusal(submitted))
    if workflow.local_exec:  # what runs elsewhere cannot be handed over
        handover.start(plugins())
        # with a limit to jobs per second, which is for clusters, every turn of Snakemake's loop begins another one a
        # second later: the more jobs have ended, the more often it turns and looks at all files
        workflow.scheduler.job_rate_limiter = None
    if sys.stderr.isatty():
        progress.show(logger, to_do(), work(), sys.stderr)


onerror:
    progress.end(logger)


onsuccess:
    progress.end(logger)
    if all(
        Path(TABLES, name).exists() for name in ("results.csv", "verdicts.csv")
    ):  # not asked for some files only
        shell("python -m mat summary --tables {TABLES:q} --claims workflows/claims.yaml")
