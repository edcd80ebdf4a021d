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
        "python -m mat step collect {params.folders} --tables {params.tables:q} --selection={params.selection:q}"
        " > {log:q} 2>&1"


rule results:
    input:
        pooled=rules.collect.output,
        claims="workflows/claims.yaml",
    output:
        f"{TABLES}/results.md",
        f"{TABLES}/results.csv",
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
        "python -m mat step table results --tables {params.tables:q} --claims {input.claims} > {log:q} 2>&1"


rule scores:
    input:
        pooled=rules.collect.output,
    output:
        f"{TABLES}/scores.md",
        f"{TABLES}/scores.csv",
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
        "python -m mat step table scores --tables {params.tables:q} > {log:q} 2>&1"


rule sanity:
    input:
        pooled=rules.collect.output,
        levels=LEVELS,
    output:
        f"{TABLES}/sanity.csv",
        f"{TABLES}/sanity.md",
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
        "python -m mat step table sanity --tables {params.tables:q} --levels {input.levels} > {log:q} 2>&1"


rule comparison:
    input:
        pooled=rules.collect.output,
        claims="workflows/claims.yaml",
    output:
        f"{TABLES}/{{comparison}}.csv",
        f"{TABLES}/{{comparison}}.md",
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
    shell:
        "python -m mat step table {wildcards.comparison} --tables {params.tables:q} --claims {input.claims} > {log:q} 2>&1"


rule sensitivity:
    input:
        pooled=rules.collect.output,
        claims="workflows/claims.yaml",
        register="workflows/ambiguities.yaml",
    output:
        f"{TABLES}/sensitivity.csv",
        f"{TABLES}/sensitivity.md",
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
        "python -m mat step table sensitivity --tables {params.tables:q} --claims {input.claims}"
        " --ambiguities {input.register} > {log:q} 2>&1"


rule verdicts:
    input:
        pooled=rules.collect.output,
        agreement=AGREEMENT[:1],
        sanity=SANITY[:1],
        branches=BRANCH_TABLES[:2],
        claims="workflows/claims.yaml",
    output:
        f"{TABLES}/verdicts.md",
        f"{TABLES}/verdicts.csv",
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
        "python -m mat step table verdicts --tables {params.tables:q} --claims {input.claims} > {log:q} 2>&1"


rule register:
    input:
        code=EVIDENCE,
        register="workflows/ambiguities.yaml",
    output:
        f"{TABLES}/ambiguities.md",
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
        "python -m mat step table ambiguities --tables {params.tables:q} --ambiguities {input.register} > {log:q} 2>&1"


rule agreement_table:
    input:
        code=EVIDENCE,
        claims="workflows/claims.yaml",
        jobs=job_tables("agreement"),
    output:
        f"{TABLES}/agreement.csv",
        f"{TABLES}/agreement.md",
    log:
        f"{MADE}/logs/agreement.log",
    benchmark:
        f"{MADE}/benchmarks/agreement.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat step table agreement {input.jobs} --tables {params.tables:q} --claims {input.claims} > {log:q} 2>&1"


rule branches_table:
    input:
        code=EVIDENCE,
        jobs=job_tables("branches"),
    output:
        [f"{TABLES}/trainability.{kind}" for kind in ("csv", "md")],
        [f"{TABLES}/generalisation.{kind}" for kind in ("csv", "md")],
        f"{TABLES}/trainability_modules.csv",
    log:
        f"{MADE}/logs/branches.log",
    benchmark:
        f"{MADE}/benchmarks/branches.tsv"
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        tables=subpath(output[0], parent=True),
    shell:
        "python -m mat step table branches {input.jobs} --tables {params.tables:q} > {log:q} 2>&1"
