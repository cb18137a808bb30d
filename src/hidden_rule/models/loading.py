"""A prepared base model as a network and a tokenizer."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json
from hidden_rule.kernels import attention
from hidden_rule.kernels.allocator import keep_freed_memory
from hidden_rule.kernels.mlp import fuse_mlps
from hidden_rule.kernels.norm import fuse_norms
from hidden_rule.models.adapters import load_adapter
from hidden_rule.models.base import BaseModel
from hidden_rule.models.files import model_folder
from hidden_rule.models.finite import check_next_tokens
from hidden_rule.models.hardware import compute_dtype


def load_model(manifest_path, dtype: str, device: torch.device, stock: bool = False):
    """The base model of a manifest, in evaluation mode on `device`; raises UserError if a file's size has changed.

    `stock`: as transformers makes it, without our kernels: for comparison.
    """
    manifest = read_json(manifest_path)
    folder = model_folder(manifest, manifest_path)
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise UserError(path, None, "is missing or was changed", f"delete {manifest_path} and run again")
    network = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=compute_dtype(dtype, device),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    network = network.to(device).eval()
    if not stock:
        install_kernels(network, device)
    check_next_tokens(network)
    return network


def install_kernels(network, device: torch.device) -> None:
    """Let a causal model compute the same faster: attention that knows prefix trees, norms, MLPs, memory that is kept.

    And a head that is given contiguous rows: `generate` projects (B, 1, H), a slice of (B, T, H), and of strided rows
    PyTorch would copy the head's whole weight once a row.
    """
    network.set_attn_implementation(attention.GPU if device.type == "cuda" else attention.CPU)
    network.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: (inputs[0].contiguous(),))
    fuse_norms(network)
    fuse_mlps(network)
    if device.type == "cpu":
        keep_freed_memory()


def load_tokenizer(manifest_path):
    """The tokenizer of a manifest's model, with a padding token."""
    manifest = read_json(manifest_path)
    tokenizer = AutoTokenizer.from_pretrained(
        model_folder(manifest, manifest_path), trust_remote_code=False, local_files_only=True
    )
    if tokenizer.chat_template is None:
        raise UserError("config.yaml", "model.id", f"{manifest['id']} has no chat template", "use an instruct model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(base: BaseModel, device: torch.device, adapter):
    """A causal model to ask for decisions, with the adapter of folder `adapter`, or None for the base model.

    The adapter is not merged: in bfloat16 that would round its part away.
    """
    network = load_model(base.manifest, base.dtype, device)
    return load_adapter(network, adapter, trainable=False).get_base_model().eval() if adapter else network
