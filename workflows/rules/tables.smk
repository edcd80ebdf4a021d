"""Tables: computed from run directories and from what studies measured, so a changed rule or table never retrains
anything. What a table reads is said by its record alone."""


rule collect:
    input:
        runs=[f"{RESULTS}/runs/{run}/{name}" for run in RUNS for name in WRITTEN],
    output:
        POOLED,
    log:
        f"{MADE}/logs/collect.log",
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=evidence_code("mat.evidence.runs.pool", "mat.evidence.runs.pooled"),
        folders=run_folders,
        selection=SELECTION,
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat step collect {params.folders} --tables {params.tables:q} --selection={params.selection:q}"
        " > {log:q} 2>&1"


rule table:
    input:
        read=table_reads,
        measured=table_measured,
    output:
        [f"{TABLES}/{{table}}.{kind}" for kind in ("csv", "md", "tex")],
    log:
        f"{MADE}/logs/{{table}}.log",
    wildcard_constraints:
        table=tables_with("csv", "md", "tex"),
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=table_code,
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat step table {wildcards.table} {input.measured} --tables {params.tables:q} > {log:q} 2>&1"


use rule table as table_without_latex with:
    output:
        [f"{TABLES}/{{table}}.{kind}" for kind in ("csv", "md")],
    wildcard_constraints:
        table=tables_with("csv", "md"),


use rule table as table_without_page with:
    output:
        f"{TABLES}/{{table}}.csv",
    wildcard_constraints:
        table=tables_with("csv"),
