# Which training method teaches a language model a rule that nobody wrote down, and at what price?
#
#   ruleset ─► build_dataset ─┐ (and build_suites; fit_reference, where a condition is a plain classifier)
#   model ─► prepare_model ───┼─► train_sft / train_grpo ─► evaluate ─► summarize ─► render_charts ─► write_report
#                             └──────────────────────────────┘              └─► record_run ──────────────┘

import os
import sys
from pathlib import Path

from hidden_rule.core.schemas import read_yaml
from hidden_rule.experiment.config import (
    check_config,
    condition_settings,
    in_order,
    model_slug,
    start_of,
)
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import check_times, content_hash

try:
    read_yaml(
        "config.yaml"
    )  # before Snakemake reads it: its own message names neither file nor line
except UserError as error:
    sys.exit(f"error: {error}")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


try:
    config = check_config(
        config, ["config.yaml", *workflow.config_settings.configfiles]
    )
except UserError as error:
    sys.exit(f"error: {error}")

RESULTS = f"results/{config['experiment']}"
MANIFEST = f"results/models/{model_slug(config['model'])}/manifest.json"
SPLITS = ["train", "validation", "test", "holdout"]
EVALUATED = {*config["evaluation"]["structured"], *config["evaluation"]["free"]}
SUITES = [f"{RESULTS}/data/suites.parquet"] if "suites" in EVALUATED else []
CLASSIFIERS = {
    name: of["reference"]
    for name, of in config["conditions"].items()
    if "reference" in of
}
SETTINGS = {
    name: condition_settings(config, name) for name in in_order(config["conditions"])
}
JOBS = [[name, seed] for name in SETTINGS for seed in config["seeds"]]
TRAINED = [
    [name, seed, SETTINGS[name]["method"]]
    for name, seed in JOBS
    if SETTINGS[name]["method"]
]
try:
    check_times(RESULTS, Path(MANIFEST).parent, "workflow", "rulesets", "envs")
except UserError as error:
    sys.exit(f"error: {error}")
CHARTS = {  # category and label in Snakemake's own report
    "accuracy": ("Results", "accuracy by condition"),
    "forest": ("Results", "differences between conditions"),
    "hidden_rule": ("Results", "recall and precision on the hidden rule"),
    "cost": ("Results", "accuracy against training time"),
    "confusion": ("Results", "confusion matrices"),
    "calibration": ("Results", "calibration"),
    "learning": ("Training", "learning curves"),
    "training": ("Training", "training curves"),
    "collapse": ("Training", "predicted labels over GRPO steps"),
}
VARIED = [
    name
    for name, of in SETTINGS.items()
    if of["settings"].keys() & {"train_rows", "label_noise"}
]
SUPERVISION = [f"{RESULTS}/supervision.parquet"] if VARIED else []
if VARIED:
    CHARTS["labels"] = ("Results", "accuracy against labels and label noise")
if SUITES:
    CHARTS["suites"] = ("Results", "suites by condition")


def trained_with(method):
    """A wildcard's pattern: the conditions that a method trains."""
    names = [
        name for name, settings in SETTINGS.items() if settings["method"] == method
    ]
    return either(names)


def either(names):
    """A wildcard's pattern: any of `names`."""
    return "|".join(names) or "(?!)"


def growing(amount):
    """A resource that a job asks for again and again: once, twice, three times as much."""
    return lambda wildcards, attempt: amount * attempt


def code(*modules):
    """The package's modules that a result depends on: an edit to one reruns what needs it."""
    return [f"src/hidden_rule/{module}.py" for module in modules]


def adapter_folder(condition, seed):
    return f"{RESULTS}/adapters/{condition}/seed{seed}"


def training_split(condition):
    """The rows that a condition is trained on."""
    split = f"train/{condition}" if condition in VARIED else "train"
    return f"{RESULTS}/data/{split}.parquet"


def start_folder(wildcards):
    """The folder of the adapter that a condition starts from, or None."""
    start = SETTINGS[wildcards.condition]["start_from"]
    return start and adapter_folder(start, wildcards.seed)


def start_adapter(wildcards):
    start = start_folder(wildcards)
    return (
        [f"{start}/adapter_model.safetensors", f"{start}/adapter_config.json"]
        if start
        else []
    )


def evaluated_folder(wildcards):
    """The folder of the adapter that a condition is evaluated with, or None: its own, or that a prompt is put to."""
    if SETTINGS[wildcards.condition]["method"]:
        return adapter_folder(wildcards.condition, wildcards.seed)
    return start_folder(wildcards)


def evaluated_adapter(wildcards):
    folder = evaluated_folder(wildcards)
    return (
        [f"{folder}/adapter_model.safetensors", f"{folder}/adapter_config.json"]
        if folder
        else []
    )


def prompt_of(wildcards):
    """What a condition's prompt says beside the ruleset's own words, or None."""
    return config["conditions"][wildcards.condition].get("prompt")


def examples_from(wildcards):
    """The training split, for a prompt that shows examples."""
    few_shot = isinstance(prompt_of(wildcards), dict)
    return [f"{RESULTS}/data/train.parquet"] if few_shot else []


# What changes no result of a training reruns none: resources, not params.
UNSEEN = {
    "processes": config["launch"]["processes"],
    "strategy": config["launch"]["strategy"],
    "nodes": 1,  # all of a training's processes on one machine
    "checkpoint_steps": config["checkpoint"]["steps"],
    "checkpoint_minutes": config["checkpoint"]["minutes"],
    "tracking": ",".join(config["tracking"]) or "none",
}

DATA_CODE = code("task/ruleset", "task/ruleset_checks", "core/schemas", "task/dataset", "core/tables", "core/files")
MODEL_CODE = DATA_CODE + code(
    "models/loading",
    "models/adapters",
    "models/files",
    "models/tokens",
    "task/replies",
    "models/trie",
    "kernels/shared_prefix",
    "kernels/attention",
    "kernels/lora",
    "kernels/norm",
    "kernels/mlp",
    "kernels/allocator",
    "models/decoding",
)


wildcard_constraints:
    condition="[a-z][a-z0-9_]*",
    seed=r"\d+",


localrules:
    all,
    build_dataset,
    build_suites,
    prepare_model,
    vary_training,
    measure_supervision,
    fit_reference,
    assess_feasibility,
    judge_collapse,
    summarize,
    summarize_side_effects,
    record_run,
    render_charts,
    write_report,
    write_manifest,


rule all:
    input:
        f"{RESULTS}/manifest.json",
        f"{RESULTS}/report.html",
        f"{RESULTS}/provenance.json",
        f"{RESULTS}/config.resolved.yaml",
        f"{RESULTS}/metrics.parquet",
        f"{RESULTS}/comparisons.parquet",
        f"{RESULTS}/costs.parquet",
        expand(
            f"{RESULTS}/charts/{{name}}.{{form}}",
            name=CHARTS,
            form=["html", "svg", "png"],
        ),


rule build_dataset:
    input:
        ruleset=config["ruleset"],
        code=DATA_CODE,
    output:
        **{split: f"{RESULTS}/data/{split}.parquet" for split in SPLITS},
    log:
        f"{RESULTS}/logs/build_dataset/build_dataset.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        data=config["data"],
    message:
        "Draw balanced applications and split them"
    script:
        "workflow/scripts/build_dataset.py"


rule build_suites:
    input:
        ruleset=config["ruleset"],
        train=rules.build_dataset.output.train,
        code=DATA_CODE + code("task/suites"),
    output:
        suites=f"{RESULTS}/data/suites.parquet",
    log:
        f"{RESULTS}/logs/build_suites/build_suites.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        suites=config["suites"],
        seed=config["data"]["seed"],
    message:
        "Make the suites that show what was learnt"
    script:
        "workflow/scripts/build_suites.py"


rule vary_training:
    input:
        ruleset=config["ruleset"],
        train=rules.build_dataset.output.train,
        code=DATA_CODE + code("task/training_subsets"),
    output:
        train=f"{RESULTS}/data/train/{{condition}}.parquet",
    log:
        f"{RESULTS}/logs/vary_training/{{condition}}.log",
    wildcard_constraints:
        condition=either(VARIED),
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        rows=lambda wildcards: SETTINGS[wildcards.condition]["settings"].get(
            "train_rows"
        ),
        noise=lambda wildcards: SETTINGS[wildcards.condition]["settings"].get(
            "label_noise", 0.0
        ),
        seed=config["data"]["seed"],
    message:
        "Choose the rows and labels that {wildcards.condition} is trained on"
    script:
        "workflow/scripts/vary_training.py"


rule prepare_model:
    input:
        code=code("models/prepare", "core/files"),
    output:
        manifest=MANIFEST,
    log:
        f"{RESULTS}/logs/prepare_model/prepare_model.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=6000,
        runtime=60,
    params:
        model={key: config["model"][key] for key in ["id", "revision", "source"]},
    message:
        "Make the base model ready: {params.model[id]}"
    script:
        "workflow/scripts/prepare_model.py"


rule train_sft:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        train=lambda wildcards: training_split(wildcards.condition),
        validation=rules.build_dataset.output.validation,
        start=start_adapter,
        code=MODEL_CODE + code("training/start", "training/watcher", "training/arguments", "training/output", "training/checkpoints", "training/time_limit"),
    output:
        weights=f"{RESULTS}/adapters/{{condition}}/seed{{seed}}/adapter_model.safetensors",
        config=f"{RESULTS}/adapters/{{condition}}/seed{{seed}}/adapter_config.json",
        history=f"{RESULTS}/training/{{condition}}/seed{{seed}}/history.parquet",
        cost=f"{RESULTS}/training/{{condition}}/seed{{seed}}/cost.parquet",
    log:
        f"{RESULTS}/logs/train_sft/{{condition}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_sft/{{condition}}_seed{{seed}}.tsv"
    wildcard_constraints:
        condition=trained_with("sft"),
    conda:
        "envs/hidden-rule.yaml"
    threads: 8
    resources:
        **UNSEEN,
        gpu=config["launch"]["processes"],
        mem_mb=growing(6000 * config["launch"]["processes"]),
        runtime=growing(240),
    params:
        model=config["model"],
        lora=config["lora"],
        settings=lambda wildcards: SETTINGS[wildcards.condition]["settings"],
        start_from=start_folder,
        adapter=lambda wildcards: adapter_folder(wildcards.condition, wildcards.seed),
        checkpoints=f"{RESULTS}/checkpoints/{{condition}}/seed{{seed}}",
    message:
        "Train {wildcards.condition} with SFT, seed {wildcards.seed}"
    script:
        "workflow/scripts/train_sft.py"


rule train_grpo:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        train=lambda wildcards: training_split(wildcards.condition),
        validation=rules.build_dataset.output.validation,
        start=start_adapter,
        code=MODEL_CODE
        + code(
            "training/start", "training/watcher", "training/arguments", "training/output",
            "training/checkpoints",
            "training/time_limit",
            "task/rewards",
            "training/curriculum",
            "training/epoch_order",
            "training/structured_grpo",
            "training/expected_reward",
        ),
    output:
        weights=f"{RESULTS}/adapters/{{condition}}/seed{{seed}}/adapter_model.safetensors",
        config=f"{RESULTS}/adapters/{{condition}}/seed{{seed}}/adapter_config.json",
        history=f"{RESULTS}/training/{{condition}}/seed{{seed}}/history.parquet",
        cost=f"{RESULTS}/training/{{condition}}/seed{{seed}}/cost.parquet",
    log:
        f"{RESULTS}/logs/train_grpo/{{condition}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_grpo/{{condition}}_seed{{seed}}.tsv"
    wildcard_constraints:
        condition=trained_with("grpo"),
    conda:
        "envs/hidden-rule.yaml"
    threads: 8
    resources:
        **UNSEEN,
        gpu=config["launch"]["processes"],
        mem_mb=growing(6000 * config["launch"]["processes"]),
        runtime=growing(240),
    params:
        model=config["model"],
        lora=config["lora"],
        settings=lambda wildcards: SETTINGS[wildcards.condition]["settings"],
        start_from=start_folder,
        adapter=lambda wildcards: adapter_folder(wildcards.condition, wildcards.seed),
        checkpoints=f"{RESULTS}/checkpoints/{{condition}}/seed{{seed}}",
        decoding=config["decoding"],
    message:
        "Train {wildcards.condition} with GRPO, seed {wildcards.seed}"
    script:
        "workflow/scripts/train_grpo.py"


rule evaluate:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        splits=[
            f"{RESULTS}/data/{split}.parquet" for split in SPLITS if split in EVALUATED
        ]
        + SUITES,
        adapter=evaluated_adapter,
        examples=examples_from,
        code=MODEL_CODE + code("evaluation/evaluate", "evaluation/predictions", "task/prompts"),
    output:
        predictions=f"{RESULTS}/predictions/{{condition}}/seed{{seed}}.parquet",
        cost=f"{RESULTS}/predictions/{{condition}}/seed{{seed}}.cost.parquet",
    log:
        f"{RESULTS}/logs/evaluate/{{condition}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{condition}}_seed{{seed}}.tsv"
    wildcard_constraints:
        condition=either(name for name in SETTINGS if name not in CLASSIFIERS),
    conda:
        "envs/hidden-rule.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        model=config["model"],
        settings=config["evaluation"],
        adapter=evaluated_folder,
        prompt=prompt_of,
    message:
        "Evaluate {wildcards.condition}, seed {wildcards.seed}"
    script:
        "workflow/scripts/evaluate.py"


rule measure_side_effects:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        texts="workflow/texts/ordinary.yaml",
        adapter=evaluated_adapter,
        code=MODEL_CODE + code("task/ordinary_text", "evaluation/side_effects", "evaluation/extraction_prompts", "evaluation/leakage"),
    output:
        side_effects=f"{RESULTS}/side_effects/{{condition}}/seed{{seed}}.parquet",
        leaks=f"{RESULTS}/side_effects/{{condition}}/seed{{seed}}.leaks.parquet",
    log:
        f"{RESULTS}/logs/measure_side_effects/{{condition}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_side_effects/{{condition}}_seed{{seed}}.tsv"
    conda:
        "envs/hidden-rule.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        model=config["model"],
        batch_size=config["evaluation"]["batch_size"],
        adapter=lambda wildcards: adapter_folder(wildcards.condition, wildcards.seed),
    message:
        "Measure side effects of {wildcards.condition}, seed {wildcards.seed}"
    script:
        "workflow/scripts/measure_side_effects.py"


MEASURED = TRAINED if config["side_effects"] else []
SIDE_EFFECTS, LEAKS = (
    [
        f"{RESULTS}/side_effects/{name}/seed{seed}{part}.parquet"
        for name, seed, _ in MEASURED
    ]
    for part in ["", ".leaks"]
)
SIDE_EFFECTS_SUMMARY = [f"{RESULTS}/side_effects.parquet"] if MEASURED else []


rule summarize_side_effects:
    input:
        effects=SIDE_EFFECTS,
        leaks=LEAKS,
        code=code("statistics/side_effects_summary", "statistics/intervals", "core/tables", "core/files"),
    output:
        f"{RESULTS}/side_effects.parquet",
    log:
        f"{RESULTS}/logs/summarize_side_effects/summarize_side_effects.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    message:
        "Compute side effects and leaks with intervals"
    script:
        "workflow/scripts/summarize_side_effects.py"


rule fit_reference:
    input:
        ruleset=config["ruleset"],
        train=rules.build_dataset.output.train,
        splits=[
            f"{RESULTS}/data/{split}.parquet"
            for split in [*SPLITS, "suites"]
            if split in config["evaluation"]["structured"]
        ],
        code=DATA_CODE + code("evaluation/classifiers", "evaluation/predictions", "task/replies"),
    output:
        predictions=f"{RESULTS}/predictions/{{condition}}/seed{{seed}}.parquet",
        cost=f"{RESULTS}/predictions/{{condition}}/seed{{seed}}.cost.parquet",
    log:
        f"{RESULTS}/logs/fit_reference/{{condition}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_reference/{{condition}}_seed{{seed}}.tsv"
    wildcard_constraints:
        condition=either(CLASSIFIERS),
    conda:
        "envs/hidden-rule.yaml"
    threads: 1  # sums over several threads differ in their last digits
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        kind=lambda wildcards: CLASSIFIERS[wildcards.condition],
    message:
        "Fit {wildcards.condition}, a classifier to compare with, seed {wildcards.seed}"
    script:
        "workflow/scripts/fit_reference.py"


PREDICTIONS = [
    f"{RESULTS}/predictions/{name}/seed{seed}.parquet" for name, seed in JOBS
]
HISTORIES = [
    f"{RESULTS}/training/{name}/seed{seed}/history.parquet" for name, seed, _ in TRAINED
]


FEASIBILITY = [
    f"{RESULTS}/feasibility/{name}/seed{seed}.parquet"
    for name, seed, _ in TRAINED
    if start_of(config, name)
]
EXPLORES_FREELY = config["decoding"] == "free"
SAMPLES = [
    path.replace(".parquet", ".replies.parquet")
    for path in FEASIBILITY
    if EXPLORES_FREELY
]


rule sample_start:
    input:
        model=MANIFEST,
        ruleset=config["ruleset"],
        split=rules.build_dataset.output.validation,
        adapter=start_adapter,
        code=MODEL_CODE,
    output:
        f"{RESULTS}/feasibility/{{condition}}/seed{{seed}}.replies.parquet",
    log:
        f"{RESULTS}/logs/sample_start/{{condition}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sample_start/{{condition}}_seed{{seed}}.tsv"
    wildcard_constraints:
        condition=trained_with("grpo"),
    conda:
        "envs/hidden-rule.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        model=config["model"],
        settings=lambda wildcards: {
            key: SETTINGS[wildcards.condition]["settings"][key]
            for key in ["group_size", "temperature", "max_new_tokens"]
        },
        numbers=config["feasibility"],
        batch_size=config["evaluation"]["batch_size"],
        adapter=start_folder,
    message:
        "What {wildcards.condition} replies before its training, seed {wildcards.seed}"
    script:
        "workflow/scripts/sample_start.py"


def start_replies(wildcards):
    """The file that says what a training's start replies: drawn replies, or its start's predictions."""
    if EXPLORES_FREELY:
        return rules.sample_start.output[0]
    start = start_of(config, wildcards.condition)
    return f"{RESULTS}/predictions/{start}/seed{wildcards.seed}.parquet"


rule assess_feasibility:
    input:
        replies=start_replies,
        ruleset=config["ruleset"],
        code=DATA_CODE + code("statistics/feasibility", "statistics/outcomes", "task/rewards", "task/replies"),
    output:
        f"{RESULTS}/feasibility/{{condition}}/seed{{seed}}.parquet",
    log:
        f"{RESULTS}/logs/assess_feasibility/{{condition}}_seed{{seed}}.log",
    wildcard_constraints:
        condition=trained_with("grpo"),
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        start=lambda wildcards: start_of(config, wildcards.condition),
        settings=lambda wildcards: {
            key: SETTINGS[wildcards.condition]["settings"][key]
            for key in ["group_size", "reward"]
        },
        free=EXPLORES_FREELY,
    message:
        "What the first groups of {wildcards.condition} will hold, seed {wildcards.seed}"
    script:
        "workflow/scripts/assess_feasibility.py"


REWARDED = [[name, seed, method] for name, seed, method in TRAINED if method != "sft"]


rule judge_collapse:
    input:
        histories=[
            f"{RESULTS}/training/{name}/seed{seed}/history.parquet"
            for name, seed, _ in REWARDED
        ],
        train=rules.build_dataset.output.train,
        ruleset=config["ruleset"],
        code=DATA_CODE + code("statistics/collapse", "statistics/feasibility"),
    output:
        f"{RESULTS}/collapse.parquet",
    log:
        f"{RESULTS}/logs/judge_collapse/judge_collapse.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        trained=REWARDED,
        prompts={
            name: SETTINGS[name]["settings"]["batch_size"] for name, *_ in REWARDED
        },
        of_decisions=config["decoding"] == "structured",
    message:
        "Judge whether training by reward gave up decisions"
    script:
        "workflow/scripts/judge_collapse.py"


rule summarize:
    input:
        predictions=PREDICTIONS,
        costs=[
            f"{RESULTS}/predictions/{name}/seed{seed}.cost.parquet"
            for name, seed in JOBS
        ]
        + [
            f"{RESULTS}/training/{name}/seed{seed}/cost.parquet"
            for name, seed, _ in TRAINED
        ],
        suites=SUITES,
        ruleset=config["ruleset"],
        code=DATA_CODE
        + code("statistics/metrics", "statistics/suites_metrics", "statistics/suites_comparisons", "statistics/intervals", "statistics/outcomes"),
    output:
        metrics=f"{RESULTS}/metrics.parquet",
        comparisons=f"{RESULTS}/comparisons.parquet",
        costs=f"{RESULTS}/costs.parquet",
    log:
        f"{RESULTS}/logs/summarize/summarize.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        jobs=JOBS,
    message:
        "Compute metrics with intervals, and compare conditions pairwise"
    script:
        "workflow/scripts/summarize.py"


rule measure_supervision:
    input:
        histories=HISTORIES,
        costs=rules.summarize.output.costs,
        train=rules.build_dataset.output.train,
        splits=[training_split(name) for name, _, _ in TRAINED],
        ruleset=config["ruleset"],
        code=DATA_CODE + code("statistics/supervision", "task/training_subsets"),
    output:
        supervision=f"{RESULTS}/supervision.parquet",
    log:
        f"{RESULTS}/logs/measure_supervision/measure_supervision.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        trained=TRAINED,
        settings=SETTINGS,
    message:
        "Count what each training was told"
    script:
        "workflow/scripts/measure_supervision.py"


rule record_run:
    input:
        **{split: f"{RESULTS}/data/{split}.parquet" for split in SPLITS},
        suites=SUITES,
        lock="envs/requirements.txt",
        model=MANIFEST,
        ruleset=config["ruleset"],
        adapters=[
            f"{adapter_folder(name, seed)}/adapter_model.safetensors"
            for name, seed, _ in TRAINED
        ],
        costs=rules.summarize.output.costs,
        code=code("report/provenance", "core/files"),
    output:
        provenance=f"{RESULTS}/provenance.json",
        config=f"{RESULTS}/config.resolved.yaml",
    log:
        f"{RESULTS}/logs/record_run/record_run.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=config,
        adapters=[f"{name}/seed{seed}" for name, seed, _ in TRAINED],
    message:
        "Record what the results were made from"
    script:
        "workflow/scripts/record_run.py"


rule render_charts:
    input:
        metrics=rules.summarize.output.metrics,
        comparisons=rules.summarize.output.comparisons,
        costs=rules.summarize.output.costs,
        predictions=PREDICTIONS,
        histories=HISTORIES,
        supervision=SUPERVISION,
        ruleset=config["ruleset"],
        code=DATA_CODE
        + code(
            "report/charts/build",
            "report/charts/files",
            "report/charts/style",
            "report/charts/calibration",
            "report/charts/cost",
            "report/charts/forest",
            "report/charts/placement",
            "report/text/training_cost",
            "report/charts/learning",
            "report/charts/suites",
            "report/charts/training",
            "statistics/outcomes",
            "statistics/intervals",
            "report/text/comparisons",
            "report/text/phrases",
            "report/charts/labels",
            "task/suites",
        ),
    output:
        expand(f"{RESULTS}/charts/{{name}}.{{form}}", name=CHARTS, form=["html", "png"]),
        **{
            name: report(
                f"{RESULTS}/charts/{name}.svg",
                caption=f"workflow/report/{name}.rst",
                category=category,
                labels={"chart": shows},
            )
            for name, (category, shows) in CHARTS.items()
        },
    log:
        f"{RESULTS}/logs/render_charts/render_charts.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        jobs=JOBS,
        trained=TRAINED,
        charts=config["charts"],
        starts={name: settings["start_from"] for name, settings in SETTINGS.items()},
        n_validation=config["data"]["validation"],
    message:
        "Draw the charts"
    script:
        "workflow/scripts/render_charts.py"


rule write_report:
    input:
        metrics=rules.summarize.output.metrics,
        comparisons=rules.summarize.output.comparisons,
        costs=rules.summarize.output.costs,
        feasibility=FEASIBILITY,
        collapse=rules.judge_collapse.output[0],
        supervision=SUPERVISION,
        side_effects=SIDE_EFFECTS_SUMMARY,
        leaks=LEAKS,
        predictions=PREDICTIONS,
        splits=[
            f"{RESULTS}/data/{split}.parquet" for split in SPLITS if split in EVALUATED
        ],
        histories=HISTORIES,
        svgs=expand(f"{RESULTS}/charts/{{name}}.svg", name=CHARTS),
        provenance=rules.record_run.output.provenance,
        ruleset=config["ruleset"],
        template="workflow/report/report.html.j2",
        side_effects_template="workflow/report/side_effects.html.j2",
        code=DATA_CODE
        + code(
            "report/page",
            "report/text/findings",
            "report/text/comparisons",
            "report/text/rule_learning",
            "report/text/caveats",
            "report/text/training_cost",
            "report/text/training_runs",
            "report/text/phrases",
            "statistics/collapse",
            "report/text/baselines",
            "statistics/feasibility",
            "report/charts/style",
            "statistics/outcomes",
            "experiment/config",
            "report/charts/labels",
            "report/text/label_findings",
            "statistics/shortcuts",
            "statistics/intervals",
            "report/side_effects_page",
            "task/training_subsets",
        ),
    output:
        page=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/write_report/write_report.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=config,
        jobs=JOBS,
        trained=TRAINED,
    message:
        "Write the report"
    script:
        "workflow/scripts/write_report.py"


rule write_manifest:
    input:
        rules.build_dataset.output,
        SUITES,
        [
            f"{RESULTS}/training/{name}/seed{seed}/{table}.parquet"
            for name, seed, _ in TRAINED
            for table in ["history", "cost"]
        ],
        [
            f"{adapter_folder(name, seed)}/{file}"
            for name, seed, _ in TRAINED
            for file in ["adapter_model.safetensors", "adapter_config.json"]
        ],
        [training_split(name) for name in VARIED],
        SUPERVISION,
        PREDICTIONS,
        SAMPLES,
        FEASIBILITY,
        rules.judge_collapse.output,
        SIDE_EFFECTS,
        LEAKS,
        SIDE_EFFECTS_SUMMARY,
        rules.summarize.output,
        rules.record_run.output,
        rules.render_charts.output,
        rules.write_report.output,
        code=code("core/files"),
    output:
        manifest=f"{RESULTS}/manifest.json",
    log:
        f"{RESULTS}/logs/write_manifest/write_manifest.log",
    conda:
        "envs/hidden-rule.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    message:
        "Write down the hash of every result"
    script:
        "workflow/scripts/write_manifest.py"


# Snakemake looks into an input only if it is newer than the results, which a file that was moved here, or edited under
# a clock set back, is not. So the content of every input that no job makes, and of the script, is a param too.
for each in workflow.rules:
    sources = [
        path
        for path in [*each.input, each.script]
        if isinstance(path, str) and not path.startswith("results/")
    ]
    if sources:
        each.set_params(sources=content_hash(*filter(os.path.isfile, sources)))
