"""Conditions: what each trains with, where it starts, in which order they are shown."""

import copy
import hashlib
import json
import re
from pathlib import Path

from hidden_rule.core.engines import TRL
from hidden_rule.core.schemas import load_schema
from hidden_rule.experiment.reward_settings import SCHEMA, complete_reward, replaces
from hidden_rule.task.training_subsets import passes


def condition_settings(config: dict, name: str) -> dict:
    """What condition `name` trains with: `method` (None: untrained), `start_from` (None: base model), `settings`.

    `settings` are the method's own with the condition's `with` over them; where `steps` are given, `epochs` are
    the passes that come nearest to them; the reward is complete (`complete_reward`). `engine` is that of a condition
    which another one than TRL trains. Keys are sorted.
    """
    condition = config["conditions"][name]
    method = condition.get("method")
    settings = copy.deepcopy(config[method]) if method else {}
    merge(settings, condition.get("with", {}))
    if "reward" in settings:
        settings["reward"] = complete_reward(settings["reward"], config)
    if "steps" in settings:
        settings["epochs"] = passes(settings, settings.get("train_rows", config["data"]["train"]))
    engine = {"engine": condition["engine"]} if condition.get("engine", TRL) != TRL else {}
    return canonical({"method": method, "start_from": condition.get("start_from"), "settings": settings, **engine})


def methods() -> list[str]:
    """The training methods: what the schema allows as a condition's `method`, each with settings of that name."""
    return load_schema(SCHEMA)["$defs"]["condition"]["properties"]["method"]["enum"]


def any_of(names) -> str:
    """`sft, grpo or dpo`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def explores(settings: dict) -> bool:
    """Whether a method with these settings samples replies: for a reward, or to prefer the right one to its errors."""
    return "reward" in settings or settings.get("pairs") == "errors"


def repeats_its_rows(config: dict, settings: dict) -> bool:
    """Whether a training computes the same prompts and replies in every epoch; `settings`: see `condition_settings`.

    Not RL by free exploration, whose replies are new each time. What another engine than TRL does is its own business.
    """
    new_replies = config["decoding"] == "free" and settings["method"] in ("grpo", "rloo")
    return bool(settings["method"]) and "engine" not in settings and not new_replies


def replies_a_prompt(settings: dict) -> int | None:
    """How many replies to a prompt are sampled and rewarded at a time, of a group or for a round of RFT, or None."""
    return settings.get("group_size", settings.get("samples")) if "reward" in settings else None


def in_order(names) -> list[str]:
    """Conditions in the order in which they are shown: by name, numbers in it by their value (`0_05` is 0.05)."""

    def parts(name: str) -> list:
        split = re.split(r"(0_\d+|\d+)", name)
        return [float(part.replace("_", ".")) if i % 2 else part for i, part in enumerate(split)]

    return sorted(names, key=parts)


def start_of(config: dict, name: str) -> str | None:
    """Where condition `name` starts, if that determines what its first groups, or samples of RFT, contain.

    Another trained condition, an untrained one, or `the base model`. Under structured decoding its predictions tell, so
    that it has to be a condition, and the temperature 1; under free decoding replies are drawn. None elsewhere, and for
    what draws no groups.
    """
    own = condition_settings(config, name)
    if "reward" not in own["settings"] or own["settings"].get("estimator") == "exact":
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


def merge(target: dict, source: dict) -> None:
    """Merge `source` into `target`, dictionaries deep, as Snakemake merges config files, but for a reward.

    One of another kind takes the place of what was there.
    """
    for key, value in source.items():
        both = isinstance(value, dict) and isinstance(target.get(key), dict)
        if both and not (key == "reward" and replaces(value, target[key])):
            merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


def canonical(value):
    """A plain copy with sorted keys: equal settings have equal `repr`, which Snakemake compares."""
    return json.loads(json.dumps(value, sort_keys=True, default=str))
