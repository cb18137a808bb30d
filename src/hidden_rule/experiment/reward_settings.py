"""The reward among a condition's settings: of three kinds, and complete.

    points            correct, wrong, invalid, near
    decision costs    `decision_costs`: minus what a decision costs by the config's matrix
    own               file, function: of the user's own

A reward of one kind replaces one of another that an earlier file or the method gives; one of the same kind is merged
into it.
"""

from collections.abc import Iterable

from hidden_rule.core.schemas import fill_defaults, load_schema

SCHEMA = "config.schema.yaml"
OWN = ("file", "function")
COSTS = "decision_costs"
FUNCTION = "reward"  # its default name


def is_own(reward) -> bool:
    """Whether a reward is a function of the user's own."""
    return isinstance(reward, dict) and not reward.keys().isdisjoint(OWN)


def replaces(given: dict, earlier: dict) -> bool:
    """Whether the reward `given` is of another kind than the `earlier` one; an empty one is of none."""
    return bool(given and earlier) and is_own(given) != is_own(earlier)


def complete_reward(reward, config: dict) -> dict:
    """A reward as a training takes it: complete points, `file` and `function`, or the costs of `config`.

    {"decision_costs": None} where the config has no costs, which is refused.
    """
    if reward == COSTS:
        costs = config.get(COSTS)
        return {COSTS: costs and {key: costs[key] for key in ("costs", "invalid") if key in costs}}
    if is_own(reward):
        return {"function": FUNCTION, **{key: reward[key] for key in OWN if key in reward}}
    schema = load_schema(SCHEMA)
    points = schema["$defs"]["reward"]
    return {**fill_defaults({}, points, schema), **reward}


def reward_file(settings: dict) -> list[str]:
    """The file that a training's reward is taken from, in a list that is empty for other rewards."""
    return [settings["reward"]["file"]] if is_own(settings.get("reward")) else []


def uses_costs(settings: Iterable[dict]) -> bool:
    """Whether one of these conditions, or of these methods' settings, takes the decision costs as its reward."""
    return any(COSTS in (of.get("reward"), of.get("with", {}).get("reward")) for of in settings)
