"""Settings that are valid and unlikely to be meant: a line each, printed before any job runs."""

from hidden_rule.experiment.conditions import condition_settings
from hidden_rule.task.decision_costs import worst_cost
from hidden_rule.task.training_subsets import steps_a_pass


def cautions(config: dict) -> list[str]:
    """What a checked config's conditions train with that their author may not want, in the order of the conditions."""
    lines = []
    for name in config["conditions"]:
        settings = condition_settings(config, name)["settings"]
        if settings:
            rows = settings.get("train_rows", config["data"]["train"])
            lines += [f"{name}: {line}" for line in _of_training(settings, rows, config["decoding"])]
    return lines


def _of_training(settings: dict, n_rows: int, decoding: str) -> list[str]:
    """Of one condition's settings."""
    lines = []
    steps, warmup = settings["epochs"] * steps_a_pass(settings, n_rows), settings["warmup_steps"]
    if warmup >= steps:
        reached = settings["learning_rate"] * steps / warmup
        lines.append(
            f"warmup_steps is {warmup} and training has {steps} steps: the learning rate ends at {reached:.2g} "
            f"and never reaches {settings['learning_rate']:g}; lower warmup_steps"
        )
    points = {} if "rounds" in settings else settings.get("reward", {})  # RFT keeps right replies, whatever others earn
    if costs := points.get("decision_costs") if decoding == "free" else None:
        cheap = [
            label for label, of in costs["invalid"].items() if of < worst_cost(label, costs["invalid"], costs["costs"])
        ]
        if cheap:
            lines.append(
                f"reward: decision_costs: no valid reply costs less than the worst decision where {cheap[0]} is right: "
                "under free decoding it pays to decide nothing; raise decision_costs.invalid"
            )
    if "correct" in points and decoding == "free" and points["invalid"] > points["wrong"]:
        lines.append(
            f"reward.invalid ({points['invalid']:g}) exceeds reward.wrong ({points['wrong']:g}): under free decoding "
            "a reply that decides nothing pays more than a wrong one; lower invalid"
        )
    return lines
