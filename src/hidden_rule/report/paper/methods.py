"""A paragraph of methods in LaTeX, written from the resolved config, and the references that it cites."""

import re

from hidden_rule.experiment.display import DisplayedResults, model_words
from hidden_rule.report.model_section import inspection_of
from hidden_rule.report.paper.latex import escaped
from hidden_rule.report.text.phrases import listing
from hidden_rule.report.text.suites import NAMES

METHODS = {  # name in words, and its references
    "sft": ("supervised fine-tuning", []),
    "grpo": ("group relative policy optimization", ["shao2024deepseekmath"]),
    "rloo": ("REINFORCE with a leave-one-out baseline", ["ahmadian2024back"]),
    "rft": ("rejection sampling fine-tuning", ["yuan2023scaling"]),
    "dpo": ("direct preference optimization", ["rafailov2023direct"]),
    "ppo": (
        "proximal policy optimization with generalized advantage estimation",
        ["schulman2017proximal", "schulman2016high"],
    ),
}
LOSSES = {"dapo": "yu2025dapo", "dr_grpo": "liu2025understanding", "ipo": "azar2024general"}
LOSSES |= {"robust": "chowdhury2024provably"}
ENGINES = {"trl": ("TRL", "vonwerra2020trl"), "verl": ("verl", "sheng2024hybridflow")}
ENGINES |= {"openrlhf": ("OpenRLHF", "hu2024openrlhf")}
SETTINGS = {  # those that the paragraph names, in words
    "epochs": "{} epochs",
    "learning_rate": "learning rate {}",
    "batch_size": "{} prompts a step",
    "group_size": "groups of {} replies",
    "samples": "{} samples a prompt and round",
    "rounds": "{} rounds",
    "loss_type": "loss {}",
    "scale_rewards": "rewards scaled by {}",
    "beta": "beta {}",
    "entropy_coef": "entropy bonus {}",
    "temperature": "temperature {}",
    "max_grad_norm": "gradients clipped at {}",
    "train_rows": "{} training cases",
    "label_noise": "a share of {} wrong labels",
}
REFERENCES = {
    "boosting": ("gradient-boosted trees", ["friedman2001greedy", "pedregosa2011scikit"]),
    "logistic": ("logistic regression", ["pedregosa2011scikit"]),
    "constant": ("the most frequent decision of the training cases", []),
}


def cite(*keys: str) -> str:
    return f"~\\cite{{{','.join(keys)}}}" if keys else ""


def methods_paragraph(results: DisplayedResults) -> str:
    """LaTeX, a sentence a line."""
    parts = [task(results), model(results), *trainings(results), references(results), evaluation(results)]
    return "\n".join([*(part for part in parts if part), statistics_used(results), source(results), ""])


def cited(paragraph: str) -> list[str]:
    """The keys that a paragraph cites, sorted."""
    return sorted({key for keys in re.findall(r"\\cite\{([^}]*)\}", paragraph) for key in keys.split(",")})


def task(results: DisplayedResults) -> str:
    ruleset, data = results.ruleset, results.config["data"]
    many, n_hidden = escaped(ruleset.case.many), len(ruleset.hidden_rules)
    hidden = f", {n_hidden} of which no prompt states" if n_hidden else ""
    rules = f"a policy of {len(ruleset.rules)} rules{hidden}" if ruleset.rules else "a file of past decisions"
    sizes = [f"{data[name]:,} for {use}" for name, use in (("train", "training"), ("validation", "validation"))
             if isinstance(data.get(name), int)]  # fmt: skip
    drawn = "drawn from the policy" if data.get("source") != "file" else "taken from past decisions"
    shares = f": {listing(sizes)}" if sizes else ""
    return (
        f"The task is to decide {many} by {rules}, with {len(ruleset.labels)} possible decisions; "
        f"{many} are {drawn}{shares}."
    )


def model(results: DisplayedResults) -> str:
    config = results.config
    name = config["model"]
    revision = f", revision {escaped(name['revision'])}" if name.get("revision") else ""
    smol = cite("allal2025smollm2") if "SmolLM2" in name["id"] else ""
    lora = config.get("lora", {})
    targets = (
        listing(escaped(target) for target in lora.get("target_modules", [])) if lora.get("target_modules") else ""
    )
    where = f" on {targets}" if targets else ""
    layers = inspection_of(results.provenance).get("facts", {}).get("decoder layers")
    if lora.get("last_layers") and (layers is None or lora["last_layers"] < layers):
        where += f" of the last {lora['last_layers']} layers"
    size = f" (r = {lora['r']}, alpha = {lora.get('alpha', '?')}{where})" if "r" in lora else ""
    seeds = results.seeds
    under = f"under seeds {listing(map(str, seeds))}" if len(seeds) > 1 else f"under the single seed {seeds[0]}"
    return (
        f"Each trained condition is a LoRA adapter{cite('hu2022lora')}{size} of {escaped(model_words(name))}"
        f"{revision}{smol}, trained {under}."
    )


def trainings(results: DisplayedResults) -> list[str]:
    """A sentence for each trained condition."""
    said = []
    for name, of in results.settings.items():
        if not of["method"]:
            continue
        words, keys = METHODS.get(of["method"], (of["method"].upper(), []))
        settings = of["settings"]
        loss = LOSSES.get(str(settings.get("loss_type")))
        engine, engine_key = ENGINES.get(results.config["conditions"][name].get("engine", "trl"), ENGINES["trl"])
        start = f"starts from {escaped(of['start_from'])}" if of["start_from"] else "starts from the base model"
        details = [
            text.format(escaped(f"{value:g}" if isinstance(value, float) else str(value)))
            for key, text in SETTINGS.items()
            if (value := settings.get(key)) is not None and not isinstance(value, (dict, list))
            and not (key in ("beta", "entropy_coef", "label_noise") and not value)
        ]  # fmt: skip
        listed = f" ({', '.join(details)})" if details else ""
        said.append(
            f"{escaped(name)} {start} and is trained by {escaped(words)}{cite(*keys, *([loss] if loss else []))} with "
            f"{engine}{cite(engine_key)}{listed}."
        )
    decoding = results.config.get("decoding")
    if decoding and any("reward" in of["settings"] for of in results.settings.values() if of["method"]):
        how = "over the valid replies (structured decoding)" if decoding == "structured" else "by free generation"
        said.append(f"Reinforcement learning samples replies {how}.")
    return said


def references(results: DisplayedResults) -> str:
    said = []
    for name in results.references:
        condition = results.config["conditions"][name]
        if kind := condition.get("reference"):
            words, keys = REFERENCES[kind]
            said.append(f"{words}{cite(*keys)}")
        else:
            prompt = condition["prompt"]
            what = "every rule" if prompt == "oracle" else f"{prompt['examples']} examples"
            said.append(f"{escaped(name)}, whose prompt states {what}")
    return f"References are {listing(said)}." if said else ""


def evaluation(results: DisplayedResults) -> str:
    settings = []
    for setting in results.evaluated:
        found = [results.estimate(name, setting, "accuracy") for name in results.conditions]
        n = max((one.n for one in found if one), default=0) // max(1, len(results.seeds))
        settings.append(f"{n:,} cases of {escaped(setting.suite)} under {setting.decoding} decoding")
    suites = [name.replace("_", " ") for name in NAMES if name in results.metrics["suite"].unique().to_list()]
    more = f" Suites made from the policy test {listing(suites)}." if suites else ""
    vllm = results.config["evaluation"].get("engine") == "vllm" or results.config["evaluation"].get("backend") == "vllm"
    by = f", generated by vLLM{cite('kwon2023efficient')}" if vllm else ""
    return f"All conditions answer the same cases: {listing(settings)}{by}.{more}"


def statistics_used(results: DisplayedResults) -> str:
    several = len(results.seeds) > 1
    rows = "with an effective number of answers that accounts for shared cases and for seeds" if several else ""
    wilson = f"Intervals are at 95\\%, for shares Wilson's score interval{cite('wilson1927probable')}"
    wilson += f" {rows}{cite('korn1998confidence', 'obuchowski1995hypothesis')}" if several else ""
    if several:
        test = f"by a t test over cases and seeds as crossed random factors{cite('obuchowski1995hypothesis')}"
    else:
        test = f"by the exact McNemar test{cite('mcnemar1947note')}"
    paired = (
        f"Differences are paired on the same cases, with the interval of Agresti and Min{cite('agresti2005simple')}"
    )
    holm = f"p-values are adjusted for the planned comparisons by Holm's method{cite('holm1979simple')}"
    return f"{wilson}. {paired}, tested {test}; {holm}."


def source(results: DisplayedResults) -> str:
    record = results.provenance or {}
    commit = record.get("git", {}).get("commit", "")
    machine = record.get("hardware", {})
    gpus = ", ".join(gpu["name"] for gpu in machine.get("gpus", []))
    on = gpus or (f"{machine['cores']} cores of {machine['cpu']}" if machine.get("cpu") else "")
    ran = f" on {escaped(on)}" if on else ""
    at = f" at commit {escaped(commit[:12])}" if commit else ""
    return f"Experiments ran{ran} as a Snakemake workflow{cite('molder2021sustainable')}{at}."
