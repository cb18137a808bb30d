"""Consistency checks of a method's settings, the reward aside (`reward_checks`)."""

from hidden_rule.experiment import grpo_checks
from hidden_rule.experiment.grpo_checks import Fault


def settings_fault(method: str, settings: dict, config: dict) -> Fault | None:
    """The first thing that a condition's `settings` get wrong between them and with the rest of a config, or None."""
    checks = {"grpo": _grpo_fault, "rft": _rft_fault, "dpo": _dpo_fault}
    return checks[method](settings, config) if method in checks else None


def _grpo_fault(settings: dict, config: dict) -> Fault | None:
    return grpo_checks.settings_fault(settings, config["decoding"])


def _rft_fault(settings: dict, config: dict) -> Fault | None:
    rounds, epochs = settings["rounds"], settings["epochs"]
    if rounds > epochs:
        fault = f"{rounds} rounds do not fit {epochs} epoch{'s' if epochs > 1 else ''}: one has at least one"
        return ("rounds",), fault, f"give at most {epochs}, or more rft.epochs", ("epochs", "steps", "train_rows")
    return _whole_weights_fault("rft", "keep", config)


def _dpo_fault(settings: dict, config: dict) -> Fault | None:
    if settings["label_smoothing"] and settings["loss_type"] != "robust":
        fault = f"is of the loss robust alone, and loss_type is {settings['loss_type']}"
        return ("label_smoothing",), fault, "set loss_type: robust, or label_smoothing: 0", ("loss_type",)
    return None


def _whole_weights_fault(method: str, key: str, config: dict) -> Fault | None:
    """Between steps a policy generates freely from whole weights, which strategies that shard them do not hold."""
    strategy = config["launch"]["strategy"]
    if config["decoding"] == "free" and config["launch"]["processes"] > 1 and strategy != "ddp":
        fault = f"{method} generates replies between steps, and {strategy} shards the weights"
        return (key,), fault, "set launch.strategy: ddp, or decoding: structured", ("launch", "decoding")
    return None
