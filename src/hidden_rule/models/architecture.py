"""What kind of model a folder holds, from its files alone: refused here, with one line, is what cannot be trained.

No weight is read.
"""

import importlib.util
import re
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json
from hidden_rule.kernels.compat_transformers import causal_class, is_model_type
from hidden_rule.models.files import AGAIN
from hidden_rule.models.untrusted import check_implementations

LIBRARIES = {  # quantization method: the module that computes with it; None: transformers itself
    **dict.fromkeys(("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"), "bitsandbytes"),
    **dict.fromkeys(("gptq", "awq"), "gptqmodel"),
    "aqlm": "aqlm",
    "auto-round": "auto_round",
    "compressed-tensors": "compressed_tensors",
    "eetq": "kernels",
    "fbgemm_fp8": "fbgemm_gpu",
    "fouroversix": "fouroversix",
    "fp_quant": "fp_quant",
    "higgs": "flute",
    "hqq": "hqq",
    "nvfp4": "kernels",
    "quanto": "optimum.quanto",
    "quark": "quark",
    "sinq": "sinq",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "vptq": "vptq",
    **dict.fromkeys(("fp8", "mxfp8", "mxfp4", "bitnet"), None),
}
PACKAGES = {"optimum.quanto": "optimum-quanto", "flute": "flute-kernel", "quark": "amd-quark"}  # that bring a module
CAUSAL = re.compile(r"(ForCausalLM|LMHeadModel|LMHead|ForConditionalGeneration|ForImageTextToText)$", re.IGNORECASE)
KINDS = (  # end of an architecture's name, and what the model is
    ("ForMaskedLM", "a masked language model"),
    ("ForPreTraining", "a model with heads for pre-training"),
    ("ForSequenceClassification", "a classifier or reward model"),
    ("RewardModel", "a reward model"),
    ("ForTokenClassification", "a token classifier"),
    ("ForQuestionAnswering", "a model that marks answers in a text"),
    ("ForMultipleChoice", "a classifier of choices"),
    ("ForCTC", "a speech model"),
    ("ForSpeechSeq2Seq", "a speech model"),
    ("ForAudioClassification", "a model of sounds"),
    ("ForImageClassification", "a model of images"),
    ("Model", "a network without an output layer, as embedding models are"),
)
REMEDY = "use a causal language model, such as an instruct model"


def read_config(folder) -> dict:
    """The configuration of a model folder, a mapping; raises UserError if it is none."""
    path = Path(folder) / "config.json"
    config = read_json(path, AGAIN)
    if not isinstance(config, dict):
        raise UserError(path, None, "is no mapping of keys to values", AGAIN)
    return config


def check_adapter(folder) -> None:
    """Raise UserError if a folder holds an adapter beside a model: transformers would load it without a word."""
    path = Path(folder) / "adapter_config.json"
    if path.exists() and (Path(folder) / "config.json").exists():
        fault = "is an adapter's, beside a base model: evaluations without training would carry it, trainings would not"
        raise UserError(path, None, fault, "merge the adapter into the weights, or move it to a folder of its own")


def check_custom_code(path: Path, config: dict) -> None:
    """Raise UserError for a model that transformers computes by code in its folder alone."""
    kind = config.get("model_type")
    if isinstance(kind, str) and is_model_type(kind):
        return
    if config.get("auto_map"):
        fault = f"the model is computed by code of its own (auto_map), and model_type {kind!r} is none of transformers'"
        raise UserError(path, "auto_map", fault, "use a model that transformers computes itself: no such code is run")
    if kind is None:
        raise UserError(path, "model_type", "is missing", "save the model again with save_pretrained")
    raise UserError(path, "model_type", f"{kind!r} is none that transformers knows", REMEDY)


def check_kind(path: Path, config: dict) -> None:
    """Raise UserError for what is no causal language model, naming what it is."""
    text = config.get("text_config")
    if config.get("is_encoder_decoder") or (isinstance(text, dict) and text.get("is_encoder_decoder")):
        fault = f"{config.get('model_type')} is an encoder-decoder model"
        raise UserError(path, "is_encoder_decoder", fault, REMEDY)
    names = config.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(path, "architectures", "is no list of names", "save the model again with save_pretrained")
    if not names or any(CAUSAL.search(name) for name in names):
        return
    kind = next((kind for end, kind in KINDS if names[0].endswith(end)), "not a causal language model")
    raise UserError(path, "architectures", f"{names[0]} is {kind}", REMEDY)


def check_class(path: Path, config: dict) -> None:
    """Raise UserError where transformers has no causal language model of a type, or another one than is named."""
    kind, names = config["model_type"], config.get("architectures") or []
    own = causal_class(kind)
    if own is None:
        named = names[0] if names else f"model_type {kind!r}"
        raise UserError(path, "model_type", f"{named} is not among the causal language models of transformers", REMEDY)
    known, named = (CAUSAL.sub("", name).lower() for name in (own, names[0] if names else own))
    if config.get("auto_map") and known not in named and named not in known:
        fault = f"{names[0]} is code of the model's own, where transformers has {own}"
        raise UserError(path, "architectures", fault, "use a model that transformers computes itself")


def quantization(folder) -> str | None:
    """How the weights of a model folder are quantized, or None; raises UserError if that cannot be computed here."""
    path = Path(folder) / "config.json"
    config = read_config(folder)
    settings = config.get("quantization_config")
    if settings is None and isinstance(config.get("text_config"), dict):
        settings = config["text_config"].get("quantization_config")
    if settings is None:
        return None
    remedy = "use the model's weights in bfloat16, float16 or float32"
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if isinstance(settings, dict) and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        method = "bitsandbytes"
    if not isinstance(method, str) or method not in LIBRARIES:
        raise UserError(path, "quantization_config", f"quantization by {method!r} is not known", remedy)
    module = LIBRARIES[method]
    if module is not None and not is_installed(module):
        package = PACKAGES.get(module, module.replace("_", "-"))
        fault = f"the weights are quantized by {method}, and {package} is not installed"
        raise UserError(path, "quantization_config", fault, f"pip install {package}, or {remedy}")
    return method


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def check_architecture(folder) -> dict:
    """The configuration of a folder with a model that can be trained, as far as its files tell; raises UserError."""
    path = Path(folder) / "config.json"
    config = read_config(folder)
    check_adapter(folder)
    check_kind(path, config)
    check_custom_code(path, config)
    check_implementations(path, config)
    check_class(path, config)
    quantization(folder)
    return config
