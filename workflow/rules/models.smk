# The base model.


localrules:
    prepare_model,


rule prepare_model:
    output:
        manifest=MANIFEST,
    log:
        log_of("prepare_model"),
    conda:
        ENVIRONMENT
    resources:
        **small(mem_mb=6000, runtime=60),
    params:
        model={key: config["model"][key] for key in ["id", "revision", "source"]},
        code=code_of("prepare_model"),
    message:
        "Prepare the base model: {params.model[id]}"
    script:
        "../scripts/prepare_model.py"
