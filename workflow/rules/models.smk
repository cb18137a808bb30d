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
    threads: 8
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
    threads: 8
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
