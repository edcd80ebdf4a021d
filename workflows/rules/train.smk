"""Runs: one job each. A run keeps the state it resumes from beside its outputs, which Snakemake may delete."""


rule train:
    input:
        run_inputs,
    output:
        [f"{RESULTS}/runs/{{run}}/{name}" for name in WRITTEN],
    log:
        f"{RESULTS}/logs/train/{{run}}.log",
    wildcard_constraints:
        run=named(set(RUNS) - STARTS),
    conda:
        "../envs/mat.yaml"
    threads: run_threads
    resources:
        mem_mb=run_megabytes,
        runtime=run_minutes,
        gpu=GPUS,
    params:
        spec=run_spec,
        labels=run_labels,
        folder=subpath(output[0], parent=True),
        device=DEVICE,
        keep="",
        code=run_code,
    shell:
        "OMP_NUM_THREADS={threads} python -m mat train --spec {params.spec:q} --labels {params.labels:q}"
        " --out {params.folder} --device {params.device} {params.keep} > {log} 2>&1"


# the same, for runs that others start from: they keep their weights, and others wait for them
use rule train as pretrain with:
    output:
        [f"{RESULTS}/runs/{{run}}/{name}" for name in (*WRITTEN, *CHECKPOINT)],
    wildcard_constraints:
        run=named(STARTS),
    priority: 1
    params:
        spec=run_spec,
        labels=run_labels,
        folder=subpath(output[0], parent=True),
        device=DEVICE,
        keep="--checkpoint",
        code=run_code,
