"""Where a base model comes from and how it is loaded: safetensors only, no code of a model's own."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
from pathlib import Path

import gguf
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from hidden_rule.core import processes
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import (
    UNSEALED,
    file_entry,
    move_whole,
    read_json,
    scratch_folder,
    seal,
    seal_holds,
    write_text,
)
from hidden_rule.kernels import attention
from hidden_rule.kernels.allocator import keep_freed_memory
from hidden_rule.kernels.lora import fuse_lora
from hidden_rule.kernels.mlp import fuse_mlps
from hidden_rule.kernels.norm import fuse_norms

log = logging.getLogger(__name__)

LOADED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]  # and README.md, for the licence it declares
AGAIN = "fetch or copy the file again"
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")  # the files of one


def check_safetensors(path) -> None:
    """Raise UserError if a safetensors file is cut short or its header cannot be read.

    The format: 8 bytes, the header's length; the header, JSON with each tensor's byte range; the bytes.
    """
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(path, None, f"is not a safetensors file ({error})", AGAIN) from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise UserError(path, None, f"has {size:,} bytes where its header promises {expected:,}", AGAIN)


def seal_safetensors(path) -> None:
    """Seal a safetensors file, whose bytes repeat: the library itself writes several metadata in random order."""
    content = Path(path).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header.setdefault("__metadata__", {})["seal"] = UNSEALED
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    seal(path)


def licence_of(folder) -> str | None:
    """The licence that the model card (README.md) of a folder declares, or None."""
    card = Path(folder) / "README.md"
    if not card.exists():
        return None
    found = re.match(r"---\n(.*?)\n---\n", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    front_matter = yaml.safe_load(found[1]) if found else None
    return front_matter.get("license") if isinstance(front_matter, dict) else None


def list_files(folder) -> dict[str, dict]:
    """Bytes and SHA-256 of each file that loading a model reads; every safetensors and JSON file is checked."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(folder, None, "has no config.json", "name the folder of a model saved with save_pretrained")
    if not list(folder.glob("*.safetensors")):
        raise UserError(folder, None, "has no safetensors weights", "save the model again with save_pretrained")
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(read_json(index, AGAIN)["weight_map"].values())
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise UserError(folder, None, f"lacks {missing[0]}, which {index.name} names", "fetch or copy it again")
    files = {}
    for path in sorted({path for pattern in LOADED for path in folder.glob(pattern) if path.is_file()}):
        if path.suffix == ".safetensors":
            check_safetensors(path)
        elif path.suffix == ".json":
            read_json(path, AGAIN)
        if path.name != "manifest.json":
            files[path.name] = file_entry(path)
    return files


@contextlib.contextmanager
def gguf_read_once():
    """Within it a GGUF file is read once, where transformers does so for config, weights and tokenizer each.

    And the table of tensor names, which transformers builds anew for every module of the network.
    """
    plain = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in plain.items():
        setattr(gguf, name, functools.cache(function))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(gguf, name, function)


def prepare_from_package(model: dict, folder: Path) -> str:
    """Write the model that a Python package carries as GGUF as safetensors into `folder`; returns its licence."""
    package, version = model["revision"].split("==")
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module)  # not imported: its own dependencies are not needed
    if spec is None or importlib.metadata.version(package) != version:
        raise UserError("config.yaml", "model.revision", f"{package} {version} is not installed", "run make setup")
    source = Path(spec.submodule_search_locations[0])
    found = sorted(source.glob(f"{model['id']}*.gguf"))
    if len(found) != 1:
        raise UserError("config.yaml", "model.id", f"{package} has no model {model['id']}", "name the one it carries")
    try:
        with gguf_read_once():
            network = AutoModelForCausalLM.from_pretrained(
                source, gguf_file=found[0].name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
            )
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=found[0].name)
    except (ValueError, OSError, RuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(found[0].name, None, f"cannot be read ({reason})", f"reinstall {package}") from error
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return importlib.metadata.metadata(package)["License"]


def prepare_model(model: dict, manifest_path) -> None:
    """Make a base model ready to load and write its manifest: what it is, and the hash of each file.

    `model` is the configuration's. A package's model is written beside the manifest; a Hub model stays in the Hub's
    cache and a local one where it is. Raises UserError if something is missing, damaged or unsafe.
    """
    manifest_path = Path(manifest_path)
    folder = manifest_path.parent
    manifest = {key: model[key] for key in ("source", "id", "revision")}
    if model["source"] == "package":
        with scratch_folder(folder) as scratch:
            manifest["licence"] = prepare_from_package(model, scratch)
            manifest["files"] = list_files(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            for name in manifest["files"]:
                move_whole(scratch / name, folder / name)
    else:
        source = model_folder(manifest, manifest_path, fetch=True)
        manifest["licence"] = licence_of(source)
        manifest["files"] = list_files(source)
    write_text(json.dumps(manifest, indent=2) + "\n", manifest_path)


def model_folder(manifest: dict, manifest_path, fetch: bool = False) -> Path:
    """The folder with a model's files; only `fetch` may reach the network, and only for a Hub model."""
    if manifest["source"] == "package":
        return Path(manifest_path).parent
    if manifest["source"] == "path":
        return Path(manifest["id"])
    from huggingface_hub import snapshot_download  # not needed by the other sources

    try:
        return Path(
            snapshot_download(
                manifest["id"],
                revision=manifest["revision"],
                allow_patterns=[*LOADED, "README.md"],
                local_files_only=not fetch,
            )
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            "config.yaml",
            "model.id",
            f"{manifest['id']} at {manifest['revision']} cannot be fetched ({reason})",
            "check the name, the revision and the network, or fetch it beforehand with `hf download`",
        ) from error


def compute_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The type weights and activations have: `auto` is bfloat16 where the hardware computes in it, else float32."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def default_device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    return torch.device("cuda", processes.local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def device_name(device: torch.device) -> str:
    """How costs name a device: `cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def load_model(manifest_path, dtype: str, device: torch.device):
    """The base model of a manifest, in evaluation mode on `device`; raises UserError if a file's size has changed."""
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
    quicken(network, device)
    return network


def quicken(network, device: torch.device) -> None:
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


def add_adapter(network, lora: dict) -> PeftModel:
    """`network` with a new LoRA adapter; its weights are float32 whatever the base's type, as PEFT's default is."""
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


def load_policy(manifest_path, dtype: str, device: torch.device, adapter):
    """A manifest's causal model to ask for decisions, with the adapter of folder `adapter`, or None for the base model.

    The adapter is not merged: in bfloat16 that would round its part away.
    """
    network = load_model(manifest_path, dtype, device)
    return load_adapter(network, adapter, trainable=False).get_base_model().eval() if adapter else network


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
