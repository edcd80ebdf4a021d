"""What a reader gets: hashes from data to figure, the report as a page and as Markdown; from tables and figures alone."""


rule provenance:
    input:
        made=made,
        fixed=[
            *(file.path for file in tables.rule_files().values()),
            CONFIG_FILE,
        ],
    output:
        f"{TABLES}/provenance.json",
        f"{TABLES}/provenance.md",
    log:
        f"{MADE}/logs/provenance.log",
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=subpath(output[0], parent=True),
        figures=FIGURES,
    shell:
        "python -m mat step provenance --tables {params.tables:q} --figures {params.figures:q} > {log:q} 2>&1"


rule report:
    input:
        made=made,
        record=f"{TABLES}/provenance.json",
        template="workflows/report/page.html.j2",
        looks=["workflows/report/page.css", "workflows/report/page.js"],
        claims="workflows/claims.yaml",
        methods=METHOD_FILES,
        erratum=ERRATUM,
    output:
        f"{MADE}/REPORT.md",
        f"{MADE}/report.html",
        f"{MADE}/claims.json",
    log:
        f"{MADE}/logs/report.log",
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=report_code,
        tables=subpath(input.record, parent=True),
        figures=FIGURES,
        page=subpath(input.template, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m mat step report --tables {params.tables:q} --figures {params.figures:q} --claims {input.claims}"
        " --page {params.page} --out {params.out:q} > {log:q} 2>&1"


rule reproducibility:
    input:
        made=TABLE_FILES,
        record=f"{TABLES}/runs.csv",
        claims="workflows/claims.yaml",
        register="workflows/ambiguities.yaml",
        erratum=ERRATUM,
    output:
        f"{MADE}/REPRODUCIBILITY.md",
    log:
        f"{MADE}/logs/reproducibility.log",
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=report_code,
        tables=subpath(input.record, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m mat step reproducibility --tables {params.tables:q} --claims {input.claims}"
        " --ambiguities {input.register} --out {params.out:q} > {log:q} 2>&1"


rule crate:
    input:
        rules.report.output,
        rules.reproducibility.output,
        made=made,
        record=f"{TABLES}/provenance.json",
    output:
        f"{MADE}/crate.zip",
    log:
        f"{MADE}/logs/crate.log",
    conda:
        "../envs/mat.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=report_code,
        tables=subpath(input.record, parent=True),
        figures=FIGURES,
    shell:
        "python -m mat step crate --tables {params.tables:q} --figures {params.figures:q} --out {output:q}"
        " > {log:q} 2>&1"
