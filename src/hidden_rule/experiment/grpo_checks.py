"""Consistency checks of the settings of RL, its reward aside (`reward_checks`)."""

# Keys below the method, what is wrong, what would be right, and the other settings that take part in it.
Fault = tuple[tuple, str, str, tuple[str, ...]]


def settings_fault(settings: dict, decoding: str) -> Fault | None:
    """The first thing that GRPO's `settings` and `decoding` get wrong between them, or None."""
    curriculum = settings["curriculum"]
    if settings["use_vllm"] and decoding != "free":
        fault = "vLLM serves free decoding only, and decoding is structured"
        return ("use_vllm",), fault, "set decoding: free, or use_vllm: false", ("decoding",)
    if settings["estimator"] == "exact" and decoding != "structured":
        fault = "sums over all valid replies, and free decoding has no end of them"
        return ("estimator",), fault, "set decoding: structured, or estimator: sampled", ("decoding",)
    if settings["estimator"] == "exact" and settings["beta"] != 0:
        return ("estimator",), f"exact has no KL penalty, and beta is {settings['beta']:g}", "set beta: 0", ("beta",)
    if curriculum["by"] != "none":
        if settings["max_minutes"]:
            fault = "is laid out over all epochs, and max_minutes may end training before the last"
            return ("curriculum",), fault, "set max_minutes: 0, or by: none", ("max_minutes",)
        if curriculum["epochs"] >= settings["epochs"]:
            fault = f"{curriculum['epochs']} easy epochs of {settings['epochs']} leave none for the rest"
            fewer = f"give less than {settings['epochs']}, or" if settings["epochs"] > 1 else "set by: none, or give"
            remedy = f"{fewer} more grpo.epochs"
            return ("curriculum", "epochs"), fault, remedy, ("epochs", "steps", "train_rows")
    return None


def ruleset_fault(settings: dict, ruleset) -> Fault | None:
    """The first thing that GRPO's `settings` say of a rule that `ruleset` does not have, or None."""
    if settings.get("curriculum", {}).get("by") == "hidden_rule" and not ruleset.hidden_rules:
        fault = f"the ruleset {ruleset.name} has no hidden rule"
        return ("curriculum", "by"), fault, "take probability, or none", ("ruleset",)
    return None
