"""What is used of PEFT's LoRA layers beyond its documented interface; written for 0.21.

- `peft.tuners.lora.Linear` and its attributes `lora_A`, `lora_B`, `scaling`, `lora_dropout`, `lora_variant`,
  `fan_in_fan_out`, `merged`, `disable_adapters`, `active_adapters`, `base_layer`: `kernels/lora.py` computes the layer
  itself. To be removed, with `kernels/lora.py`, when PEFT computes its products in the base model's type.
"""

import torch

from hidden_rule.core.versions import check_version

check_version("peft")

from peft.tuners.lora import Linear as LoraLinear  # noqa: E402 - another version may not have it


def only_adapter(layer: LoraLinear) -> str | None:
    """The name of the one adapter that a layer adds to its base; None where it adds none, several or a merged one."""
    active = layer.active_adapters
    one = not layer.disable_adapters and not layer.merged and len(active) == 1 and active[0] in layer.lora_A
    return active[0] if one else None


def is_plain(layer) -> bool:
    """Whether a layer is LoRA's over a frozen `torch.nn.Linear`, without dropout, biases of its own or a variant."""
    if type(layer) is not LoraLinear or type(layer.base_layer) is not torch.nn.Linear:
        return False
    trained = any(p.requires_grad for p in layer.base_layer.parameters())
    drops = any(not isinstance(drop, torch.nn.Identity) for drop in layer.lora_dropout.values())
    biased = any(b.bias is not None for b in layer.lora_B.values())
    return not (trained or drops or biased or layer.lora_variant or layer.fan_in_fan_out)
