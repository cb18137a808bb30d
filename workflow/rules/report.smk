# Charts, the page, and the record of what the results were made from.


localrules:
    record_run,
    render_charts,
    write_report,
    write_manifest,


PAGE_PARTS = [  # of the report, beside its template
    f"workflow/report/{name}"
    for name in [
        "macros.html.j2",
        "scorecard.html.j2",
        "rules.html.j2",
        "side_effects.html.j2",
        "examples.html.j2",
        "setup.html.j2",
        "provenance.html.j2",
        "report.css",
        "report.js",
    ]
]


rule record_run:
    input:
        **{split: PATHS.split(split) for split in SPLITS},
        suites=SUITES,
        lock="envs/requirements.txt",
        model=MANIFEST,
        inspection=INSPECTION,
        ruleset=config["ruleset"],
        cases=list(DATA_FILES.values()) if OWN_CASES else [],
        rewards=REWARD_FILES,
        adapters=[PATHS.adapter(run) / "adapter_model.safetensors" for run in TRAINED],
        costs=rules.summarize.output.costs,
    output:
        provenance=PATHS.provenance,
        config=f"{RESULTS}/config.resolved.yaml",
    log:
        log_of("record_run"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=1000),
    params:
        config=config,
        code=code_of("record_run"),
        content=content_of(config["ruleset"], "envs/requirements.txt", *REWARD_FILES),
    message:
        "Record the provenance of the results"
    script:
        "../scripts/record_run.py"


rule render_charts:
    input:
        metrics=rules.summarize.output.metrics,
        comparisons=rules.summarize.output.comparisons,
        costs=rules.summarize.output.costs,
        predictions=PREDICTIONS,
        histories=HISTORIES,
        supervision=SUPERVISION,
        ruleset=config["ruleset"],
    output:
        expand(f"{RESULTS}/charts/{{name}}.{{form}}", name=CHARTS, form=["html", "png"]),
        **{
            name: report(
                PATHS.chart(name, ".svg"),
                caption=f"../report/{name}.rst",
                category=category,
                labels={"chart": shows},
            )
            for name, (category, shows) in CHARTS.items()
        },
    log:
        log_of("render_charts"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=2000, runtime=20),
    params:
        config=excerpt(config, conditions_of(RUNS), "charts", "purpose", "suites", "decision_costs"),
        code=code_of("render_charts"),
        content=content_of(config["ruleset"]),
    message:
        "Render the charts"
    script:
        "../scripts/render_charts.py"


rule write_report:
    input:
        metrics=rules.summarize.output.metrics,
        comparisons=rules.summarize.output.comparisons,
        costs=rules.summarize.output.costs,
        feasibility=FEASIBILITY,
        collapse=rules.judge_collapse.output[0],
        supervision=SUPERVISION,
        rules=rules.find_rules.output[0],
        learnt_rules=rules.extract_rules.output[0],
        side_effects=SIDE_EFFECTS_SUMMARY,
        leaks=LEAKS,
        predictions=PREDICTIONS,
        splits=EVALUATED_SPLITS,
        histories=HISTORIES,
        provenance=rules.record_run.output.provenance,
        ruleset=config["ruleset"],
        template="workflow/report/report.html.j2",
        parts=PAGE_PARTS,
    output:
        page=f"{RESULTS}/report.html",
    log:
        log_of("write_report"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=2000, runtime=20),
    params:
        config=config,
        charts=list(CHARTS),
        code=code_of("write_report"),
        content=content_of(config["ruleset"], "workflow/report/report.html.j2", *PAGE_PARTS),
    message:
        "Write the report"
    script:
        "../scripts/write_report.py"


rule write_manifest:
    input:
        rules.inspect_model.output,
        rules.build_dataset.output,
        SUITES,
        [PATHS.history(run) for run in TRAINED],
        [PATHS.training_cost(run) for run in TRAINED],
        [adapter_files(PATHS.adapter(run)) for run in TRAINED],
        [tokenizer_files(PATHS.adapter(run)) for run in TRAINED],
        [training_split(name) for name in VARIED],
        SUPERVISION,
        PREDICTIONS,
        SAMPLES,
        FEASIBILITY,
        rules.judge_collapse.output,
        rules.find_rules.output,
        rules.extract_rules.output,
        SIDE_EFFECTS,
        LEAKS,
        SIDE_EFFECTS_SUMMARY,
        rules.summarize.output,
        rules.record_run.output,
        rules.render_charts.output,
        rules.write_cases.output,
        rules.write_report.output,
    output:
        manifest=f"{RESULTS}/manifest.json",
    log:
        log_of("write_manifest"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=1000),
    params:
        code=code_of("write_manifest"),
    message:
        "Write the manifest of the results"
    script:
        "../scripts/write_manifest.py"
