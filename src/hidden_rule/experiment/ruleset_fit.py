"""What a config and the ruleset that it names must fit in: room for labels, conditions, words, suites."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean
from hidden_rule.core.yaml_files import read_text
from hidden_rule.experiment import grpo_checks, reward_checks
from hidden_rule.experiment.conditions import condition_settings, methods
from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.model_checks import check_path, is_there, shortened
from hidden_rule.experiment.places import place_of, raise_at
from hidden_rule.task.dataset import SPLITS
from hidden_rule.task.ruleset import Ruleset, load_ruleset
from hidden_rule.task.suites import why_not

RULESET = ("ruleset",)
STANDARD = ("baseline", "sft_then_grpo")  # conditions that studies have, and an experiment may leave out


def named_ruleset(path: str) -> Ruleset:
    """The ruleset that a config names."""
    if not is_there(path):
        folder = Path(path).parent
        known = sorted(str(file) for file in folder.glob("*.yaml")) if is_there(str(folder), "is_dir") else []
        remedy = did_you_mean(path, known) if known else "give the path of a ruleset file"
        raise ConfigFaultError(RULESET, f"no such file: {shortened(path)}", remedy)
    check_path(RULESET, path)
    if not is_there(path, "is_file"):
        try:
            read_text(path)
        except UserError as error:  # not of the ruleset, but of what names it
            raise ConfigFaultError(RULESET, f"{shortened(path)} {error.fault}", error.remedy) from None
    return load_ruleset(path)


def check_fit(config: dict, ruleset: Ruleset) -> None:
    """Splits and trainings have room for each label, and conditions name what the ruleset has."""
    labels = ruleset.labels
    reward_checks.check_costs(config, ruleset)
    for name in config["conditions"]:
        trained = condition_settings(config, name)
        if "reward" in trained["settings"]:
            raise_at(config, name, reward_checks.ruleset_fault(trained["settings"]["reward"], ruleset))
            raise_at(config, name, grpo_checks.ruleset_fault(trained["settings"], ruleset))
    for split in SPLITS:
        size = config["data"][split]
        if size < len(labels) and not ruleset.is_observed:
            fault = f"{size} rows cannot hold each of {len(labels)} labels"
            raise ConfigFaultError(("data", split), fault, f"give at least {len(labels)}", (RULESET,))
    for name in config["conditions"]:
        rows = condition_settings(config, name)["settings"].get("train_rows", len(labels))
        if rows < len(labels):
            fault = f"{rows} rows cannot hold each of {len(labels)} labels"
            place = place_of(config, name, "train_rows")
            raise ConfigFaultError(place, fault, f"give at least {len(labels)}", (RULESET,))
    _check_prompts(config, ruleset)


def _check_prompts(config: dict, ruleset: Ruleset) -> None:
    """Prompts have the words and the examples that they need."""
    n_labels, n_train = len(ruleset.labels), config["data"]["train"]
    for name, condition in config["conditions"].items():
        prompt, at = condition.get("prompt"), ("conditions", name)
        if prompt == "oracle":
            if not ruleset.rules:
                fault = f"the prompt of {name} tells every rule, and none is stated"
                raise ConfigFaultError(
                    (*at, "prompt"), fault, "name a file of rules in data.ruleset", (("data", "path"),)
                )
            for i, rule in enumerate(ruleset.rules):
                if not rule.says:
                    fault = f"is missing, and the prompt of {name} tells every rule"
                    path = config["data"].get("ruleset", config["ruleset"])
                    raise UserError(path, f"rules[{i}].says", fault, "say the rule in plain words")
        elif prompt and prompt["examples"] > (most := n_train // n_labels * n_labels):
            fault = f"{prompt['examples']} examples cannot be drawn evenly from {n_train} rows of {n_labels} labels"
            beside = (RULESET, ("data", "train"))
            raise ConfigFaultError((*at, "prompt", "examples"), fault, f"give at most {most}", beside)


def check_published(path: str, ruleset: Ruleset, conditions: set[str]) -> None:
    """Figures that the ruleset publishes name no condition by a slip; those of other conditions are not shown."""
    published = ruleset.published
    for metric in ("accuracy", "hidden_recall"):
        figures = published.of(metric) if published else {}
        for name in figures:
            if name in conditions or name in STANDARD or name in methods():
                continue
            if close := slip_of(name, conditions):
                fault, remedy = f"unknown condition {shortened(name)!r}", f"did you mean {close}?"
                raise UserError(path, f"published.{metric}.{shortened(name)}", fault, remedy)


def slip_of(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` misspells: letters swapped, or one left out, doubled or changed; or None.

    `sft` may stand beside `sft2`, and `grpo_2` beside `grpo_3`: a digit more or another one is another name.
    """
    plain = [other for other in known if _letters(other) != _letters(name)]
    close = difflib.get_close_matches(name, plain, n=1, cutoff=0.75 if len(name) > 3 else 0.6)
    return close[0] if close and abs(len(close[0]) - len(name)) <= 1 else None


def _letters(name: str) -> str:
    return "".join(c for c in name if not c.isdigit()).strip("_")


def leave_out_classifiers(config: dict) -> list[str]:
    """Leave reference classifiers out of a config where no split is answered under structured decoding, in place.

    They write no text. Returns a line on those that are left out; raises ConfigFaultError where nothing else is left.
    """
    classifiers = [name for name, condition in config["conditions"].items() if "reference" in condition]
    if not classifiers or set(SPLITS) & {*config["evaluation"]["structured"]}:
        return []
    why = "evaluation.structured names no split, and classifiers answer under structured decoding alone"
    if len(classifiers) == len(config["conditions"]):
        beside = (("conditions", classifiers[0], "reference"),)
        fault = f"names no split, and {classifiers[0]} answers under structured decoding alone"
        raise ConfigFaultError(("evaluation", "structured"), fault, "name a split, as in [test]", beside)
    for name in classifiers:
        del config["conditions"][name]
    return [f"conditions: without {', '.join(classifiers)}: {why}"]


def leave_out_suites(config: dict, ruleset: Ruleset) -> list[str]:
    """Leave the suites that cannot be made for a ruleset out of a config, in place; a line on each that was asked for.

    Without any, `suites` is left out of the evaluation.
    """
    evaluation, kinds = config["evaluation"], config["suites"]["kinds"]
    if "suites" not in evaluation["structured"] + evaluation["free"]:
        return []
    lacks = {kind: why_not(ruleset, kind) for kind in kinds}
    lines = [f"suites: {kind} are left out: {config['ruleset']} {lack}" for kind, lack in lacks.items() if lack]
    if made := [kind for kind in kinds if not lacks[kind]]:
        config["suites"]["kinds"] = made
        return lines
    for decoding in ("structured", "free"):
        evaluation[decoding] = [split for split in evaluation[decoding] if split != "suites"]
    return [*lines, "suites: none can be made, and none are evaluated"]


def unnamed_labels(path: str, ruleset: Ruleset) -> list[str]:
    """A line on labels that no prompt names: without examples of them no model can know what to answer."""
    prompt = ruleset.system + ruleset.user
    missing = [label for label in ruleset.labels if label not in prompt]
    if "{labels}" in prompt or "{rules}" in prompt or not missing:
        return []
    return [f"{path}: the prompt names no {' and no '.join(missing)}: write {{labels}} into prompt.system"]
