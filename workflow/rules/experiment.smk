# The experiment: its conditions and runs, where its files lie, and what one condition differs by from another.

from hidden_rule.core.engines import ENVIRONMENTS, TRL
from hidden_rule.experiment.conditions import explores, model_slug, replies_a_prompt, start_of
from hidden_rule.experiment.engine_checks import engine_of
from hidden_rule.experiment.reply_limits import reply_limits
from hidden_rule.experiment.results import Results, excerpt
from hidden_rule.experiment.reward_settings import reward_file
from hidden_rule.experiment.runs import Run


wildcard_constraints:
    condition="[a-z][a-z0-9_]*",
    seed=r"\d+",


RESULTS = f"results/{config['experiment']}"
EXPERIMENT = Results(RESULTS, config)
PATHS = EXPERIMENT.layout
MODEL_FOLDER = f"results/models/{model_slug(config['model'])}"
MANIFEST, INSPECTION = PATHS.model, PATHS.inspection
SPLITS = ["train", "validation", "test", "holdout"]
EVALUATED = {*config["evaluation"]["structured"], *config["evaluation"]["free"]}
EVALUATED_SPLITS = [PATHS.split(split) for split in SPLITS if split in EVALUATED]
SUITES = [PATHS.split("suites")] if EXPERIMENT.has_suites else []
OWN_CASES = config["data"]["source"] == "file"  # then build_dataset makes the ruleset
DATA_FILES = (
    {
        "cases": config["data"]["path"],
        **({"stated": config["data"]["ruleset"]} if "ruleset" in config["data"] else {}),
    }
    if OWN_CASES
    else {"ruleset": config["ruleset"]}
)
CASES = [PATHS.split(split) for split in SPLITS] if OWN_CASES else []  # whose prompts the inspection measures
EXPLORES_FREELY = config["decoding"] == "free"

# Its conditions, and one run of each for every seed

SETTINGS = EXPERIMENT.settings
CLASSIFIERS = {name: of["reference"] for name, of in config["conditions"].items() if "reference" in of}
RUNS = EXPERIMENT.runs
TRAINED = EXPERIMENT.trained
REWARD_FILES = list(dict.fromkeys(file for of in SETTINGS.values() for file in reward_file(of["settings"])))
REWARDED = [  # at every step; RFT samples at the start of a round
    run for run in TRAINED if "reward" in (of := SETTINGS[run.condition]["settings"]) and "rounds" not in of
]
ASSESSED = EXPERIMENT.assessed  # their start tells what their first groups will hold
VARIED = EXPERIMENT.varied
ANY = Run("{condition}", "{seed}")  # of a rule that makes one run's files


def settings_of(wildcards):
    """What a condition trains with."""
    return SETTINGS[wildcards.condition]["settings"]


def method_of(wildcards):
    """The training method of a condition, which names the script that trains it."""
    return SETTINGS[wildcards.condition]["method"]


def trainer_of(wildcards):
    """What names the script that trains a condition: its method, or an engine other than TRL."""
    engine = engine_of(config["conditions"][wildcards.condition])
    return method_of(wildcards) if engine == TRL else engine


def engine_content(wildcards):
    """A param that follows what trains a condition: the engine, and the lock of an environment of its own."""
    engine = engine_of(config["conditions"][wildcards.condition])
    return [engine, ENVIRONMENTS[engine].content() if engine in ENVIRONMENTS else ""]


EVALUATOR = config["evaluation"]["engine"]


def evaluator_content(wildcards):
    """The same of what answers in evaluations."""
    return ENVIRONMENTS[EVALUATOR].content() if EVALUATOR in ENVIRONMENTS else ""


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
    return [f"{folder}/adapter_model.safetensors", f"{folder}/adapter_config.json"] if folder else []


def tokenizer_files(folder):
    """What stands beside an adapter whichever tokenizer its base has."""
    return [f"{folder}/tokenizer_config.json", f"{folder}/chat_template.jinja"]


def prompt_of(wildcards):
    """What a condition's prompt says beside the ruleset's own words, or None."""
    return config["conditions"][wildcards.condition].get("prompt")


def start_replies(wildcards):
    """The file that says what a training's start replies: drawn replies, or its start's predictions."""
    if EXPLORES_FREELY:
        return f"{RESULTS}/feasibility/{wildcards.condition}/seed{wildcards.seed}.replies.parquet"
    return PATHS.predictions(Run(start_of(config, wildcards.condition), wildcards.seed))


def rewarded_cases(wildcards):
    """The tables of the cases that a start replies to, for a reward of the user's own, which may depend on the case."""
    if not reward_file(settings_of(wildcards)):
        return []
    structured = [split for split in [*SPLITS, "suites"] if split in config["evaluation"]["structured"]]
    return [PATHS.split(split) for split in (["validation"] if EXPLORES_FREELY else structured)]


def exploration_of(wildcards):
    """The decoding that a method explores with, or None of one that explores nothing."""
    return config["decoding"] if explores(settings_of(wildcards)) else None


def examples_of(wildcards):
    """The training split, for a prompt that shows examples."""
    return [PATHS.split("train")] if isinstance(prompt_of(wildcards), dict) else []


STATES_OF = {  # splits of which `keep_states` computes what layers below every adapter make
    "training": [PATHS.split("train"), PATHS.split("validation")],
    "evaluated": [*EVALUATED_SPLITS, *SUITES],
}


def first_states(wildcards):
    """The training cases' states before the evaluated ones': all trainings wait for them, with all cores idle."""
    return [PATHS.states("training")] if wildcards.cases == "evaluated" and "training" in EXPERIMENT.states else []


def evaluated_states(wildcards):
    """What layers below every adapter make of the evaluated cases, for conditions that ask in the ruleset's words."""
    return [PATHS.states("evaluated")] if EXPERIMENT.keeps_states and not prompt_of(wildcards) else []


def training_states(wildcards):
    """The same of the cases that all trainings learn from and are measured on."""
    return [PATHS.states("training")] if EXPERIMENT.takes_states(wildcards.condition) else []


def conditions_of(runs):
    """The conditions of runs, once each."""
    return list(dict.fromkeys(run.condition for run in runs))


# Its files, where several rules name them

PREDICTIONS = [PATHS.predictions(run) for run in RUNS]
HISTORIES = [PATHS.history(run) for run in TRAINED]
FEASIBILITY = [PATHS.feasibility(run) for run in ASSESSED]
SAMPLES = [start_replies(run) for run in ASSESSED] if EXPLORES_FREELY else []
SUPERVISION = [PATHS.table("supervision")] if VARIED else []
MEASURED = EXPERIMENT.measured
SIDE_EFFECTS = [PATHS.side_effects(run) for run in MEASURED]
LEAKS = [PATHS.leaks(run) for run in MEASURED]
SIDE_EFFECTS_SUMMARY = [PATHS.table("side_effects")] if MEASURED else []
CHARTS = {  # category and label in Snakemake's own report
    "accuracy": ("Results", "accuracy by condition"),
    "forest": ("Results", "differences between conditions"),
    **({"expected_cost": ("Results", "expected cost of mistakes")} if "decision_costs" in config else {}),
    "hidden_rule": ("Results", "recall and precision on the hidden rule"),
    "cost": ("Results", "accuracy against training time"),
    "confusion": ("Results", "confusion matrices"),
    "calibration": ("Results", "calibration"),
    "learning": ("Training", "learning curves"),
    "training": ("Training", "training curves"),
    "collapse": ("Training", "sampled labels over RL steps"),
    **({"labels": ("Results", "accuracy against labels and label noise")} if VARIED else {}),
    **({"suites": ("Results", "suites by condition")} if SUITES else {}),
}
