"""Tables: computed from run directories alone, so a changed rule or table never retrains anything."""


rule collect:
    input:
        code=EVIDENCE,
        runs=[f"{RESULTS}/runs/{run}/{name}" for run in RUNS for name in FILES],
    output:
        f"{TABLES}/runs.csv",
        f"{TABLES}/curves.parquet",
        f"{TABLES}/probes.parquet",
    log:
        f"{RESULTS}/logs/collect.log",
    benchmark:
        f"{RESULTS}/benchmarks/collect.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        folders=run_folders,
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat collect {params.folders} --tables {params.tables} > {log} 2>&1"


rule results:
    input:
        pooled=rules.collect.output,
        claims="workflows/claims.yaml",
    output:
        report(f"{TABLES}/results.md", caption="../report/results.rst", category="Tables"),
        report(f"{TABLES}/results.csv", caption="../report/results.rst", category="Tables"),
        f"{TABLES}/results.tex",
    log:
        f"{RESULTS}/logs/results.log",
    benchmark:
        f"{RESULTS}/benchmarks/results.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat results --tables {params.tables} --claims {input.claims} > {log} 2>&1"


rule verdicts:
    input:
        pooled=rules.collect.output,
        agreement=AGREEMENT[:1],
        claims="workflows/claims.yaml",
    output:
        report(f"{TABLES}/verdicts.md", caption="../report/verdicts.rst", category="Verdicts"),
        report(f"{TABLES}/verdicts.csv", caption="../report/verdicts.rst", category="Verdicts"),
    log:
        f"{RESULTS}/logs/verdicts.log",
    benchmark:
        f"{RESULTS}/benchmarks/verdicts.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat verdicts --tables {params.tables} --claims {input.claims} > {log} 2>&1"


rule register:
    input:
        code=EVIDENCE,
        register="workflows/ambiguities.yaml",
    output:
        report(f"{TABLES}/ambiguities.md", caption="../report/ambiguities.rst", category="Verdicts"),
    log:
        f"{RESULTS}/logs/register.log",
    benchmark:
        f"{RESULTS}/benchmarks/register.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat register --tables {params.tables} --ambiguities {input.register} > {log} 2>&1"
