"""Data: fetched or found in a mirror, checked, and put into the cache, before any run wants it."""


rule fetch:
    output:
        f"{RESULTS}/data/fetched/{{task}}.json",
    log:
        f"{RESULTS}/logs/fetch/{{task}}.log",
    retries: 3  # whole files stay, so that a try goes on where the last one was cut off
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        spec=task_spec,
        code=data_code,
    shell:
        "python -m mat step fetch --spec {params.spec:q} --out {output} > {log} 2>&1"


rule prepare:
    input:
        rules.fetch.output,
    output:
        made=f"{RESULTS}/data/{{task}}.json",
        seal=seal_of(f"{RESULTS}/data/{{task}}.json"),
    log:
        f"{RESULTS}/logs/prepare/{{task}}.log",
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=task_spec,
        code=data_code,
    shell:
        "python -m mat step prepare --spec {params.spec:q} --out {output.made} > {log} 2>&1"
