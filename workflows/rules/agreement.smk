"""Estimators: one job per family and seed measures them on one run in training."""


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
