"""Merged weights as a GGUF file, for llama.cpp and what builds on it.

Only for a base that was itself read from a GGUF file, as the embedded one: of that file everything but the weights is
kept (tokenizer, special tokens, sizes), and each tensor is replaced by the merged one of the same name and shape. No
converter of other models is packaged for pip; llama.cpp's own `convert_hf_to_gguf.py` takes the folder `merged/`.

Departures from a copy: the chat template is the one that prompts were made with, and weights are bfloat16, those of one
dimension float32, as llama.cpp computes norms.
"""

import importlib.util
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from safetensors import safe_open

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json

LLAMA = "llama"
OWN = ("GGUF.", gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE, gguf.Keys.General.QUANTIZATION_VERSION)
PERMUTED = {".attn_q.weight": "num_attention_heads", ".attn_k.weight": "num_key_value_heads"}


def gguf_source(manifest: dict) -> Path:
    """The GGUF file that a base was read from; raises UserError for a base that was not."""
    if manifest["source"] != "package":
        fault = f"no converter of {manifest['id']} is packaged: only a base that came as GGUF is written as GGUF"
        raise UserError("GGUF", None, fault, "leave GGUF out, and give merged/ to llama.cpp's convert_hf_to_gguf.py")
    package = manifest["revision"].partition("==")[0]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = (spec.submodule_search_locations if spec else None) or []
    found = [path for folder in folders for path in sorted(Path(folder).glob(f"{manifest['id']}*.gguf"))]
    if len(found) != 1:
        raise UserError("GGUF", None, f"{package} with {manifest['id']} is not installed", "run make setup")
    return found[0]


def write_gguf(source: Path, merged: Path, chat_template: str, path: Path) -> None:
    """Write the weights of the folder `merged` with the metadata of the GGUF file `source`.

    Raises UserError where the two do not belong together: another architecture, other tensors or shapes.
    """
    reader = GGUFReader(source)
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    config = read_json(merged / "config.json")
    if architecture != LLAMA or config.get("model_type") != LLAMA:
        raise UserError("GGUF", None, f"weights of {architecture} are not written as GGUF", "leave GGUF out")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    copy_metadata(reader, writer, chat_template)
    shapes = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    written = {}
    for file in sorted(merged.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for own in list(tensors.keys()):
                name = names.get_name(own, try_suffixes=(".weight", ".bias"))
                weight = tensors.get_tensor(own)
                if name is None or shapes.get(name) != tuple(weight.shape):
                    raise UserError(source, own, "is not among the tensors of that file", "leave GGUF out")
                written[name] = add_tensor(writer, name, weight, config)
    if missing := sorted(shapes.keys() - written.keys()):
        raise UserError(merged, None, f"lacks {missing[0]}", "leave GGUF out")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy_metadata(reader: GGUFReader, writer: GGUFWriter, chat_template: str) -> None:
    """Metadata of a file but what is about its weights; with another chat template."""
    for field in reader.fields.values():
        if field.name.startswith(OWN) or field.name == gguf.Keys.Tokenizer.CHAT_TEMPLATE:
            continue
        kind = field.types[0]
        part = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=part)
    writer.add_chat_template(chat_template)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def add_tensor(writer: GGUFWriter, name: str, weight: torch.Tensor, config: dict) -> str:
    """Add a weight under its GGUF name; queries and keys in the order that llama.cpp rotates them in.

    transformers pairs a head's dimension i with i + d/2, llama.cpp 2i with 2i + 1.
    """
    values = weight.float().numpy()
    heads = next((config[key] for end, key in PERMUTED.items() if name.endswith(end)), None)
    if heads:
        values = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        values = np.ascontiguousarray(values.swapaxes(1, 2)).reshape(weight.shape)
    if values.ndim == 1:
        writer.add_tensor(name, values)
    else:
        kind = GGMLQuantizationType.BF16
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    return name
