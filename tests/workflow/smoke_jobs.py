"""The jobs of the smoke experiment, by their messages, in the groups that an edit reruns."""

CONDITIONS = ["baseline", "grpo", "sft", "sft_then_grpo"]  # that a language model answers for
REFERENCES = ["boosting", "constant", "logistic"]
RL = ["grpo", "sft_then_grpo"]

MANIFEST = {"Write the manifest of the results"}
SUMMARY = {"Compute metrics and pairwise comparisons"}
CHARTS = {"Render the charts"}
REPORT = {"Write the report"}
CASES = {"Write the page of cases"}
PROVENANCE = {"Record the provenance of the results"}
EXTRACT = {"Extract the rules that each condition decides by"}
AGGREGATED = SUMMARY | EXTRACT | CHARTS | CASES | REPORT | PROVENANCE
COLLAPSE = {"Check RL for collapse"}
INSPECT = {"Inspect the base model: SmolLM2-135M-Instruct"}
PREPARE = {"Prepare the base model: SmolLM2-135M-Instruct"} | INSPECT
SUITES = {"Build the diagnostic suites"}
SEARCH = {"Search the decisions for rules that are not stated"}
KEEP_EVALUATED = {"Compute the evaluated cases up to the first layer with an adapter"}
KEEP = KEEP_EVALUATED | {"Compute the training cases up to the first layer with an adapter"}
DATA = SUITES | {"Build the splits"} | SEARCH | KEEP
TRAIN = {
    "sft": "Train sft with sft, seed 0",
    "grpo": "Train grpo with grpo, seed 0",
    "sft_then_grpo": "Train sft_then_grpo with grpo, seed 0",
}
ASSESS = {  # by the condition whose predictions are looked at
    "baseline": "Assess the first groups of grpo, seed 0",
    "sft": "Assess the first groups of sft_then_grpo, seed 0",
}
ASSESSED = {*ASSESS.values()}
FIT = {f"Fit the reference classifier {name}, seed 0" for name in REFERENCES}


def evaluated(*conditions):
    """What runs again where only the evaluation of conditions changed."""
    assessed = {ASSESS[name] for name in conditions if name in ASSESS}
    return {f"Evaluate {name}, seed 0" for name in conditions} | assessed | AGGREGATED


def retrained(*conditions):
    """What runs again where the training of conditions changed."""
    collapse = COLLAPSE if {*conditions} & {*RL} else set()
    return {TRAIN[name] for name in conditions} | collapse | evaluated(*conditions)


MODELS = retrained(*TRAIN) | evaluated("baseline")  # all that trains or evaluates, and what follows
EVERYTHING = MODELS | FIT | DATA
