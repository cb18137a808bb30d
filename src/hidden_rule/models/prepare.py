"""Prepare a base model and record its files: safetensors only, no code of a model's own."""

import importlib.metadata
import importlib.util
import json
import re
from pathlib import Path

import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_entry, move_whole, read_json, scratch_folder, write_text
from hidden_rule.kernels.compat_transformers import gguf_read_once
from hidden_rule.models.files import AGAIN, LOADED, check_safetensors, model_folder


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


def prepare_from_package(model: dict, folder: Path) -> str:
    """Write the model that a Python package carries as GGUF as safetensors into `folder`; returns its licence."""
    package, version = model["revision"].split("==")
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module)  # not imported: its own dependencies are not needed
    if spec is None or not spec.submodule_search_locations or importlib.metadata.version(package) != version:
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
    """Prepare a base model and write its manifest: identity, licence, and the hash of each file.

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
