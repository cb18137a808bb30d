"""A prepared base model as a network and a tokenizer."""

import torch
from transformers import AutoTokenizer

from hidden_rule.core.errors import SettingError, UserError
from hidden_rule.core.files import read_json
from hidden_rule.kernels.install import install_kernels
from hidden_rule.models.adaptation import adapt
from hidden_rule.models.adapters import load_adapter
from hidden_rule.models.base import BaseModel
from hidden_rule.models.chat_template import check_tokenizer
from hidden_rule.models.files import model_folder
from hidden_rule.models.finite import check_next_tokens
from hidden_rule.models.generation import make_neutral
from hidden_rule.models.network import KERNELS, load_network
from hidden_rule.models.template_syntax import one_line
from hidden_rule.models.templates import OWN


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
    network, _ = load_network(folder, dtype, device)
    make_neutral(network)
    if not stock:
        install_kernels(network, device, manifest.get("inspection", {}).get("facts", {}).get(KERNELS))
    check_next_tokens(network)
    return network


def load_tokenizer(manifest_path, template_kwargs: dict | None = None):
    """The tokenizer of a manifest's model, with a padding token and its chat template as the pipeline uses it.

    `template_kwargs`: `model.chat_template_kwargs`, which become defaults of the template's keys. Raises SettingError
    if tokenizer or template cannot be used.
    """
    manifest = read_json(manifest_path)
    tokenizer = read_tokenizer(model_folder(manifest, manifest_path))
    check_tokenizer(tokenizer)
    adapted = adapt(tokenizer, template_kwargs or {})
    if tokenizer.chat_template != adapted.used:
        setattr(tokenizer, OWN, adapted.own)
        tokenizer.chat_template = adapted.used
    return tokenizer


def read_tokenizer(folder):
    """The tokenizer of a model's folder as it is; raises SettingError if it cannot be loaded."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # files of any content, read by code that reports it in many ways
        fault = f"the model's tokenizer cannot be loaded ({one_line(error)})"
        raise SettingError("model.id", fault, tokenizer_remedy(str(error))) from error


def tokenizer_remedy(reason: str) -> str:
    """What helps where a tokenizer cannot be loaded."""
    if "trust_remote_code" in reason or "custom code" in reason:
        return "take a model whose tokenizer is part of transformers: no code of a model's own is run"
    for library in ("sentencepiece", "tiktoken", "mistral_common", "mistral-common"):
        if library in reason.lower():
            return f"take a folder that holds tokenizer.json, or install {library.replace('_', '-')}"
    return "fetch or copy the model's files again, tokenizer.json among them"


def load_policy(base: BaseModel, device: torch.device, adapter):
    """A causal model to ask for decisions, with the adapter of folder `adapter`, or None for the base model.

    The adapter is not merged: in bfloat16 that would round its part away.
    """
    network = load_model(base.manifest, base.dtype, device)
    return load_adapter(network, adapter, trainable=False).get_base_model().eval() if adapter else network
