"""Where a condition's setting stands in the config."""

from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.grpo_checks import Fault


def place_of(config: dict, name: str, *keys: str) -> tuple:
    """Where the setting to blame stands: in condition `name` if it overrides one of `keys`, else with its method."""
    condition = config["conditions"][name]
    overridden = [key for key in keys if key in condition.get("with", {})]
    return ("conditions", name, "with", overridden[0]) if overridden else (condition["method"], keys[0])


def raise_at(config: dict, name: str, fault: Fault | None) -> None:
    """Raise a fault of condition `name`'s settings, if there is one, where it stands in the config."""
    if fault:
        (key, *below), what, remedy, others = fault
        beside = tuple(
            (other,) if other in config else (*place_of(config, name, parts[0]), *parts[1:])
            for other in others
            for parts in [other.split(".")]
        )
        raise ConfigFaultError((*place_of(config, name, key), *below), what, remedy, beside)
