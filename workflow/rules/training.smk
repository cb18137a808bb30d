# Training, whatever the method: a condition's method names the script, `train_{method}.py`, and its part of the config.
# A further method is a script of that name and an entry in the schema. Another engine than TRL has a script of its own,
# `train_{engine}.py`, for all methods.


rule train:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        train=lambda wildcards: training_split(wildcards.condition),
        validation=rules.build_dataset.output.validation,
        start=lambda wildcards: adapter_files(start_folder(wildcards)),
        states=training_states,
        reward=lambda wildcards: reward_file(settings_of(wildcards)),
    output:
        weights=PATHS.adapter(ANY) / "adapter_model.safetensors",
        config=PATHS.adapter(ANY) / "adapter_config.json",
        tokenizer=PATHS.adapter(ANY) / "tokenizer_config.json",
        template=PATHS.adapter(ANY) / "chat_template.jinja",
        history=PATHS.history(ANY),
        cost=PATHS.training_cost(ANY),
    log:
        log_of("train", "{condition}_seed{seed}"),
    benchmark:
        benchmark_of("train")
    wildcard_constraints:
        condition=only(run.condition for run in TRAINED),
    priority: 5  # before evaluations: others start from some, and they take longest
    conda:
        ENVIRONMENT
    threads: threads_with_model
    resources:
        **with_model(
            processes=config["launch"]["processes"],
            runtime=240,
            engine=lambda wildcards: trainer_of(wildcards) in ENVIRONMENTS,
            limit=lambda wildcards: settings_of(wildcards).get("max_minutes", 0),
        ),
        **UNSEEN,
    params:
        method=method_of,
        engine=engine_content,
        trainer=trainer_of,
        model=config["model"],
        base=base_content,
        lora=config["lora"],
        settings=settings_of,
        decoding=exploration_of,
        start_from=start_folder,
        adapter=evaluated_folder,
        checkpoints=f"{RESULTS}/checkpoints/{{condition}}/seed{{seed}}",
        code=training_code,
        content=lambda wildcards: content_of(config["ruleset"], *reward_file(settings_of(wildcards))),
    message:
        "Train {wildcards.condition} with {params.method}, seed {wildcards.seed}"
    script:
        "../scripts/train_{params.trainer}.py"


rule sample_start:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        split=rules.build_dataset.output.validation,
        adapter=lambda wildcards: adapter_files(start_folder(wildcards)),
    output:
        f"{RESULTS}/feasibility/{{condition}}/seed{{seed}}.replies.parquet",
    log:
        log_of("sample_start", "{condition}_seed{seed}"),
    benchmark:
        benchmark_of("sample_start")
    wildcard_constraints:
        condition=only(run.condition for run in ASSESSED),
    conda:
        ENVIRONMENT
    threads: threads_with_model
    resources:
        **with_model(),
    params:
        model=config["model"],
        base=base_content,
        settings=lambda wildcards: {
            "group_size": replies_a_prompt(settings_of(wildcards)),
            **{key: settings_of(wildcards)[key] for key in ["temperature", "max_new_tokens"]},
        },
        numbers=config["feasibility"],
        batch_size=config["evaluation"]["batch_size"],
        adapter=start_folder,
        code=code_of("sample_start"),
        content=content_of(config["ruleset"]),
    message:
        "Sample replies before training {wildcards.condition}, seed {wildcards.seed}"
    script:
        "../scripts/sample_start.py"
