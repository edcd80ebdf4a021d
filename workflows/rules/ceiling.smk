"""The ceiling: what a training step can save at most, by formula; from shapes alone, so it waits for no run."""


rule ceiling:
    input:
        prepared=[f"{RESULTS}/data/{task}.json" for task in TASKS],
    output:
        f"{TABLES}/ceiling_parts.csv",
        f"{TABLES}/ceiling.csv",
        f"{TABLES}/ceiling.md",
    log:
        f"{MADE}/logs/ceiling.log",
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=ceiling_json,
        code=ceiling_code,
        tables=subpath(output[0], parent=True),
    shell:
        "OMP_NUM_THREADS={threads} python -m mat step ceiling {input.prepared} --config {params.config:q}"
        " --tables {params.tables:q} > {log:q} 2>&1"
