"""An adapter added into the weights of its base, for programs that compute with plain weights.

    W' = W + scale · B A, in float32, rounded once to the type of W

In float32 the merged model computes what base and adapter do, up to the order of sums. In bfloat16 the rounding of W'
takes part of the adapter away: a weight has 8 significant bits, and B A may be smaller than the last of them.
"""

from pathlib import Path

import torch
from peft.tuners.lora import LoraLayer

from hidden_rule.core.errors import SettingError
from hidden_rule.models.adapters import load_adapter
from hidden_rule.models.architecture import quantization
from hidden_rule.models.network import load_network

COPIED = ("config.json", "generation_config.json")  # as the base has them: how its weights are computed with


@torch.no_grad()
def merge_adapter(network, adapter):
    """`network` with the adapter of a folder in its weights; raises UserError if the adapter is damaged."""
    model = load_adapter(network, adapter, trainable=False)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            weight = layer.get_base_layer().weight
            weight.copy_(weight.float() + layer.get_delta_weight("default").float())
    return model.unload()


def write_merged(base, adapter, dtype: str, folder) -> None:
    """Write a model folder: the weights of the model folder `base` in `dtype` with those of the adapter added.

    On the CPU, which has to hold the model once. Raises SettingError where the base's weights are quantized.
    """
    base, folder = Path(base), Path(folder)
    if method := quantization(base):
        fault = f"vLLM is given the adapter merged into the weights, and the model's are quantized by {method}"
        raise SettingError("evaluation.engine", fault, "set engine: transformers, or take weights as they were trained")
    network, _ = load_network(base, dtype, torch.device("cpu"))
    merge_adapter(network, adapter).save_pretrained(folder)
    for name in COPIED:
        if (base / name).is_file():
            (folder / name).write_bytes((base / name).read_bytes())
