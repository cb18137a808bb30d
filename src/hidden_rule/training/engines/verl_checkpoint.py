"""A checkpoint of verl's FSDP as an adapter, at its own precision (`verl.model_merger` casts it to bfloat16).

A checkpoint holds each rank's part of every weight in `model_world_size_<n>_rank_<i>.pt`, and their number in
`fsdp_config.json`. They are read with torch's `weights_only`: tensors, and the few classes of distributed ones, which
torch allows for itself once they are imported; nothing else that a file could name is made.
"""

from pathlib import Path

import torch
import torch.distributed.tensor  # allows its classes where weights alone are loaded
from safetensors import safe_open

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json

BASE, LORA = "base_model.model.", "lora_"


def read_checkpoint(folder) -> dict[str, torch.Tensor]:
    """The whole weights of a checkpoint's `actor` folder by name."""
    folder = Path(folder)
    n = read_json(folder / "fsdp_config.json")["world_size"]
    paths = [folder / f"model_world_size_{n}_rank_{i}.pt" for i in range(n)]
    for path in paths:
        if not path.is_file():
            raise UserError(path, None, "is missing from verl's checkpoint", "delete its folder and train again")
    shards = [torch.load(path, weights_only=True, map_location="cpu") for path in paths]
    return {name: whole([shard[name] for shard in shards]) for name in shards[0]}


def whole(parts: list) -> torch.Tensor:
    """A weight from each rank's part; parts of distributed tensors are put together along the axis they were cut."""
    first = parts[0]
    if not hasattr(first, "placements"):
        return first.contiguous()
    place, local = first.placements[-1], [part.to_local() for part in parts]
    return (torch.cat(local, dim=place.dim) if place.is_shard() else local[0]).contiguous()


def adapter_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The adapter's weights by PEFT's names."""
    return {name.replace(".default.weight", ".weight"): weights[name] for name in weights if LORA in name}


def moved_base_weight(weights: dict[str, torch.Tensor], model) -> str | None:
    """The name of a weight of the base model that differs from the files in folder `model`, or None.

    Of the weights that a checkpoint holds; one that is tied to another has a single name there.
    """
    trained = {plain_name(name): weight for name, weight in weights.items() if LORA not in name}
    for path in sorted(Path(model).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in set(file.keys()) & set(trained):
                if not torch.equal(trained[name], file.get_tensor(name).to(trained[name].dtype)):
                    return name
    return None


def plain_name(name: str) -> str:
    """The base model's name of a weight that PEFT has wrapped."""
    return name.removeprefix(BASE).replace(".base_layer.", ".")
