"""LoRA adapters: a new one on a base model, one read from a folder, one written to it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from hidden_rule.core.errors import SettingError, UserError
from hidden_rule.core.files import move_whole, read_json, scratch_folder, write_text
from hidden_rule.core.seals import seal_holds, seal_safetensors
from hidden_rule.kernels.lora import fuse_lora
from hidden_rule.models.files import check_safetensors
from hidden_rule.models.finite import NotFiniteError, dtype_of, not_finite_weight
from hidden_rule.models.targets import find_targets
from hidden_rule.models.untrusted import check_adapter_config

ADAPTER = ("adapter_model.safetensors", "adapter_config.json")  # the files of one
AGAIN = "delete it and run again to rebuild it"
CARD = "README.md"  # which PEFT writes too


@dataclass(frozen=True)
class AdapterBase:
    """The model that an adapter is for: a name that can be resolved, and the tokenizer as prompts were made with it."""

    name: str  # the id on the Hub, or the folder with the files, so written that nobody takes it for an id
    revision: str | None = None  # of the Hub's
    tokenizer: Any = None  # None: none is written beside the adapter


def add_adapter(network, lora: dict, stock: bool = False) -> PeftModel:
    """`network` with a new LoRA adapter; its weights are float32 whatever the base's type, as PEFT's default is.

    `stock`: its layers are computed by PEFT, not by our kernel: for comparison. Raises SettingError if one of
    `target_modules` names no layer that can be adapted, or none within `last_layers`.
    """
    targets = find_targets(
        network, lora["target_modules"], lora.get("last_layers", 0)
    )  # older results have no such key
    try:
        model = get_peft_model(
            network,
            LoraConfig(
                r=lora["r"],
                lora_alpha=lora["alpha"],
                lora_dropout=lora["dropout"],
                target_modules=list(lora["target_modules"] if targets.everywhere else targets.adapted),
                exclude_modules=targets.outside,
                fan_in_fan_out=targets.conv1d,
                task_type="CAUSAL_LM",
            ),
        )
    except (ValueError, NotImplementedError, ImportError) as error:
        reason = str(error).strip().splitlines()[0].rpartition("] ")[2]  # PEFT puts its own name before
        raise SettingError("lora.target_modules", reason, "name linear layers of the model") from error
    if not stock:
        fuse_lora(model)
    return model


def check_adapter(folder) -> None:
    """Raise UserError if the adapter of a folder is missing, damaged, altered or not finite."""
    weights, config = (Path(folder) / name for name in ADAPTER)
    check_adapter_config(config)
    check_safetensors(weights)
    if not seal_holds(weights):
        raise UserError(weights, None, "was altered since it was written", AGAIN)
    if found := not_finite_weight(weights):
        raise UserError(weights, found[0], f"holds {found[1]}, which is not finite", AGAIN)


def load_adapter(network, folder, trainable: bool) -> PeftModel:
    """`network` with the adapter of `folder`; raises UserError if it is damaged."""
    check_adapter(folder)
    model = PeftModel.from_pretrained(network, folder, is_trainable=trainable)
    # what a checkpoint compares its vocabulary with: the model as it lies here, not one of that name on the Hub
    model.peft_config["default"].base_model_name_or_path = network.name_or_path
    fuse_lora(model)
    return model


def load_adapters(network, folders: dict[str, Path]) -> PeftModel:
    """`network` once with the adapters of several folders, by name, none of them trainable.

    `set_adapter(name)` of the result makes one the policy, `disable_adapter()` none. Raises UserError if one is
    damaged.
    """
    for folder in folders.values():
        check_adapter(folder)
    (first, folder), *others = folders.items()
    model = PeftModel.from_pretrained(network, folder, adapter_name=first, is_trainable=False)
    for name, folder in others:
        model.load_adapter(folder, adapter_name=name, is_trainable=False)
    fuse_lora(model)
    return model


def save_adapter(model: PeftModel, folder, base: AdapterBase | str, state: dict | None = None) -> None:
    """Write the adapter: `adapter_model.safetensors`, `adapter_config.json`, and the base's tokenizer where it has one.

    Plain PEFT loads it. `base` is what the configuration names; `state` are the model's weights where it does not hold
    them itself. The bytes repeat. Raises NotFiniteError, and writes nothing, if a weight is not finite.
    """
    folder, base = Path(folder), AdapterBase(base) if isinstance(base, str) else base
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = base.name, base.revision
    with scratch_folder(folder) as scratch:
        # embeddings are not trained; looking whether they might have been would ask the Hub
        model.save_pretrained(scratch, selected_adapters=["default"], save_embedding_layers=False, state_dict=state)
        if found := not_finite_weight(scratch / ADAPTER[0]):
            raise NotFiniteError("a weight of the adapter", found[1], dtype_of(model))
        seal_safetensors(scratch / ADAPTER[0])
        sort_sets(scratch / ADAPTER[1], config)
        (scratch / CARD).unlink(missing_ok=True)
        if base.tokenizer is not None:
            base.tokenizer.save_pretrained(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(scratch.iterdir()):
            move_whole(path, folder / path.name)


def sort_sets(path, config) -> None:
    """Put the sets of a PEFT configuration, which its file lists in random order, in alphabetical order."""
    values = read_json(path)
    for name, value in vars(config).items():
        if isinstance(value, set):
            values[name] = sorted(value)
    write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", path)
