"""What an engine can be asked for: settings that it would not honour are refused by name, never ignored."""

import importlib.util

from hidden_rule.core.engines import ENVIRONMENTS, TRL
from hidden_rule.core.errors import SettingError
from hidden_rule.core.schemas import quoted
from hidden_rule.experiment.conditions import condition_settings
from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.grpo_checks import Fault
from hidden_rule.experiment.places import place_of, raise_at

METHODS = {"verl": ("grpo", "ppo"), "openrlhf": ("grpo", "ppo")}  # that engines other than TRL have
ELSEWHERE = {"ppo": "verl or openrlhf"}  # methods that TRL does not have here: engines that do
NEUTRAL = {  # settings that engines other than TRL have only this way: what it does, and its value
    "estimator": ("draws its samples", "sampled"),
    "max_minutes": ("has no time limit", 0),
    "patience": ("does not stop early", 0),
    "use_vllm": ("chooses its rollouts itself", False),
}
LOSS_TYPES = {"verl": ("grpo", "dapo", "dr_grpo"), "openrlhf": ("grpo", "dapo")}
SCALES = ("group", "none")


def engine_of(condition: dict) -> str | None:
    """The engine that trains a condition of the config; None of one that is not trained."""
    return condition.get("engine", TRL) if "method" in condition else None


def check_engine(config: dict, name: str) -> None:
    """Raise ConfigFaultError if the engine of condition `name`, a trained one, cannot train what it is asked for."""
    condition = config["conditions"][name]
    engine, method, at = condition.get("engine", TRL), condition["method"], ("conditions", name)
    if engine == TRL:
        if method in ELSEWHERE:
            fault = f"is {method}, which trl does not train here"
            raise ConfigFaultError((*at, "method"), fault, f"add engine: {ELSEWHERE[method]}", ((*at, "engine"),))
        return
    if method not in METHODS[engine]:
        fault = f"{engine} does not train {method} here"
        remedy = f"leave engine out, or take method: {' or '.join(METHODS[engine])}"
        raise ConfigFaultError((*at, "engine"), fault, remedy, ((*at, "method"),))
    if config["decoding"] != "free":
        fault = f"{engine} explores freely, and decoding is {config['decoding']}"
        raise ConfigFaultError((*at, "engine"), fault, "set decoding: free, or leave engine out", (("decoding",),))
    own = condition_settings(config, name)
    raise_at(config, name, settings_fault(own, engine) or _rows_fault(own["settings"], config["data"]["train"], engine))
    _check_shared(config, (*at, "engine"), engine)


def settings_fault(own: dict, engine: str) -> Fault | None:
    """The first of a condition's settings (`condition_settings`) that `engine` would not honour, or None."""
    settings = own["settings"]
    for key, (what, value) in NEUTRAL.items():
        if settings.get(key, value) != value:
            fault = f"is {quoted(settings[key])}, and the engine {engine} {what}"
            return (key,), fault, f"write {key}: {quoted(value)} into the condition's with", ()
    if settings.get("curriculum", {"by": "none"})["by"] != "none":
        return ("curriculum",), f"the engine {engine} has no curriculum", "set by: none", ()
    if settings.get("loss_type") and settings["loss_type"] not in LOSS_TYPES[engine]:
        known = " or ".join(LOSS_TYPES[engine])
        return ("loss_type",), f"the engine {engine} has no {settings['loss_type']}", f"take {known}", ()
    if settings.get("scale_rewards", SCALES[0]) not in SCALES:
        fault = f"the engine {engine} does not scale over a {settings['scale_rewards']}"
        return ("scale_rewards",), fault, f"take {' or '.join(SCALES)}", ()
    if engine == "verl" and settings["beta"] and own["start_from"]:
        fault = f"is {settings['beta']:g}, and verl's penalty is towards the base model, not towards the start"
        return ("beta",), fault, "set beta: 0, or leave start_from out", ()
    return None


def _rows_fault(settings: dict, n_train: int, engine: str) -> Fault | None:
    """TRL's last batch of an epoch may be smaller; other engines leave it out, and would train on fewer rows."""
    rows, batch = settings.get("train_rows", n_train), settings["batch_size"]
    if rows % batch == 0:
        return None
    fault = f"is {batch}, {engine} trains on whole batches, and {rows} rows are none"
    nearest = min((n for n in range(1, rows + 1) if rows % n == 0), key=lambda n: abs(n - batch))
    return ("batch_size",), fault, f"take {nearest}, or other rows", ("train_rows", "data.train")


def _check_shared(config: dict, at: tuple, engine: str) -> None:
    """Sections that all trainings share."""
    if config["lora"]["dropout"]:
        fault = f"is {config['lora']['dropout']:g}, and the engine {engine} has none"
        raise ConfigFaultError(("lora", "dropout"), fault, "set it to 0, or leave engine out", (at,))
    if config["tracking"]:
        fault = f"the engine {engine} reports to no tracker"
        raise ConfigFaultError(("tracking",), fault, "leave it out, or leave engine out", (at,))
    if engine == "openrlhf":
        _check_openrlhf(config, at)
    if config["launch"]["strategy"] == "deepspeed_zero3" and engine == "verl":
        fault = "verl shards by FSDP"
        raise ConfigFaultError(("launch", "strategy"), fault, "take fsdp, or leave engine out", (at,))


def _check_openrlhf(config: dict, at: tuple) -> None:
    """What OpenRLHF alone cannot do."""
    dtype, strategy = config["model"]["dtype"], config["launch"]["strategy"]
    if dtype == "float16":
        fault = "is float16, and the engine openrlhf computes in bfloat16 or float32"
        raise ConfigFaultError(("model", "dtype"), fault, "set auto, or leave engine out", (at,))
    if strategy != "ddp":
        fault = f"is {strategy}, and the engine openrlhf shards its optimizer alone"
        raise ConfigFaultError(("launch", "strategy"), fault, "take ddp, or leave engine out", (at,))


def check_installed(config: dict) -> None:
    """Raise UserError for the first engine that a checked config names and that is not installed."""
    if (engine := config["evaluation"]["engine"]) in ENVIRONMENTS:
        ENVIRONMENTS[engine].check("evaluation.engine")
    for name, condition in config["conditions"].items():
        if (engine := engine_of(condition)) in ENVIRONMENTS:
            ENVIRONMENTS[engine].check(f"conditions.{name}.engine")
        settings = {**config.get(condition.get("method"), {}), **condition.get("with", {})}
        if settings.get("use_vllm") and importlib.util.find_spec("vllm") is None:
            fault = "generates with vLLM in the training's own process, and it is not installed there"
            remedy = "run in an environment made from envs/vllm.txt, or set use_vllm: false"
            raise SettingError(".".join(place_of(config, name, "use_vllm")), fault, remedy, beside=())
