"""Data: read or download once, check, and fill the cache before any run wants it."""


rule prepare:
    output:
        f"{RESULTS}/data/{{task}}.json",
    log:
        f"{RESULTS}/logs/prepare/{{task}}.log",
    retries: 2
    conda:
        "../envs/mat.yaml"
    params:
        task=task_settings,
        where=WHERE,
        code=code_hash(),
    shell:
        "python -m mat prepare --task {params.task:q} --out {output} {params.where} > {log} 2>&1"
