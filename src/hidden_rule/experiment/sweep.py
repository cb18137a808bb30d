"""A condition with a `sweep` stands for several that differ in one setting; and what such settings must fit."""

import re

from hidden_rule.core.schemas import did_you_mean
from hidden_rule.experiment.conditions import any_of
from hidden_rule.task.training_subsets import passes, steps_a_pass

TOLERANCE = 0.05  # of `steps`: whole passes that miss it by more are refused


def sweep_fault(conditions: dict, known: dict, dropped=()) -> tuple | None:
    """`(path, fault, remedy)` of the first sweep that cannot be expanded, or None.

    `known` are the settings of each method, `dropped` the names of conditions not to make.
    """
    names = {name for name, condition in conditions.items() if "sweep" not in condition}
    for base, condition in conditions.items():
        if "sweep" not in condition:
            continue
        at = ("conditions", base, "sweep")
        if "method" not in condition:
            return ("conditions", base, "method"), "is missing, and sweep is given", f"add method: {any_of(known)}"
        if len(condition["sweep"]) > 1:
            return at, f"varies {len(condition['sweep'])} settings", "keep one, and write others into with"
        ((key, values),) = condition["sweep"].items()
        if key not in known[condition["method"]]:
            return (*at, key), "unknown key", did_you_mean(key, known[condition["method"]])
        if key in condition.get("with", {}):
            return (*at, key), "stands in with too", "keep one"
        for i, value in enumerate(values):
            if not isinstance(value, int | float | str) or not re.search("[a-z0-9]", str(value).lower()):
                return (*at, key, i), "is no plain value", "give a number or a word"
            name = member_name(base, value)
            if name in names:
                return (*at, key, i), f"makes a second condition {name}", "rename one"
            names |= {name} - set(dropped)
    return None


def expand_sweeps(conditions: dict, dropped=()) -> tuple[dict, dict]:
    """Conditions with each sweep expanded, and for each expanded one where it stands: (name, setting, index)."""
    expanded, places = {}, {}
    for base, condition in conditions.items():
        if "sweep" not in condition:
            expanded[base] = condition
            continue
        rest = {key: value for key, value in condition.items() if key != "sweep"}
        ((key, values),) = condition["sweep"].items()
        for i, value in enumerate(values):
            name = member_name(base, value)
            if name not in dropped:
                expanded[name] = rest | {"with": rest.get("with", {}) | {key: value}}
                places[name] = (base, key, i)
    return expanded, places


def member_name(base: str, value) -> str:
    """`sft_labels` and 25: `sft_labels_25`; a value's points and signs are underscores (0.05: `_0_05`)."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{base}_{re.sub('[^a-z0-9]+', '_', text.lower()).strip('_')}"


def as_written(path: tuple, places: dict) -> tuple:
    """The path of a fault in the config as its author wrote it."""
    if len(path) < 2 or path[0] != "conditions" or path[1] not in places:
        return path
    base, key, i = places[path[1]]
    if path[2:4] == ("with", key):
        return ("conditions", base, "sweep", key, i, *path[4:])
    return ("conditions", base, *path[2:])


def training_fault(settings: dict, given, n_train: int) -> tuple | None:
    """`(setting, fault, remedy)` where a training's rows, noise and steps do not fit each other, or None.

    `given` are the settings that the condition itself overrides, `n_train` the rows of the training split.
    """
    rows, noise = settings.get("train_rows", n_train), settings.get("label_noise", 0.0)
    if rows > n_train:
        return "train_rows", f"{rows} is more than data.train ({n_train})", f"give at most {n_train}"
    if noise and not round(noise * rows):
        return (
            "label_noise",
            f"{noise:g} of {rows} rows is not one row",
            f"give at least {1 / rows:.2g}, or leave it out",
        )
    if "steps" not in settings:
        return None
    if {"steps", "epochs"} <= set(given):
        return "steps", "stands beside epochs, which it replaces", "keep one"
    steps, a_pass = settings["steps"], steps_a_pass(settings, rows)
    if abs(passes(settings, rows) * a_pass / steps - 1) > TOLERANCE:
        near = sorted({max(1, n) * a_pass for n in (steps // a_pass, steps // a_pass + 1)})
        fault = f"{steps} steps are {steps / a_pass:.1f} passes over {rows} rows ({a_pass} steps each)"
        return "steps", fault, f"take {' or '.join(map(str, near))}"
    return None
