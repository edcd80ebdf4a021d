"""Branches: one job per family and seed trains a run and, from its checkpoints, single modules and sets of them."""


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
