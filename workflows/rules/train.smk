"""Runs: one job each. A run keeps the state it resumes from beside its outputs, which Snakemake may delete."""


rule train:
    input:
        run_inputs,
    output:
        [f"{RESULTS}/runs/{{run}}/{name}" for name in FILES],
    log:
        f"{RESULTS}/logs/train/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{run}}.tsv"
    conda:
        "../envs/mat.yaml"
    threads: run_threads
    resources:
        mem_mb=2000,
    params:
        spec=run_spec,
        labels=run_labels,
        folder=subpath(output[0], parent=True),
        device=DEVICE,
        code=code_hash(),
    shell:
        "OMP_NUM_THREADS={threads} python -m mat train --spec {params.spec:q} --labels {params.labels:q}"
        " --out {params.folder} --device {params.device} > {log} 2>&1"
