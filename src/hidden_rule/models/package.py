"""A model that a Python package carries as GGUF, made into a folder of safetensors.

What is made depends on this module and on the package's version alone: trainings follow it by the hash of this code
(`base_content` in workflow/rules/common.smk).
"""

import importlib.metadata
import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from hidden_rule.core.errors import SettingError, UserError
from hidden_rule.kernels.compat_transformers import gguf_read_once


def prepare_from_package(model: dict, folder: Path) -> str:
    """Write the model that a Python package carries as GGUF as safetensors into `folder`; returns its licence."""
    package, _, version = model["revision"].partition("==")
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module)  # not imported: its own dependencies are not needed
    if spec is None or not spec.submodule_search_locations or importlib.metadata.version(package) != version:
        raise SettingError("model.revision", f"{package} {version} is not installed", "run make setup")
    source = Path(spec.submodule_search_locations[0])
    found = sorted(source.glob(f"{model['id']}*.gguf"))
    if len(found) != 1:
        raise SettingError("model.id", f"{package} has no model {model['id']}", "name the one it carries")
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
