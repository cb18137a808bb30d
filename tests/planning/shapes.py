"""Model shapes and configs that tests of planning share."""

import json
from pathlib import Path

from conftest import ROOT
from hidden_rule.experiment.config import load_config
from hidden_rule.planning.weights import Shape, Tensor, shape_of


def qwen3_14b() -> Shape:
    """The shape of Qwen3-14B, by the config in results/published/gpu.json, in bfloat16."""
    of = json.loads((ROOT / "results/published/gpu.json").read_text(encoding="utf-8"))["config"]
    width, wide, head = of["hidden_size"], of["intermediate_size"], of["head_dim"]
    queries, keys = of["num_attention_heads"] * head, of["num_key_value_heads"] * head
    layer = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "mlp.gate_proj": (wide, width),
        "mlp.up_proj": (wide, width),
        "mlp.down_proj": (width, wide),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }
    tensors = {
        f"model.layers.{i}.{n}.weight": Tensor(s, 2) for i in range(of["num_hidden_layers"]) for n, s in layer.items()
    }
    ends = {
        "model.embed_tokens": (of["vocab_size"], width),
        "lm_head": (of["vocab_size"], width),
        "model.norm": (width,),
    }
    return shape_of(tensors | {f"{name}.weight": Tensor(shape, 2) for name, shape in ends.items()}, "a test")


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int]]], itemsizes: dict[str, int]) -> None:
    """A safetensors file of zeros: of each tensor its type and shape."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in tensors.items():
        size = itemsizes[dtype]
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def config_of(tmp_path, text: str = "", *files: str) -> dict:
    """The config of the default experiment with overlays of the repository, and one of this text."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(text or "experiment: planned\n", encoding="utf-8")
    return load_config([ROOT / "config.yaml", *(ROOT / file for file in files), overlay])
