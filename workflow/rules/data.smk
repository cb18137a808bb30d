# Applications: the splits, the suites, and the rows that a condition is trained on.


localrules:
    build_dataset,
    build_suites,
    vary_training,


rule build_dataset:
    input:
        **DATA_FILES,
    output:
        **{split: PATHS.split(split) for split in SPLITS},
        **({"ruleset": config["ruleset"]} if OWN_CASES else {}),
    log:
        log_of("build_dataset"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=2000),
    params:
        data=config["data"],
        code=code_of("build_dataset"),
        content=content_of(*DATA_FILES.values()),
    message:
        "Build the splits"
    script:
        "../scripts/build_dataset.py"


rule build_suites:
    input:
        ruleset=config["ruleset"],
        train=rules.build_dataset.output.train,
    output:
        suites=PATHS.split("suites"),
    log:
        log_of("build_suites"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=2000),
    params:
        suites=config["suites"],
        seed=config["data"]["seed"],
        code=code_of("build_suites"),
        content=content_of(config["ruleset"]),
    message:
        "Build the diagnostic suites"
    script:
        "../scripts/build_suites.py"


rule vary_training:
    input:
        ruleset=config["ruleset"],
        train=rules.build_dataset.output.train,
    output:
        train=PATHS.split("train/{condition}"),
    log:
        log_of("vary_training", "{condition}"),
    wildcard_constraints:
        condition=only(VARIED),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=2000),
    params:
        rows=lambda wildcards: settings_of(wildcards).get("train_rows"),
        noise=lambda wildcards: settings_of(wildcards).get("label_noise", 0.0),
        seed=config["data"]["seed"],
        code=code_of("vary_training"),
        content=content_of(config["ruleset"]),
    message:
        "Select the training rows and labels of {wildcards.condition}"
    script:
        "../scripts/vary_training.py"
