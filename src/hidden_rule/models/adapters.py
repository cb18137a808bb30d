"""LoRA adapters: a new one on a base model, one read from a folder, one written to it."""

from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import move_whole, read_json, scratch_folder
from hidden_rule.core.seals import seal_holds, seal_safetensors
from hidden_rule.kernels.lora import fuse_lora
from hidden_rule.models.files import check_safetensors

ADAPTER = ("adapter_model.safetensors", "adapter_config.json")  # the files of one


def add_adapter(network, lora: dict, stock: bool = False) -> PeftModel:
    """`network` with a new LoRA adapter; its weights are float32 whatever the base's type, as PEFT's default is.

    `stock`: its layers are computed by PEFT, not by our kernel: for comparison. Raises UserError if `target_modules`
    name no layer that can be adapted.
    """
    try:
        model = get_peft_model(
            network,
            LoraConfig(
                r=lora["r"],
                lora_alpha=lora["alpha"],
                lora_dropout=lora["dropout"],
                target_modules=list(lora["target_modules"]),
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UserError("config.yaml", "lora.target_modules", reason, "name linear layers of the model") from error
    if not stock:
        fuse_lora(model)
    return model


def load_adapter(network, folder, trainable: bool) -> PeftModel:
    """`network` with the adapter of `folder`; raises UserError if it is damaged."""
    weights, config = (Path(folder) / name for name in ADAPTER)
    read_json(config)
    check_safetensors(weights)
    if not seal_holds(weights):
        raise UserError(weights, None, "was altered since it was written", "delete it and run again to rebuild it")
    model = PeftModel.from_pretrained(network, folder, is_trainable=trainable)
    fuse_lora(model)
    return model


def save_adapter(model: PeftModel, folder, base: str, state: dict | None = None) -> None:
    """Write the adapter as `adapter_model.safetensors` and `adapter_config.json`, which plain PEFT loads.

    `base` is the base model's id, which the configuration names instead of a folder of the machine's; `state` are the
    model's weights where it does not hold them itself.
    """
    folder = Path(folder)
    model.peft_config["default"].base_model_name_or_path = base
    with scratch_folder(folder) as scratch:
        # embeddings are not trained; looking whether they might have been would ask the Hub
        model.save_pretrained(scratch, selected_adapters=["default"], save_embedding_layers=False, state_dict=state)
        seal_safetensors(scratch / ADAPTER[0])
        folder.mkdir(parents=True, exist_ok=True)
        for name in ADAPTER:
            move_whole(scratch / name, folder / name)
