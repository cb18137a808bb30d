"""What a config must satisfy, defaults filled in on the way; each fault names its place in the config."""

import functools
from pathlib import Path

from hidden_rule.core.schemas import did_you_mean, dotted, fill_defaults, first_fault, load_schema, resolve
from hidden_rule.experiment import method_checks, reward_checks
from hidden_rule.experiment.conditions import SCHEMA, any_of, canonical, condition_settings, methods
from hidden_rule.experiment.engine_checks import check_engine
from hidden_rule.experiment.faults import ConfigFaultError, raise_if
from hidden_rule.experiment.model_checks import check_model, check_targets, check_tracking
from hidden_rule.experiment.own_data import read_own_data
from hidden_rule.experiment.places import place_of, raise_at
from hidden_rule.experiment.planned_comparisons import resolved_plan
from hidden_rule.experiment.ruleset_fit import (
    check_fit,
    check_published,
    leave_out_classifiers,
    leave_out_suites,
    named_ruleset,
    unnamed_labels,
)
from hidden_rule.experiment.sweep import as_written, expand_sweeps, sweep_fault, training_fault
from hidden_rule.task.dataset import SPLITS
from hidden_rule.task.ordinary_text import load_texts

OWN_RESULTS = ("published", "models")  # folders below results/ that are no experiment's


def check_all(config: dict) -> tuple[dict, list[str]]:
    """The config with defaults filled in, and lines on what it asks for that is left out; raises ConfigFaultError."""
    schema = load_schema(SCHEMA)
    raise_if(first_fault(config, {}))  # what no setting can be, before it is copied
    config = reward_checks.with_matrix_below(canonical(config), schema)
    dropped = []
    if isinstance(config.get("conditions"), dict):
        dropped = [name for name, spec in config["conditions"].items() if spec is False]
        config["conditions"] = {name: spec for name, spec in config["conditions"].items() if spec is not False}
    raise_if(first_fault(config, schema))
    known = {method: resolve(schema["properties"][method], schema)["properties"] for method in methods()}
    raise_if(_swept_fault(config["conditions"], schema))
    raise_if(sweep_fault(config["conditions"], known, dropped))
    for name, condition in config["conditions"].items():
        if (start := condition.get("start_from")) in dropped:
            fault = f"is left out, and {name} starts from it"
            raise ConfigFaultError(("conditions", start), fault, f"leave {name} out too", (("conditions", name),))
    names = {*config["conditions"], *dropped}
    config["conditions"], places = expand_sweeps(config["conditions"], dropped)
    try:
        own = read_own_data(config, schema)
        config = _check_settings(config, schema)
        ruleset = own.ruleset if own else named_ruleset(config["ruleset"])
        config["ruleset"] = str(Path(config["ruleset"]))  # ./a//b.yaml is a/b.yaml
        left_out = leave_out_classifiers(config)
        config["comparisons"] = resolved_plan(config.get("comparisons"), config["conditions"], dropped)
        config["comparisons"] = resolved_plan(config.get("comparisons"), config["conditions"], dropped)
        check_fit(config, ruleset)
        check_published(config["ruleset"], ruleset, names | set(config["conditions"]))
        lines = [*left_out, *unnamed_labels(config["ruleset"], ruleset), *leave_out_suites(config, ruleset)]
        lines += [f"{config['data']['path']}: {line}" for line in (own.warnings if own else ())]
    except ConfigFaultError as fault:
        beside = tuple(as_written(place, places) for place in fault.beside)
        path = as_written(fault.path, places)
        raise ConfigFaultError(path, fault.fault, fault.remedy, beside, fault.anywhere) from None
    return canonical(config), lines


def _swept_fault(conditions: dict, schema: dict) -> tuple | None:
    """The first value of a sweep that is none of its setting's, before values make names, which leave out signs."""
    for name, condition in conditions.items():
        method = resolve(schema["properties"].get(condition.get("method"), {}), schema)
        for key, values in condition.get("sweep", {}).items():
            if key in method.get("properties", {}):
                at = ("conditions", name, "sweep", key)
                for i, value in enumerate(values):
                    if fault := first_fault({key: value}, method, schema):
                        path, what, remedy = fault
                        return (*at, i, *path[1:]), what, remedy
    return None


def _check_settings(config: dict, schema: dict) -> dict:
    """The config, sweeps expanded, with defaults filled in, and checked for what must fit together."""
    raise_if(first_fault(config, schema))
    for name, condition in config["conditions"].items():
        _check_condition(name, condition, config["conditions"], schema)
        raise_if(reward_checks.kind_fault(condition.get("with", {}), ("conditions", name, "with")))
    for section in methods():
        raise_if(reward_checks.kind_fault(config.get(section, {}), (section,)))
    config = reward_checks.with_one_kind(fill_defaults(config, schema, schema))
    for name, condition in config["conditions"].items():
        if "with" in condition:
            method = resolve(schema["properties"][condition["method"]], schema)
            condition["with"] = fill_defaults(condition["with"], _without_defaults(method, schema), schema)
        if "prompt" in condition:
            condition["prompt"] = fill_defaults(condition["prompt"], schema["$defs"]["few_shot"], schema)
        _check_training(config, name)
        if "method" in condition:
            check_engine(config, name)
    if config["experiment"] in OWN_RESULTS:
        fault = f"results/{config['experiment']} is not an experiment's folder"
        raise ConfigFaultError(("experiment",), fault, "give the experiment another name")
    check_model(config["model"])
    check_targets(config["lora"]["target_modules"])
    check_tracking(config["tracking"])
    if config["model"]["source"] == "path":
        config["model"]["revision"] = ""  # left over from the model that an overlay replaces
    _check_evaluation(config["evaluation"])
    if "money" in config.get("budget", {}) and "price_per_hour" not in config:
        fault = "is missing, and budget.money is given"
        raise ConfigFaultError(("price_per_hour",), fault, "write what an hour of the machine costs, as in 2.5")
    if config["side_effects"]:
        load_texts()
    return config


def _check_condition(name: str, condition: dict, conditions: dict, schema: dict) -> None:
    """The method's own settings in `with`, and a chain of starts that ends at the base model."""
    at = ("conditions", name)
    if "reference" in condition or "prompt" in condition:
        _check_untrained(at, condition)
    elif "method" not in condition:
        for key in ("start_from", "with", "engine"):
            if key in condition:
                remedy = f"add method: {any_of(methods())}"
                raise ConfigFaultError((*at, "method"), f"is missing, and {key} is given", remedy)
        return
    if "with" in condition:
        method = resolve(schema["properties"][condition["method"]], schema)
        raise_if(first_fault(condition["with"], method, schema, (*at, "with")), (*at, "method"))
    chain, step = [name], condition
    while (start := step.get("start_from")) is not None:
        place, started = ("conditions", chain[-1], "start_from"), ("conditions", start)
        if start not in conditions:
            remedy = did_you_mean(start, [c for c in conditions if c != name])
            raise ConfigFaultError(place, f"unknown condition {start!r}", remedy, ((*started, "sweep"),))
        if start in chain:
            circle = " -> ".join([*chain[chain.index(start) :], start])
            remedy, others = "let one of them start from the base model", chain[chain.index(start) :]
            beside = tuple(("conditions", other, "start_from") for other in others)
            raise ConfigFaultError(place, f"goes in a circle ({circle})", remedy, beside, anywhere=True)
        if "method" not in conditions[start]:
            remedy = "leave start_from out to start from the base model"
            beside = tuple((*started, key) for key in ("prompt", "reference"))
            raise ConfigFaultError(place, f"{start} is not trained and has no adapter", remedy, beside)
        chain.append(start)
        step = conditions[start]


def _check_untrained(at: tuple, condition: dict) -> None:
    """A classifier or a prompt trains no model; a prompt may be put to an adapter."""
    kind, fitting = ("reference", ()) if "reference" in condition else ("prompt", ("start_from",))
    for key in condition:
        if key not in (kind, *fitting):
            fault, remedy = f"does not go with {kind}, which trains no model", "leave one of the two out"
            raise ConfigFaultError((*at, key), fault, f"{remedy}, or make two conditions", ((*at, kind),))


def _check_training(config: dict, name: str) -> None:
    """What must fit together among a condition's settings."""
    merged = condition_settings(config, name)
    settings, method = merged["settings"], merged["method"]
    if method is None:
        return
    at, data = functools.partial(place_of, config, name), ("data", "train")
    batch, micro, n_train = settings["batch_size"], settings["micro_batch_size"], config["data"]["train"]
    rows = settings.get("train_rows", n_train)
    both = (at("batch_size"), at("micro_batch_size"))
    if batch % micro:
        fault = f"{batch} is not a multiple of micro_batch_size ({micro})"
        raise ConfigFaultError(both[0], fault, f"take {-(-batch // micro) * micro}", both[1:])
    processes = config["launch"]["processes"]
    if batch % processes:
        fault = f"{batch} prompts a step ({dotted(at('batch_size'))}) do not divide among {processes} processes"
        fits = max(n for n in range(1, processes) if batch % n == 0)
        raise ConfigFaultError(("launch", "processes"), fault, f"take {fits}", both[:1])
    if batch > rows:
        fault = f"{rows} rows do not fill a batch ({dotted(at('batch_size'))} is {batch})"
        place = at("train_rows") if "train_rows" in settings else data
        raise ConfigFaultError(place, fault, f"give at least {batch}", both[:1])
    if misfit := training_fault(settings, config["conditions"][name].get("with", {}), n_train):
        setting, fault, remedy = misfit
        beside = (*both, at("train_rows"), at("steps"), at("epochs"), data)
        raise ConfigFaultError(at(setting), fault, remedy, beside)
    if "reward" in settings:
        raise_at(config, name, reward_checks.settings_fault(settings["reward"]))
    raise_at(config, name, method_checks.settings_fault(method, settings, config))


def _check_evaluation(evaluation: dict) -> None:
    if not set(SPLITS) & {*evaluation["structured"], *evaluation["free"]}:  # suites alone say how, not how well
        places = tuple(("evaluation", decoding) for decoding in ("structured", "free"))
        raise ConfigFaultError(
            places[0], "nothing is evaluated", "name a split, as in [test]", places[1:], anywhere=True
        )


def _without_defaults(schema: dict, root: dict) -> dict:
    """A method's schema that types the settings it is given and adds none."""
    schema = {key: value for key, value in resolve(schema, root).items() if key != "default"}
    if "properties" in schema:
        schema["properties"] = {key: _without_defaults(child, root) for key, child in schema["properties"].items()}
    return schema
