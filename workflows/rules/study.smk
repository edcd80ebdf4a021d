"""Studies: one job per family and seed trains a run and measures on it what the study asks."""


rule study:
    input:
        job_data,
    output:
        made=f"{RESULTS}/{{study}}/{{job}}{ENDING}",
        seal=seal_of(f"{RESULTS}/{{study}}/{{job}}{ENDING}"),
    log:
        f"{RESULTS}/logs/{{study}}/{{job}}.log",
    wildcard_constraints:
        study=named(STUDIES),
    conda:
        "../envs/mat.yaml"
    threads: job_threads
    resources:
        mem_mb=3000,
    params:
        job=job_json,
        device=DEVICE,
        code=job_code,
    shell:
        "OMP_NUM_THREADS={threads} python -m mat step measure {wildcards.study} --job {params.job:q} --out {output.made}"
        " --device {params.device} > {log} 2>&1"
