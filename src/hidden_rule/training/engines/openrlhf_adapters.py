"""Adapters around a training by OpenRLHF, which knows no start from an adapter.

A start's adapter is added into the weights of the base; a new adapter is trained on that; and both together are one
adapter of the base again, exactly: B₁A₁ + B₂A₂ = [B₁ B₂][A₁; A₂]. Its rank is the sum of theirs, and so is its alpha,
which keeps the scale alpha / r where both have the same.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from hidden_rule.core.files import read_json, write_text
from hidden_rule.models.adapters import ADAPTER
from hidden_rule.models.merging import write_merged

RANKS = {"lora_A": 0, "lora_B": 1}  # the dimension of a weight that is the adapter's rank


def new_weights(like: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """A new adapter's weights of the shapes of another's: A as PEFT draws it, B zero."""
    generator, made = torch.Generator().manual_seed(seed), {}
    for name in sorted(like):
        made[name] = torch.zeros_like(like[name], dtype=torch.float32)
        if "lora_A" in name:
            bound = 1 / math.sqrt(made[name].shape[1])  # Kaiming's uniform distribution with a = √5, of nn.Linear
            made[name].uniform_(-bound, bound, generator=generator)
    return made


def write_new_start(start: Path, seed: int, folder: Path) -> None:
    """Write the new adapter that is trained on a start's, in that one's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(new_weights(load_file(start / ADAPTER[0]), seed), folder / ADAPTER[0])
    write_text((start / ADAPTER[1]).read_text(encoding="utf-8"), folder / ADAPTER[1])


def joined_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the adapter that does what two do together, float32; they are of the same layers."""
    if first.keys() != second.keys():
        raise ValueError(f"adapters of other layers: {sorted(first.keys() ^ second.keys())[:3]}")
    joined = {}
    for name, weight in first.items():
        (dim,) = (dim for part, dim in RANKS.items() if part in name)
        joined[name] = torch.cat([weight.float(), second[name].float()], dim=dim).contiguous()
    return joined


def join_adapters(first: Path, second: Path, folder: Path) -> None:
    """Write the adapter of two adapters' folders together; both have the scale alpha / r."""
    config, other = read_json(first / ADAPTER[1]), read_json(second / ADAPTER[1])
    if config["lora_alpha"] * other["r"] != other["lora_alpha"] * config["r"]:
        raise ValueError("adapters of different scales cannot be joined")
    folder.mkdir(parents=True, exist_ok=True)
    weights = joined_weights(load_file(first / ADAPTER[0]), load_file(second / ADAPTER[0]))
    save_file(weights, folder / ADAPTER[0], metadata={"format": "pt"})
    for key in ("r", "lora_alpha"):
        config[key] += other[key]
    write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", folder / ADAPTER[1])


def write_merged_start(model: Path, start: Path, folder: Path) -> None:
    """Write a model's folder with the start's adapter in its weights, float32, and the model's other files."""
    write_merged(model, start, "float32", folder)
    weights = {".safetensors", ".bin", ".gguf", ".pt"}
    for path in model.iterdir():
        if path.suffix not in weights and not path.name.endswith(".index.json") and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())
