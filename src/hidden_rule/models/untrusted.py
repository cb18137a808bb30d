"""What the folder of a model or of an adapter may not do, whoever made it: lead out of itself, or name code.

Weights are safetensors, no code of a model's own is run, and chat templates are rendered in a sandbox (`prepare.py`,
`architecture.py`, `templates.py`). Here is what transformers and PEFT would follow beside that.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from peft import LoraConfig

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json
from hidden_rule.core.schemas import quoted

COPY = "copy the file into the folder, if you know it"
NAME = re.compile(r"[\w.-]+")
BESIDE_BODY = re.compile(r"\(\?![\w.\\-]*\\\.\)\.\*")  # layers outside of the language model, as targets.py writes it
FREE = {  # keys of an adapter's configuration that may have any value: PEFT computes with them, or passes over them
    *("alpha_pattern", "rank_pattern", "base_model_name_or_path", "revision", "inference_mode", "peft_version"),
    *("r", "lora_alpha", "lora_dropout", "fan_in_fan_out", "use_rslora", "task_type"),
}
OWN_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def check_links(folder, paths: Iterable[Path]) -> None:
    """Raise UserError for a file of a model's folder that is a link out of it.

    Texts of a model's folder are copied beside each adapter: a link to another file would publish that file with it.
    Links within the folder are followed, those of the Hub's cache to its `blobs`, and those of weights, which hold
    nothing but numbers.
    """
    home = Path(folder).resolve()
    homes = [home, *([home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [])]
    for path in paths:
        target = path.resolve()
        if path.suffix != ".safetensors" and not any(target.is_relative_to(place) for place in homes):
            raise UserError(path, None, f"is a link to {target}, outside the model's folder", COPY)


def check_implementations(path, config: dict) -> None:
    """Raise UserError for a configuration that names code on the Hub by which it wants to be computed."""
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for key in (name for own in OWN_IMPLEMENTATIONS for name in (own, f"_{own}", f"_{own}_internal")):
        for value in [part[key] for part in parts if key in part]:
            if "/" in str(value):
                fault = f"names {str(value)[:60]}, code that is not transformers' own"
                raise UserError(path, key, fault, "take the key out: no such code is run")


def check_adapter_config(path) -> dict:
    """The configuration of a LoRA adapter, which adapts layers by their names and does nothing else.

    PEFT has keys for other methods, for further files and for modules to import: raises UserError where one is set.
    """
    config = read_json(path)
    remedy = "take an adapter that this pipeline trained, or plain LoRA on linear layers"
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(path, "peft_type", "is not LORA", remedy)
    names, beside = config.get("target_modules"), config.get("exclude_modules")
    if not isinstance(names, list) or not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        raise UserError(path, "target_modules", "is no list of layers' names", remedy)
    if beside is not None and not (isinstance(beside, str) and BESIDE_BODY.fullmatch(beside)):
        raise UserError(path, "exclude_modules", "is not as this pipeline writes it", remedy)
    defaults = LoraConfig().to_dict()
    for key in sorted(config.keys() - FREE - {"peft_type", "target_modules", "exclude_modules"}):
        if config[key] not in (None, False, {}, []) and config[key] != defaults.get(key):
            raise UserError(path, key, f"is {quoted(config[key])}", remedy)
    for key in ("alpha_pattern", "rank_pattern"):
        if not all(NAME.fullmatch(name) for name in config.get(key) or {}):
            raise UserError(path, key, "names layers by more than their names", remedy)
    return config
