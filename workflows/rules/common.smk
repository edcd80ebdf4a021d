"""What the config expands to, and the functions that rules ask."""

import sys


def one_line(kind, error, trace):
    """An interrupt while jobs are being found ends in a line; later ones Snakemake sees to. First of all, because
    imports take a while."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; give the same command again", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = one_line


import json
from contextlib import suppress
from os import environ
from os.path import relpath
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from mat.experiments.cli import handover, progress
from mat.experiments.planning.rows import cost_of, rows, whole
from mat.experiments.studies import ceiling
from mat.experiments.studies.registry import STUDIES
from mat.experiments.config import selection
from mat.errors import InputError
from mat.evidence.catalogue import figures, tables
from mat.evidence.runs import pooled
from mat.evidence.tables import tuning
from mat.evidence.tables.sanity import levels_of
from mat.experiments.config.plugins import Plugin
from mat.experiments.config.scale import CONFIGS, read_scale
from mat.experiments.config.spec import Start
from mat.experiments.training import code_version
from mat.records.files import ENDING
from mat.records.run import CHECKPOINT, WRITTEN
from mat.records.seal import SEAL, beside


def read_config():
    """The scale as it is asked for: its own file (a name, or a file of yours) with --config seeds=[…], data, cache and
    device; what of it: --config only=TERMS; its seeds where they are not the file's."""
    asked = {key: value for key, value in config.items() if key not in ("scale", "only", "rate")}
    name, configs = config.get("scale", "demo"), Path(workflow.basedir, CONFIGS)
    try:
        content = read_scale(name, asked, configs)
        own = read_scale(name, configs=configs).seeds
        only = selection.terms_of(config.get("only"))
        return content, only, None if content.seeds == own else content.seeds
    except InputError as error:
        raise WorkflowError(str(error))


CONTENT, ONLY, SEEDS = read_config()
SCALE = CONTENT.scale
CONFIG_FILE = relpath(CONTENT.path)
DEVICE = CONTENT.device
# through the environment, not through parameters: a moved mirror or cache is no reason to train again
for given, variable in ((CONTENT.data, "MAT_DATA"), (CONTENT.cache, "MAT_CACHE")):
    if given:
        environ[variable] = given
if environ.get("MAT_DATA") and not Path(environ["MAT_DATA"]).is_dir():
    raise WorkflowError(
        f"the data folder {environ['MAT_DATA']} does not exist; set MAT_DATA (or --config data=DIR) to a "
        "mirror in hub layout, or leave it out to read from the hub"
    )

METHOD_FILES = sorted(relpath(file, workflow.basedir) for file in Path(workflow.basedir, "mat/methods").glob("*.py"))
SCRIPTS = Path(workflow.basedir, "paper_figures")
LEVELS = tables.rule_files()["levels"].path


def expand_scale():
    """What is asked for: the runs with all that they need, by name; those of them that keep their weights, because some
    run of the scale starts from them; the tasks; by study, its jobs by name; whether a level for vanilla is stated. A
    config that cannot be used ends here, before any job."""
    try:
        runs, measured = whole(CONTENT)
        rows(runs, measured)  # what does not fit is refused here
        levels = levels_of(Path(workflow.basedir, LEVELS), SCALE, CONTENT.tasks)
        tasks = sorted({run.task for run in selection.choose(runs, ONLY)})
        chosen = {run.spec.name: run for run in selection.select(runs, ONLY)}
    except InputError as error:
        raise WorkflowError(str(error))
    starts = {run.starts_from for run in runs} & set(chosen)
    jobs = {name: {} for name in STUDIES}
    for job in measured:
        if job.task in tasks:
            jobs[job.study][job.name] = job
    return chosen, starts, tasks, jobs, levels is not None


SELECTION = selection.text(ONLY, SEEDS)
PART = selection.folder(ONLY, SEEDS)
# runs and data are the scale's, whatever is selected; tables and figures of a part have a place of their own
RESULTS = f"results/{SCALE}"
MADE = f"{RESULTS}/{PART}" if PART else RESULTS
TABLES = f"{MADE}/tables"
FIGURES = f"paper_figures/{SCALE}/{PART}" if PART else f"paper_figures/{SCALE}"
# what was found wrong since, where something was
ERRATUM = [path for path in [f"{MADE}/ERRATUM.md"] if Path(path).is_file()]

RUNS, STARTS, TASKS, JOBS, HAS_LEVELS = expand_scale()
# what jobs measured, by study, and all that tables and figures may ask of a scale
MEASURED = {study: [f"{RESULTS}/{study}/{job}{ENDING}" for job in jobs] for study, jobs in JOBS.items()}
ASKED = {
    *(study for study, files in MEASURED.items() if files),
    *(["ceiling"] if CONTENT.ceiling else []),
    *(["levels"] if HAS_LEVELS else []),
    *(["tuning"] if Path(tuning.PLACE.format(scale=SCALE)).is_file() else []),
}
RECORDS = {table.name: table for table in tables.of_scale(ASKED)}
POOLED = [f"{TABLES}/{name}" for name in (*pooled.WRITTEN, SEAL)]
# what a report is made from, pooled runs included
TABLE_FILES = [
    *POOLED,
    *(f"{TABLES}/{name}.{kind}" for name, table in RECORDS.items() for kind in table.kinds),
]
FIGURE_NAMES = [figure.name for figure in figures.of_scale(SCRIPTS, ASKED, {run.method for run in RUNS.values()})]


def task_alone(wildcards):
    """A specification of the task label by itself, without what methods change of it: the same text whatever is
    selected, so that no selection prepares data again."""
    start = CONTENT.tasks[wildcards.task].start
    hub = None if start is None or start.hub is None else Start(**start.given())
    vanilla = Plugin.of("method", {"name": "vanilla"}, "method")
    return CONTENT.of_task(wildcards.task).spec(vanilla, start=hub, seed=0, threads=1)


def task_spec(wildcards):
    return task_alone(wildcards).json


def named(runs):
    """A pattern for exactly these runs; for none when there are none."""
    return "|".join(sorted(runs)) or "(?!)"


def run_inputs(wildcards):
    """The run's data; that run's record of active modules which its method follows, and that run's checkpoint which
    it starts from."""
    run = RUNS[wildcards.run]
    needed = [f"{RESULTS}/data/{run.task}.json"]
    if run.follows:
        needed += [f"{RESULTS}/runs/{run.follows}/{name}" for name in WRITTEN]
    if run.starts_from:
        needed += [f"{RESULTS}/runs/{run.starts_from}/{name}" for name in (*WRITTEN, *CHECKPOINT)]
    return needed


def seal_of(path):
    """The file of sums beside a file that is read back."""
    return str(beside(Path(path)))


def run_spec(wildcards):
    return RUNS[wildcards.run].spec.json


def run_labels(wildcards):
    return json.dumps(RUNS[wildcards.run].labels)


def run_threads(wildcards):
    return RUNS[wildcards.run].spec.threads


def run_code(wildcards):
    """What of the code can change the run's numbers, those that it follows included."""
    run = RUNS[wildcards.run]
    followed = code_version.run_modules(RUNS[run.follows].spec) if run.follows else {}
    return code_version.code_hash({**followed, **code_version.run_modules(run.spec)})


def job_named(wildcards):
    return JOBS[wildcards.study][wildcards.job]


def job_data(wildcards):
    return f"{RESULTS}/data/{job_named(wildcards).task}.json"


def job_json(wildcards):
    return job_named(wildcards).json


def job_threads(wildcards):
    return job_named(wildcards).spec.threads


def job_cores(wildcards):
    """All of this machine's, for a job beside which nothing may run; on a cluster its own, before and at the node."""
    here = workflow.local_exec and not workflow.remote_exec
    alone = here and STUDIES[wildcards.study].alone
    return workflow.cores if alone else job_threads(wildcards)


def job_code(wildcards):
    return code_version.code_hash(STUDIES[wildcards.study].session.modules(job_named(wildcards)))


def data_code(wildcards):
    """What of the code reads the task's data and says that its runs fit it."""
    return code_version.code_hash(code_version.run_modules(task_alone(wildcards), code_version.PREPARING))


def ceiling_code(wildcards):
    families = sorted({run.spec.model.origin for run in RUNS.values()}, key=str)
    return evidence_code(code_version.CEILING, tables.__name__, *tables.modules_of(tables.find("ceiling")), *families)


def ceiling_json(wildcards):
    return ceiling.part(CONTENT, TASKS)


def tables_with(*kinds):
    """A pattern for the tables that evidence computes and that have files of these kinds."""
    return named(name for name, table in RECORDS.items() if table.kinds == kinds and table.compute)


def table_reads(wildcards):
    """What the table's record reads, of what the scale has: pooled runs, rules, other tables."""
    sources = [name for name in tables.sources(RECORDS[wildcards.table], SCALE) if "*" not in name]
    own = [f"{TABLES}/{name}" for name in sources if "/" not in name]
    return [*(name for name in own if name in TABLE_FILES), *(name for name in sources if "/" in name)]


def table_measured(wildcards):
    """What the jobs of the table's study measured."""
    table = RECORDS[wildcards.table]
    return MEASURED[table.needs] if table.measured else []


def evidence_code(*modules):
    """What of the code can change what is made from records: these modules and what they import."""
    return code_version.code_hash(code_version.modules(*modules))


def table_code(wildcards):
    return evidence_code(tables.__name__, *tables.modules_of(RECORDS[wildcards.table]))


def report_code(wildcards):
    every = sorted({module for table in RECORDS.values() for module in tables.modules_of(table)})
    return evidence_code("mat.evidence.report.files", *every)


def figure_tables(wildcards):
    """The pooled runs, which every figure reads, and those of its tables that the scale has."""
    return [f"{TABLES}/{name}" for name in figures.known(SCRIPTS)[wildcards.figure].sources(RECORDS)]


def run_folders(wildcards, input):
    return sorted({str(Path(file).parent) for file in input.runs})


# what computes, by name: runs and the studies' jobs
TRAINED = {**RUNS, **{name: job for jobs in JOBS.values() for name, job in jobs.items()}}


def plugins():
    """Our tasks, models and methods that runs and studies stand on."""
    origins = {origin for one in TRAINED.values() for origin in one.spec.modules()}
    return sorted(origin for origin in origins if isinstance(origin, str))


def to_do():
    """The names of the jobs that are to be run."""
    return [progress.name_of(job.rule.name, job.wildcards_dict) for job in workflow.dag.needrun_jobs()]


def work():
    """Multiply-adds by run and study's job, of those that have a closed form."""
    found = {}
    for name, one in TRAINED.items():
        with suppress(InputError):
            found[name] = sum(cost_of(one)[1:])
    return found


def made(wildcards):
    """Every table and figure, for what is made from all of them."""
    figures = expand(f"{FIGURES}/{{figure}}.{{kind}}", figure=FIGURE_NAMES, kind=("pdf", "png"))
    return [*TABLE_FILES, *figures]
