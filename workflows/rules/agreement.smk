"""Estimators: one job per family and seed measures them on one run in training; one compares the rankings."""


rule agreement:
    input:
        job_data,
    output:
        f"{RESULTS}/agreement/{{job}}.parquet",
    log:
        f"{RESULTS}/logs/agreement/{{job}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/agreement-{{job}}.tsv"
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
        "OMP_NUM_THREADS={threads} python -m mat step measure agreement --job {params.job:q} --out {output}"
        " --device {params.device} > {log} 2>&1"


rule agreement_table:
    input:
        code=EVIDENCE,
        claims="workflows/claims.yaml",
        jobs=[f"{RESULTS}/agreement/{job}.parquet" for job in JOBS],
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
