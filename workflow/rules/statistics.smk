# Numbers from what the models answered and how training went.


localrules:
    assess_feasibility,
    judge_collapse,
    summarize,
    measure_supervision,
    summarize_side_effects,
    find_rules,
    extract_rules,


rule assess_feasibility:
    input:
        replies=start_replies,
        ruleset=config["ruleset"],
        reward=lambda wildcards: reward_file(settings_of(wildcards)),
        cases=rewarded_cases,
    output:
        PATHS.feasibility(ANY),
    log:
        log_of("assess_feasibility", "{condition}_seed{seed}"),
    wildcard_constraints:
        condition=only(run.condition for run in ASSESSED),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=1000),
    params:
        start=lambda wildcards: start_of(config, wildcards.condition),
        settings=lambda wildcards: {
            "group_size": replies_a_prompt(settings_of(wildcards)),
            "reward": settings_of(wildcards)["reward"],
        },
        free=EXPLORES_FREELY,
        code=code_of("assess_feasibility"),
        content=lambda wildcards: content_of(config["ruleset"], *reward_file(settings_of(wildcards))),
    message:
        "Assess the first groups of {wildcards.condition}, seed {wildcards.seed}"
    script:
        "../scripts/assess_feasibility.py"


rule judge_collapse:
    input:
        histories=[PATHS.history(run) for run in REWARDED],
        train=rules.build_dataset.output.train,
        ruleset=config["ruleset"],
    output:
        PATHS.table("collapse"),
    log:
        log_of("judge_collapse"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=1000),
    params:
        config=excerpt(config, conditions_of(REWARDED), "decoding"),
        code=code_of("judge_collapse"),
        content=content_of(config["ruleset"]),
    message:
        "Check RL for collapse"
    script:
        "../scripts/judge_collapse.py"


rule summarize:
    input:
        predictions=PREDICTIONS,
        costs=[
            *[PATHS.evaluation_cost(run) for run in RUNS],
            *[PATHS.training_cost(run) for run in TRAINED],
        ],
        suites=SUITES,
        ruleset=config["ruleset"],
    output:
        metrics=PATHS.table("metrics"),
        comparisons=PATHS.table("comparisons"),
        costs=PATHS.table("costs"),
    log:
        log_of("summarize"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=4000, runtime=30),
    params:
        config=excerpt(config, conditions_of(RUNS), "evaluation", "comparisons", "decision_costs"),
        code=code_of("summarize"),
        content=content_of(config["ruleset"]),
    message:
        "Compute metrics and pairwise comparisons"
    script:
        "../scripts/summarize.py"


rule measure_supervision:
    input:
        histories=HISTORIES,
        costs=rules.summarize.output.costs,
        train=rules.build_dataset.output.train,
        splits=[training_split(run.condition) for run in TRAINED],
        ruleset=config["ruleset"],
    output:
        supervision=PATHS.table("supervision"),
    log:
        log_of("measure_supervision"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=1000),
    params:
        config=excerpt(config, conditions_of(TRAINED)),
        code=code_of("measure_supervision"),
        content=content_of(config["ruleset"]),
    message:
        "Measure the supervision of each training"
    script:
        "../scripts/measure_supervision.py"


rule summarize_side_effects:
    input:
        effects=SIDE_EFFECTS,
        leaks=LEAKS,
    output:
        PATHS.table("side_effects"),
    log:
        log_of("summarize_side_effects"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=2000),
    params:
        config=excerpt(config, conditions_of(TRAINED), "side_effects"),
        code=code_of("summarize_side_effects"),
    message:
        "Summarize side effects and leaks"
    script:
        "../scripts/summarize_side_effects.py"


rule find_rules:
    input:
        train=rules.build_dataset.output.train,
        validation=rules.build_dataset.output.validation,
        ruleset=config["ruleset"],
    output:
        PATHS.table("rules"),
    log:
        log_of("find_rules"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=2000),
    params:
        seed=config["data"]["seed"],
        code=code_of("find_rules"),
        content=content_of(config["ruleset"]),
    message:
        "Search the decisions for rules that are not stated"
    script:
        "../scripts/find_rules.py"


rule extract_rules:
    input:
        predictions=PREDICTIONS,
        splits=EVALUATED_SPLITS,
        ruleset=config["ruleset"],
    output:
        PATHS.table("learnt_rules"),
    log:
        log_of("extract_rules"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=2000),
    params:
        config=excerpt(config, conditions_of(RUNS), "evaluation"),
        code=code_of("extract_rules"),
        content=content_of(config["ruleset"]),
    message:
        "Extract the rules that each condition decides by"
    script:
        "../scripts/extract_rules.py"
