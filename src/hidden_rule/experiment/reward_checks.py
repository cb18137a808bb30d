"""What rewards and decision costs must satisfy: among themselves, and with the ruleset."""

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean
from hidden_rule.core.yaml_files import read_text
from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.grpo_checks import Fault
from hidden_rule.experiment.model_checks import check_path, shortened
from hidden_rule.experiment.reward_settings import COSTS, OWN, is_own
from hidden_rule.task.decision_costs import completed, cost_of
from hidden_rule.task.reward_file import load_reward
from hidden_rule.task.reward_trial import drawn_cases, try_reward

TOLERATED = 0.001  # of shares that sum to 1


def kind_fault(settings: dict, at: tuple) -> tuple | None:
    """`(path, fault, remedy)` where the reward in settings that stand at `at` is of two kinds, or None."""
    reward = settings.get("reward", {})
    others = [key for key in reward if key not in OWN] if is_own(reward) else []
    fault, remedy = "does not go with file, which says what a reply earns", "leave one of the two out"
    return ((*at, "reward", others[0]), fault, remedy) if others else None


def with_one_kind(config: dict) -> dict:
    """A config without the points that defaults have put beside a reward's file."""
    for section in config.values():
        if isinstance(section, dict) and is_own(section.get("reward")):
            section["reward"] = {key: value for key, value in section["reward"].items() if key in OWN}
    return config


def with_matrix_below(config: dict, schema: dict) -> dict:
    """A config whose matrix of costs, where it stands in `decision_costs` itself, is below `costs`, its place."""
    costs = config.get(COSTS)
    if not isinstance(costs, dict) or "costs" in costs:
        return config
    known = schema["$defs"][COSTS]["properties"]
    rows = {key: row for key, row in costs.items() if key not in known and isinstance(row, dict)}
    rest = {key: value for key, value in costs.items() if key not in rows}
    return config | {COSTS: rest | ({"costs": rows} if rows else {})}


def settings_fault(reward: dict) -> Fault | None:
    """What is wrong with a complete reward, whatever the ruleset, or None."""
    if COSTS in reward:
        none = "is decision_costs, and the config has none"
        return None if reward[COSTS] is not None else (("reward",), none, "add decision_costs", (COSTS,))
    if is_own(reward):
        missing = "is missing, and function is given"
        return None if "file" in reward else (("reward", "file"), missing, "give the path of a Python file", ())
    if reward["correct"] <= max(reward["wrong"], reward["invalid"]):
        fault = "does not pay more for a correct reply than for a wrong or invalid one"
        return ("reward",), fault, "raise correct above the others", ()
    for right, others in reward["near"].items():
        for answered, value in others.items():
            if value >= reward["correct"]:
                fault = f"pays {value:g} for a wrong label, and a correct one earns {reward['correct']:g}"
                return ("reward", "near", right, answered), fault, "pay less", ("reward.correct",)
    return None


def ruleset_fault(reward: dict, ruleset) -> Fault | None:
    """What is wrong with a complete reward of a ruleset's decisions, or None.

    A file's function is tried on cases of the ruleset; what it does wrong is a UserError that names the file.
    """
    if is_own(reward):
        if found := file_fault(reward["file"]):
            return ("reward", "file"), *found, ()
        try_reward(load_reward(reward["file"], reward["function"]), ruleset.labels, drawn_cases(ruleset))
        return None
    if COSTS in reward:
        return _free_mistake(reward[COSTS], ruleset.labels)
    for right, others in reward["near"].items():
        for at, label in [((right,), right), *(((right, answered), answered) for answered in others)]:
            if label not in ruleset.labels:
                fault = f"no decision is called {label!r}"
                return ("reward", "near", *at), fault, did_you_mean(label, ruleset.labels), ("ruleset",)
        if right in others:
            return ("reward", "near", right, right), "is the right label itself", "set reward.correct", ()
    return None


def file_fault(path: str) -> tuple[str, str] | None:
    """What is wrong with the path of a reward file, and a remedy, or None."""
    check_path(("reward", "file"), path)
    try:
        read_text(path)
    except UserError as error:
        return f"{shortened(path)}: {error.fault}", error.remedy or "name a Python file"
    return None


def _free_mistake(costs: dict, labels) -> Fault | None:
    """A mistake that costs nothing earns as much as the right decision."""
    for right in labels:
        for given in (*labels, None):
            if given != right and cost_of(given, right, costs) <= 0:
                which = "no valid reply" if given is None else given
                fault = f"is decision_costs, and {which} costs nothing where {right} is right: it earns as much"
                return ("reward",), fault, "let every mistake cost more than 0", (COSTS,)
    return None


def check_costs(config: dict, ruleset) -> None:
    """Check the decision costs of a config against the ruleset and complete them, in place."""
    costs = config.get(COSTS)
    if costs is None:
        return
    _check_labels(costs, ruleset)
    if "prevalence" in costs:
        _check_prevalence(costs["prevalence"], ruleset)
    config[COSTS] = completed(costs, ruleset.labels)


def _check_labels(costs: dict, ruleset) -> None:
    named: list[tuple[tuple, str]] = [(("costs", right), right) for right in costs["costs"]]
    named += [(("costs", right, given), given) for right, row in costs["costs"].items() for given in row]
    shares, invalid = costs.get("prevalence", {}), costs.get("invalid")
    named += [(("prevalence", label), label) for label in shares]
    named += [(("invalid", label), label) for label in invalid] if isinstance(invalid, dict) else []
    for at, label in named:
        if label not in ruleset.labels:
            remedy = did_you_mean(label, ruleset.labels)
            raise ConfigFaultError((COSTS, *at), f"no decision is called {shortened(label)!r}", remedy)
    for right, row in costs["costs"].items():
        if row.get(right):
            fault = "is the right decision itself, which costs 0"
            raise ConfigFaultError((COSTS, "costs", right, right), fault, "remove it")


def _check_prevalence(shares: dict, ruleset) -> None:
    total, at = sum(shares.values()), (COSTS, "prevalence")
    if total > 1 + TOLERATED:
        raise ConfigFaultError(at, f"shares sum to {total:g}", "give shares that sum to 1")
    if total < 1 - TOLERATED and set(shares) == set(ruleset.labels):
        fault = f"shares of all labels sum to {total:g}"
        raise ConfigFaultError(at, fault, "give shares that sum to 1, or leave a label out")
