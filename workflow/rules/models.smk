# The base model: its files, and what is found out about it before anything trains.
#
# A model's own folder, results/models/{slug}, is shared: experiments find there what an earlier one prepared. Their own
# manifest follows what all of their results depend on, and is written after the first inspection. Settings that only
# some results depend on are looked at then too, and by `inspect_model` once they change, which trains nothing again.


localrules:
    fetch_model,


rule fetch_model:
    output:
        done=f"{MODEL_FOLDER}/{FETCHED}",
    log:
        log_of("fetch_model"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=1000, runtime=240),
    params:
        model={key: config["model"][key] for key in ["id", "revision", "source"]},
        code=code_of("fetch_model"),
    message:
        "Fetch the base model: {params.model[id]}"
    script:
        "../scripts/fetch_model.py"


rule prepare_model:
    input:
        ruleset=config["ruleset"],
        cases=CASES,
        fetched=rules.fetch_model.output.done if config["model"]["source"] == "hub" else [],
    output:
        manifest=MANIFEST,  # not update(): after a refusal Snakemake would take the file of before for this job's
    log:
        log_of("prepare_model"),
    conda:
        ENVIRONMENT
    threads: threads_with_model
    resources:
        **with_model(),
    params:
        model=config["model"],
        record=f"{MODEL_FOLDER}/manifest.json",
        base=base_content,
        # a function of `input` reruns nothing: see inspect_model
        inspected=lambda wildcards, input: INSPECTED,
        code=code_of("prepare_model"),
        content=content_of(config["ruleset"]),
    message:
        "Prepare the base model: {params.model[id]}"
    script:
        "../scripts/prepare_model.py"


rule inspect_model:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        cases=CASES,
    output:
        inspection=INSPECTION,
    log:
        log_of("inspect_model"),
    priority: 100  # before what trains
    conda:
        ENVIRONMENT
    threads: threads_with_model
    resources:
        **with_model(),
    params:
        model=config["model"],
        inspected=INSPECTED,
        base=base_content,
        code=code_of("inspect_model"),
        content=content_of(config["ruleset"]),
    message:
        "Inspect the base model: {params.model[id]}"
    script:
        "../scripts/inspect_model.py"


rule keep_states:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        splits=lambda wildcards: STATES_OF[wildcards.cases],
        after=first_states,
    output:
        states=PATHS.states("{cases}"),
    log:
        log_of("keep_states", "{cases}"),
    wildcard_constraints:
        cases=only(STATES_OF),
    priority: 10  # trainings and evaluations wait for it
    conda:
        ENVIRONMENT
    threads: threads_of_states
    resources:
        **with_model(),
    params:
        model=config["model"],
        base=base_content,
        last_layers=config["lora"]["last_layers"],
        whole=lambda wildcards: ["train"] if wildcards.cases == "training" else config["evaluation"]["free"],
        # a function of `input` reruns nothing: states that do not fit an adapter's layers are not taken
        target_modules=lambda wildcards, input: config["lora"]["target_modules"],
        code=code_of("keep_states"),
        content=content_of(config["ruleset"]),
    message:
        "Compute the {wildcards.cases} cases up to the first layer with an adapter"
    script:
        "../scripts/keep_states.py"
