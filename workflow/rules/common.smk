# What the stages share: names and paths of the experiment, what its conditions are, and what the rules repeat.

from pathlib import Path

from hidden_rule.core.files import check_times, content_hash
from hidden_rule.core.sources import FOLDER, code_hash, schema_hash
from hidden_rule.experiment.config import (
    condition_settings,
    in_order,
    model_slug,
    start_of,
)
from hidden_rule.experiment.layout import Layout
from hidden_rule.experiment.results import excerpt
from hidden_rule.experiment.runs import Run

if not FOLDER.is_relative_to(Path(workflow.basedir).resolve().parent):
    sys.exit(
        f"error: {FOLDER}: the installed package is that of another checkout; run make setup here, and its snakemake"
    )


wildcard_constraints:
    condition="[a-z][a-z0-9_]*",
    seed=r"\d+",


# The experiment

RESULTS = f"results/{config['experiment']}"
PATHS = Layout(Path(RESULTS))
MANIFEST = f"results/models/{model_slug(config['model'])}/manifest.json"
SPLITS = ["train", "validation", "test", "holdout"]
EVALUATED = {*config["evaluation"]["structured"], *config["evaluation"]["free"]}
EVALUATED_SPLITS = [PATHS.split(split) for split in SPLITS if split in EVALUATED]
SUITES = [PATHS.split("suites")] if "suites" in EVALUATED else []
EXPLORES_FREELY = config["decoding"] == "free"

# Its conditions, and one run of each for every seed

SETTINGS = {
    name: condition_settings(config, name) for name in in_order(config["conditions"])
}
CLASSIFIERS = {
    name: of["reference"]
    for name, of in config["conditions"].items()
    if "reference" in of
}
RUNS = [
    Run(name, seed, of["method"])
    for name, of in SETTINGS.items()
    for seed in config["seeds"]
]
TRAINED = [run for run in RUNS if run.method]
REWARDED = [run for run in TRAINED if "reward" in SETTINGS[run.condition]["settings"]]
ASSESSED = [
    run for run in TRAINED if start_of(config, run.condition)
]  # whose start tells what its groups will hold
VARIED = [
    name
    for name, of in SETTINGS.items()
    if of["settings"].keys() & {"train_rows", "label_noise"}
]
ANY = Run("{condition}", "{seed}")  # of a rule that makes one run's files

try:
    check_times(RESULTS, Path(MANIFEST).parent, "workflow", "rulesets", "envs")
except UserError as error:
    sys.exit(f"error: {error}")


def settings_of(wildcards):
    """What a condition trains with."""
    return SETTINGS[wildcards.condition]["settings"]


def method_of(wildcards):
    """The training method of a condition, which names the script that trains it."""
    return SETTINGS[wildcards.condition]["method"]


def only(names):
    """A wildcard's pattern: any of `names`."""
    return "|".join(dict.fromkeys(names)) or "(?!)"


def training_split(condition):
    """The rows that a condition is trained on."""
    return PATHS.split(f"train/{condition}" if condition in VARIED else "train")


def start_folder(wildcards):
    """The folder of the adapter that a condition starts from, or None."""
    start = SETTINGS[wildcards.condition]["start_from"]
    return str(PATHS.adapter(Run(start, wildcards.seed))) if start else None


def evaluated_folder(wildcards):
    """The folder of the adapter that a condition is evaluated with, or None: its own, or that a prompt is put to."""
    if method_of(wildcards):
        return str(PATHS.adapter(Run(wildcards.condition, wildcards.seed)))
    return start_folder(wildcards)


def adapter_files(folder):
    """The files of an adapter, or none of no adapter."""
    return (
        [f"{folder}/adapter_model.safetensors", f"{folder}/adapter_config.json"]
        if folder
        else []
    )


def prompt_of(wildcards):
    """What a condition's prompt says beside the ruleset's own words, or None."""
    return config["conditions"][wildcards.condition].get("prompt")


def start_replies(wildcards):
    """The file that says what a training's start replies: drawn replies, or its start's predictions."""
    if EXPLORES_FREELY:
        return f"{RESULTS}/feasibility/{wildcards.condition}/seed{wildcards.seed}.replies.parquet"
    return PATHS.predictions(Run(start_of(config, wildcards.condition), wildcards.seed))


def exploration_of(wildcards):
    """The decoding that a method explores with, or None of one that explores nothing."""
    return config["decoding"] if "reward" in settings_of(wildcards) else None


def examples_of(wildcards):
    """The training split, for a prompt that shows examples."""
    return [PATHS.split("train")] if isinstance(prompt_of(wildcards), dict) else []


def conditions_of(runs):
    """The conditions of runs, once each."""
    return list(dict.fromkeys(run.condition for run in runs))


def rows_of(runs):
    """Runs as Snakemake compares and passes them on."""
    return [[run.condition, run.seed, run.method] for run in runs]


# Its files, where several rules name them

PREDICTIONS = [PATHS.predictions(run) for run in RUNS]
HISTORIES = [PATHS.history(run) for run in TRAINED]
FEASIBILITY = [PATHS.feasibility(run) for run in ASSESSED]
SAMPLES = [start_replies(run) for run in ASSESSED] if EXPLORES_FREELY else []
SUPERVISION = [PATHS.table("supervision")] if VARIED else []
MEASURED = TRAINED if config["side_effects"] else []
SIDE_EFFECTS = [PATHS.side_effects(run) for run in MEASURED]
LEAKS = [PATHS.leaks(run) for run in MEASURED]
SIDE_EFFECTS_SUMMARY = [PATHS.table("side_effects")] if MEASURED else []
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
    **(
        {"labels": ("Results", "accuracy against labels and label noise")}
        if VARIED
        else {}
    ),
    **({"suites": ("Results", "suites by condition")} if SUITES else {}),
}

# What the rules repeat. A rule, its script, and its folders of logs and benchmarks have one name.

ENVIRONMENT = "../../envs/hidden-rule.yaml"


def log_of(rule, job=None):
    """The log of a rule's only job, or of each."""
    return f"{RESULTS}/logs/{rule}/{job or rule}.log"


def benchmark_of(rule):
    """Time and memory of each run's job."""
    return f"{RESULTS}/benchmarks/{rule}/{{condition}}_seed{{seed}}.tsv"


def small(mem_mb, runtime=10):
    """The resources of a job without a model; memory in MB, time in minutes."""
    return {"mem_mb": mem_mb, "runtime": runtime}


def growing(amount):
    """A resource that a job asks for again and again: once, twice, three times as much."""
    return lambda wildcards, attempt: amount * attempt


def with_model(processes=1, runtime=60):
    """The resources of a job that loads the model into each of `processes`."""
    return {
        "gpu": processes,
        "mem_mb": growing(6000 * processes),
        "runtime": growing(runtime),
    }


# What results depend on. Snakemake notices an input whose content changed only if it is newer than the results, which a
# file that was moved here, or edited under a clock set back, is not; and of code it notices the script's own file alone.
# So both are params too: `code`, by meaning (see core/sources.py), and `content`, of the inputs that no job makes.
# That is why profiles/default leaves out Snakemake's own trigger `code`. Where it is on (--workflow-profile none), a
# script that was touched runs again as well: more than is needed, never less.


# What changes no result of a training reruns none: resources, not params.
UNSEEN = {
    "processes": config["launch"]["processes"],
    "strategy": config["launch"]["strategy"],
    "nodes": 1,  # all of a training's processes on one machine
    "checkpoint_steps": config["checkpoint"]["steps"],
    "checkpoint_minutes": config["checkpoint"]["minutes"],
    "tracking": ",".join(config["tracking"]) or "none",
}


def code_of(script):
    """A param that follows the code of a script, and of all that it imports."""
    return lambda wildcards: code_hash(
        Path(workflow.basedir, "scripts", f"{script}.py")
    )


def training_code(wildcards):
    return code_of(f"train_{method_of(wildcards)}")(wildcards)


def content_of(*paths):
    """A param that follows files that no job makes, and what the schema fills into a ruleset."""
    return [content_hash(*paths), schema_hash("ruleset.schema.yaml")]
