# What each condition answers, and what training cost elsewhere.


localrules:
    fit_reference,


rule evaluate:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        splits=[*EVALUATED_SPLITS, *SUITES],
        adapter=lambda wildcards: adapter_files(evaluated_folder(wildcards)),
        examples=examples_of,
        states=evaluated_states,
    output:
        predictions=PATHS.predictions(ANY),
        cost=PATHS.evaluation_cost(ANY),
    log:
        log_of("evaluate", "{condition}_seed{seed}"),
    benchmark:
        benchmark_of("evaluate")
    wildcard_constraints:
        condition=only(name for name in SETTINGS if name not in CLASSIFIERS),
    conda:
        ENVIRONMENT
    threads: threads_with_model
    resources:
        **with_model(engine=lambda wildcards: EVALUATOR in ENVIRONMENTS),
    params:
        model=config["model"],
        base=base_content,
        settings=config["evaluation"],
        engine=evaluator_content,
        by=f" by {EVALUATOR}" if EVALUATOR in ENVIRONMENTS else "",
        adapter=evaluated_folder,
        prompt=prompt_of,
        code=code_of("evaluate"),
        content=content_of(config["ruleset"]),
    message:
        "Evaluate {wildcards.condition}{params.by}, seed {wildcards.seed}"
    script:
        "../scripts/evaluate.py"


rule fit_reference:
    input:
        ruleset=config["ruleset"],
        train=rules.build_dataset.output.train,
        splits=[PATHS.split(split) for split in [*SPLITS, "suites"] if split in config["evaluation"]["structured"]],
    output:
        predictions=PATHS.predictions(ANY),
        cost=PATHS.evaluation_cost(ANY),
    log:
        log_of("fit_reference", "{condition}_seed{seed}"),
    benchmark:
        benchmark_of("fit_reference")
    wildcard_constraints:
        condition=only(CLASSIFIERS),
    conda:
        ENVIRONMENT
    threads: 1  # sums over several threads differ in their last digits
    resources:
        **small(mem_mb=1000),
    params:
        kind=lambda wildcards: CLASSIFIERS[wildcards.condition],
        code=code_of("fit_reference"),
        content=content_of(config["ruleset"]),
    message:
        "Fit the reference classifier {wildcards.condition}, seed {wildcards.seed}"
    script:
        "../scripts/fit_reference.py"


rule measure_side_effects:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        texts="workflow/texts/ordinary.yaml",
        adapter=lambda wildcards: adapter_files(evaluated_folder(wildcards)),
    output:
        side_effects=PATHS.side_effects(ANY),
        leaks=PATHS.leaks(ANY),
    log:
        log_of("measure_side_effects", "{condition}_seed{seed}"),
    benchmark:
        benchmark_of("measure_side_effects")
    conda:
        ENVIRONMENT
    threads: threads_with_model
    resources:
        **with_model(),
    params:
        model=config["model"],
        base=base_content,
        batch_size=config["evaluation"]["batch_size"],
        adapter=evaluated_folder,
        code=code_of("measure_side_effects"),
        content=content_of(config["ruleset"], "workflow/texts/ordinary.yaml"),
    message:
        "Measure side effects of {wildcards.condition}, seed {wildcards.seed}"
    script:
        "../scripts/measure_side_effects.py"
