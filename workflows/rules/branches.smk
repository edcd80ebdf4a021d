"""Branches: one job per family and seed trains a run and, from its checkpoints, single modules and sets of them; one
correlates what came of them with λ_max."""


rule branches:
    input:
        job_data,
    output:
        f"{RESULTS}/branches/{{job}}.parquet",
    log:
        f"{RESULTS}/logs/branches/{{job}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/branches-{{job}}.tsv"
    conda:
        "../envs/mat.yaml"
    threads: job_threads
    resources:
        mem_mb=3000,
    params:
        job=job_json,
        device=DEVICE,
        code=code_hash("experiments/studies/"),
    shell:
        "OMP_NUM_THREADS={threads} python -m mat step measure branches --job {params.job:q} --out {output}"
        " --device {params.device} > {log} 2>&1"


rule branches_table:
    input:
        code=EVIDENCE,
        jobs=[f"{RESULTS}/branches/{job}.parquet" for job in BRANCHES],
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
