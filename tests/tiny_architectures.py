"""Tiny random models of many families, as folders with the embedded model's tokenizer."""

from dataclasses import dataclass, field
from pathlib import Path

VOCABULARY = 49152  # ids of the embedded model's tokenizer
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 2048}
LLAMA = {**GROUPED, "head_dim": 8}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {f"linear_{what}": n for what, n in {"num_key_heads": 2, "num_value_heads": 4, "key_head_dim": 8}.items()}
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
KINDS = ["sliding_attention", "full_attention"]


@dataclass(frozen=True)
class Architecture:
    """A family: its `model_type`, what its tiny configuration says, the layers to adapt, what is expected of it."""

    kind: str
    settings: dict
    targets: tuple[str, ...] = QKVO
    shares: bool = True  # whether rows share their common start
    text: dict = field(default_factory=dict)  # of a multimodal one's text tower


TRAINED = {
    "llama": Architecture("llama", LLAMA),
    "qwen3": Architecture("qwen3", LLAMA),
    "mistral, every layer's window shorter than a prompt": Architecture("mistral", {**LLAMA, "sliding_window": 32}),
    "phi3, fused projections": Architecture("phi3", {**GROUPED, "sliding_window": 64}, ("qkv_proj", "o_proj")),
    "gemma2, soft caps": Architecture("gemma2", {**LLAMA, "sliding_window": 16, "query_pre_attn_scalar": 8}),
    "gemma3 with a tower for images": Architecture("gemma3", {}, text={**LLAMA, "sliding_window": 16}),
    "gpt2, transposed layers": Architecture(
        "gpt2", {**COMMON, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}, ("c_attn", "c_proj")
    ),
    "gpt_neox, parallel blocks": Architecture(
        "gpt_neox", {**COMMON, "intermediate_size": 48, "max_position_embeddings": 1024}, ("query_key_value", "dense")
    ),
    "opt, positions from the mask": Architecture(
        "opt", {**COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 1024},
        ("q_proj", "v_proj", "out_proj"),
    ),
    "bloom, ALiBi": Architecture("bloom", {**COMMON, "n_layer": 2, "n_head": 4}, ("query_key_value",), shares=False),
    "falcon": Architecture("falcon", COMMON, ("query_key_value",), shares=False),
    "mixtral": Architecture("mixtral", {**GROUPED, "num_local_experts": 4, "output_router_logits": True}),
    "qwen3_moe": Architecture("qwen3_moe", {**LLAMA, **MOE}),
    "gpt_oss, attention sinks": Architecture(
        "gpt_oss", {**LLAMA, "num_local_experts": 4, "sliding_window": 16, "layer_types": KINDS}
    ),
    "cohere2": Architecture("cohere2", {**LLAMA, "logit_scale": 4.0, "sliding_window": 16, "layer_types": KINDS}),
    "granite, divided logits": Architecture("granite", {**GROUPED, "logits_scaling": 3.0, "embedding_multiplier": 2.0}),
    "qwen3_next, gated norms": Architecture(
        "qwen3_next", {**LLAMA, **MOE, **LINEAR, "linear_value_head_dim": 8, "shared_expert_intermediate_size": 16,
                       "layer_types": ["linear_attention", "full_attention"]},
        (*QKVO, "out_proj"), shares=False,
    ),
    "lfm2, short convolutions": Architecture(
        "lfm2", {**GROUPED, "layer_types": ["conv", "full_attention"], "block_ff_dim": 48},
        ("q_proj", "k_proj", "v_proj", "in_proj"), shares=False,
    ),
}  # fmt: skip


def make_network(architecture: Architecture):
    """A random network of a family, with weights large enough that a layer left out is seen."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    settings = dict(architecture.settings)
    if architecture.text:
        tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        settings |= {"text_config": architecture.text, "vision_config": {**tower, "image_size": 28, "patch_size": 14}}
        settings |= {"boi_token_index": 5, "eoi_token_index": 6, "image_token_index": 7, "mm_tokens_per_image": 4}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture.kind, **settings))
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.15)
    return network


def save_folder(architecture: Architecture, tokenizer, folder: Path) -> Path:
    """A folder with a random network of a family and a tokenizer."""
    make_network(architecture).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
