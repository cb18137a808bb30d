# The page of evaluated cases, with each condition's reply.


localrules:
    write_cases,


rule write_cases:
    input:
        predictions=PREDICTIONS,
        splits=EVALUATED_SPLITS,
        suites=SUITES,
        ruleset=config["ruleset"],
        template="workflow/report/cases.html.j2",
        style="workflow/report/standalone.css",
        script="workflow/report/cases.js",
    output:
        page=f"{RESULTS}/cases.html",
    log:
        log_of("write_cases"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=3000),
    params:
        config=excerpt(config, conditions_of(RUNS), "experiment", "evaluation", "purpose"),
        code=code_of("write_cases"),
        content=content_of(
            config["ruleset"],
            "workflow/report/cases.html.j2",
            "workflow/report/standalone.css",
            "workflow/report/cases.js",
        ),
    message:
        "Write the page of cases"
    script:
        "../scripts/write_cases.py"
