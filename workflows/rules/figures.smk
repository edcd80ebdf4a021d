"""Figures: one script each, from tables alone; editing a script draws its figure again and nothing else."""


rule figure:
    input:
        script="paper_figures/{figure}.py",
        common=[f"paper_figures/{name}" for name in figures.SHARED],
        tables=figure_tables,
    output:
        pdf=f"{FIGURES}/{{figure}}.pdf",
        png=f"{FIGURES}/{{figure}}.png",
    log:
        f"{MADE}/logs/figures/{{figure}}.log",
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=TABLES,
        figures=subpath(output.pdf, parent=True),
    shell:
        "python -m mat step draw {input.script} --tables {params.tables:q} --out {params.figures:q} > {log:q} 2>&1"
