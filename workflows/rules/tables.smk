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
        f"{MADE}/logs/collect.log",
    benchmark:
        f"{MADE}/benchmarks/collect.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        folders=run_folders,
        selection=SELECTION,
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat collect {params.folders} --tables {params.tables:q} --selection={params.selection:q}"
        " > {log:q} 2>&1"


rule results:
    input:
        pooled=rules.collect.output,
        claims="workflows/claims.yaml",
    output:
        report(f"{TABLES}/results.md", caption="../report/results.rst", category="Tables"),
        report(f"{TABLES}/results.csv", caption="../report/results.rst", category="Tables"),
        f"{TABLES}/results.tex",
    log:
        f"{MADE}/logs/results.log",
    benchmark:
        f"{MADE}/benchmarks/results.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat results --tables {params.tables:q} --claims {input.claims} > {log:q} 2>&1"


rule scores:
    input:
        pooled=rules.collect.output,
    output:
        report(f"{TABLES}/scores.md", caption="../report/scores.rst", category="Tables"),
        report(f"{TABLES}/scores.csv", caption="../report/scores.rst", category="Tables"),
        f"{TABLES}/scores.tex",
    log:
        f"{MADE}/logs/scores.log",
    benchmark:
        f"{MADE}/benchmarks/scores.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat scores --tables {params.tables:q} > {log:q} 2>&1"


rule sanity:
    input:
        pooled=rules.collect.output,
        levels=LEVELS,
    output:
        f"{TABLES}/sanity.csv",
        report(f"{TABLES}/sanity.md", caption="../report/sanity.rst", category="Tables"),
    log:
        f"{MADE}/logs/sanity.log",
    benchmark:
        f"{MADE}/benchmarks/sanity.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat sanity --tables {params.tables:q} --levels {input.levels} > {log:q} 2>&1"


rule comparison:
    input:
        pooled=rules.collect.output,
        claims="workflows/claims.yaml",
    output:
        f"{TABLES}/{{comparison}}.csv",
        report(f"{TABLES}/{{comparison}}.md", caption="../report/comparison.rst", category="Tables"),
        f"{TABLES}/{{comparison}}.tex",
    log:
        f"{MADE}/logs/{{comparison}}.log",
    benchmark:
        f"{MADE}/benchmarks/{{comparison}}.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
        command=comparison_command,
    shell:
        "python -m mat {params.command} --tables {params.tables:q} --claims {input.claims} > {log:q} 2>&1"


rule sensitivity:
    input:
        pooled=rules.collect.output,
        claims="workflows/claims.yaml",
        register="workflows/ambiguities.yaml",
    output:
        f"{TABLES}/sensitivity.csv",
        report(f"{TABLES}/sensitivity.md", caption="../report/sensitivity.rst", category="Tables"),
        f"{TABLES}/sensitivity.tex",
    log:
        f"{MADE}/logs/sensitivity.log",
    benchmark:
        f"{MADE}/benchmarks/sensitivity.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat sensitivity --tables {params.tables:q} --claims {input.claims}"
        " --ambiguities {input.register} > {log:q} 2>&1"


rule verdicts:
    input:
        pooled=rules.collect.output,
        agreement=AGREEMENT[:1],
        sanity=SANITY[:1],
        branches=BRANCH_TABLES[:2],
        claims="workflows/claims.yaml",
    output:
        report(f"{TABLES}/verdicts.md", caption="../report/verdicts.rst", category="Verdicts"),
        report(f"{TABLES}/verdicts.csv", caption="../report/verdicts.rst", category="Verdicts"),
    log:
        f"{MADE}/logs/verdicts.log",
    benchmark:
        f"{MADE}/benchmarks/verdicts.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat verdicts --tables {params.tables:q} --claims {input.claims} > {log:q} 2>&1"


rule register:
    input:
        code=EVIDENCE,
        register="workflows/ambiguities.yaml",
    output:
        report(f"{TABLES}/ambiguities.md", caption="../report/ambiguities.rst", category="Verdicts"),
    log:
        f"{MADE}/logs/register.log",
    benchmark:
        f"{MADE}/benchmarks/register.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat register --tables {params.tables:q} --ambiguities {input.register} > {log:q} 2>&1"
