"""Data: read or download once, check, and fill the cache before any run wants it."""


rule prepare:
    output:
        f"{RESULTS}/data/{{task}}.json",
    log:
        f"{RESULTS}/logs/prepare/{{task}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare-{{task}}.tsv"
    retries: 2
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=task_spec,
        code=code_hash(),
    shell:
        "python -m mat prepare --spec {params.spec:q} --out {output} > {log} 2>&1"
