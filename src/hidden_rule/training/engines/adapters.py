"""An adapter that an engine trained, checked and written as every other: plain PEFT, float32.

Weights go by PEFT's names, `base_model.model.<layer>.lora_A.weight`.
"""

from pathlib import Path

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from hidden_rule.core.errors import UserError

WEIGHTS = "adapter_model.safetensors"


def start_weights(folder) -> dict[str, torch.Tensor]:
    """The weights of an adapter's folder."""
    return load_file(Path(folder) / WEIGHTS)


def check_trained(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], engine: str, place) -> None:
    """Raise UserError unless `after` has the weights of `before`, finite, and every one of them has moved.

    `place` names the engine's log or checkpoint. A step without any gradient moves nothing: an engine's optimizer, as
    TRL's, has no weight decay here.
    """
    if missing := sorted(before.keys() - after.keys()):
        raise UserError(place, missing[0], f"is no weight of {engine}'s adapter", "its log says what it trained")
    for name, weight in after.items():
        if name not in before or weight.shape != before[name].shape:
            fault = f"{engine} trained a weight that the adapter does not have, or has in another shape"
            raise UserError(place, name, fault, "its log says what it trained")
        if not torch.isfinite(weight).all():
            raise UserError(place, name, f"is not finite after training by {engine}", "lower the learning rate")
    still = [name for name, weight in after.items() if torch.equal(weight.float(), before[name].float())]
    if still and len(still) < len(after):
        fault = f"did not move in training by {engine}, while {len(after) - len(still)} other weights did"
        raise UserError(place, still[0], fault, "its log says what it trained")


def put_weights(model, weights: dict[str, torch.Tensor]) -> None:
    """Give a PEFT model the weights of an adapter, float32."""
    report = set_peft_model_state_dict(model, {name: weight.float() for name, weight in weights.items()})
    if report.unexpected_keys:
        raise ValueError(f"{report.unexpected_keys[:3]} are no weights of this adapter")
