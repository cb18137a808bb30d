"""How many tokens a freely written reply may have, by the setting that says so."""

from hidden_rule.experiment.conditions import condition_settings, explores


def reply_limits(config: dict) -> dict[str, int]:
    """Each `max_new_tokens` by its dotted key, where replies are generated: in free exploration and free evaluation."""
    limits = {}
    for name in config["conditions"] if config["decoding"] == "free" else ():
        of = condition_settings(config, name)
        if explores(of["settings"]):
            own = "max_new_tokens" in config["conditions"][name].get("with", {})
            section = f"conditions.{name}.with" if own else of["method"]
            limits[f"{section}.max_new_tokens"] = of["settings"]["max_new_tokens"]
    if config["evaluation"]["free"]:
        limits["evaluation.max_new_tokens"] = config["evaluation"]["max_new_tokens"]
    return limits
