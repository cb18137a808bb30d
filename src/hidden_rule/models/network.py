"""A model folder as a network, whole or refused with one line; and what an inspection of it finds."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hidden_rule.core import processes
from hidden_rule.core.errors import SettingError, UserError
from hidden_rule.core.files import read_json
from hidden_rule.kernels.frozen_layers import layers_of
from hidden_rule.kernels.install import Kernels, install_kernels
from hidden_rule.kernels.probe import probe_rows
from hidden_rule.kernels.shared_prefix import body, tail_states, token_logits
from hidden_rule.models.adapters import add_adapter
from hidden_rule.models.architecture import check_architecture, quantization
from hidden_rule.models.context import context_length
from hidden_rule.models.hardware import compute_dtype
from hidden_rule.models.inspected import Inspected
from hidden_rule.models.targets import Targets, find_targets, is_linear, matches

KERNELS = "kernels"  # the fact that `load_model` reads
SHOWN = 3  # names of tensors that an error lists
SAVED_WELL = "fetch or copy the model again, or save it with save_pretrained"


def first_line(error: BaseException) -> str:
    """What an error says, on one line, with its kind where it says too little."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    return f"{type(error).__name__}: {said}"[:300] if said else type(error).__name__


def some_of(names) -> str:
    """Names in order, the first few of them."""
    names = sorted(map(str, names))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_loaded(folder: Path, network, info: dict) -> None:
    """Raise UserError if weights of a network were not in its files, or those of its layers are not used.

    transformers draws what is missing at random. A bias, or a quantized weight's scale, of a layer that has none says
    that config.json is not these weights'.
    """
    if shapes := info["mismatched_keys"]:
        name, found, wanted = min(shapes, key=str)
        fault = f"{name} has the shape {tuple(found)} where config.json makes it {tuple(wanted)}"
        raise UserError(folder, None, fault, SAVED_WELL)
    if missing := info["missing_keys"]:
        fault = f"its files lack {len(missing)} of the network's tensors ({some_of(missing)})"
        raise UserError(folder, None, fault, SAVED_WELL)
    linear = {name for name, layer in network.named_modules() if is_linear(layer)}
    if unread := [name for name in info["unexpected_keys"] if name.rpartition(".")[0] in linear]:
        fault = f"{some_of(unread)} are not read by {type(network).__name__}, as config.json sets it up"
        raise UserError(folder, None, fault, "take the config.json that belongs to these weights")
    if info["error_msgs"]:
        raise UserError(folder, None, f"cannot be loaded ({info['error_msgs'][0].splitlines()[0]})", SAVED_WELL)


def goes_straight_to(device: torch.device) -> bool:
    """Whether weights are read tensor by tensor onto a device, so that main memory never holds all of them.

    Not where processes share them, each a part: accelerate places those. Quantized weights always do, since they cannot
    be moved or converted later.
    """
    return device.type != "cpu" and not processes.share_weights()


def load_network(folder, dtype: str, device: torch.device):
    """The network of a model folder on `device`, in evaluation mode, without our kernels, and transformers' report.

    Raises UserError for what is no causal language model, for a folder that lacks some of its weights, and for
    whatever else transformers cannot load.
    """
    folder = Path(folder)
    check_architecture(folder)
    quantized = quantization(folder)
    place = {"device_map": {"": device}} if quantized or goes_straight_to(device) else {}
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if config.is_encoder_decoder:
            fault = f"{config.model_type} is an encoder-decoder model"
            raise UserError(folder / "config.json", "model_type", fault, "use a causal language model")
        for part in (config, config.get_text_config()):  # what a forward pass returns is ours to say
            part.return_dict, part.output_hidden_states, part.output_attentions = True, False, False
        network, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=compute_dtype(dtype, device),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # `check_loaded` names them
            **place,
        )
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a damaged or strange folder makes transformers raise
        raise UserError(folder, None, f"cannot be loaded ({first_line(error)})", SAVED_WELL) from error
    check_loaded(folder, network, info)
    if network.get_input_embeddings() is None or getattr(network.get_output_embeddings(), "weight", None) is None:
        fault = f"{type(network).__name__} has no output layer over tokens of its own"
        raise UserError(folder / "config.json", "architectures", fault, "use a causal language model")
    if getattr(network.config.get_text_config(), "output_router_logits", False):
        network.config.get_text_config().output_router_logits = False  # they serve a loss that trainings leave out
    network = network.eval() if quantized else network.to(device).eval()
    return network, info


def check_weights(network, folder) -> None:
    """Raise UserError, naming them, if tensors hold a NaN or an infinity."""
    for name, weight in network.named_parameters():
        if not weight.is_floating_point() or weight.element_size() == 1 or weight.numel() == 0:
            continue  # of quantized weights the scales tell
        if not torch.stack(weight.aminmax()).isfinite().all():
            dtype = str(weight.dtype).removeprefix("torch.")
            fault = f"the tensor {name} holds numbers that are not finite in {dtype}"
            wider = "set model.dtype to bfloat16 or float32, or " if weight.dtype == torch.float16 else ""
            raise UserError(folder, None, fault, f"{wider}fetch or copy the weights again")


def check_ids(network, tokenizer, folder) -> int:
    """The rows of a network's embeddings; raises UserError if the tokenizer gives an id beyond them."""
    rows = min(network.get_input_embeddings().weight.shape[0], network.get_output_embeddings().weight.shape[0])
    ids = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
    if ids:
        token = min(ids, key=ids.__getitem__)
        fault = f"the tokenizer gives ids beyond the embedding's {rows:,} rows, as {token!r} ({ids[token]:,})"
        raise UserError(folder, None, fault, "resize the embeddings (resize_token_embeddings), or remove those tokens")
    return rows


def sizes(network, targets: Targets) -> dict:
    """Facts of a network's size and of the share of it that gets an adapter."""
    layers = dict(network.named_modules())
    weights = sum(layers[name].weight.numel() for name in targets.adapted if hasattr(layers[name], "weight"))
    total = sum(parameter.numel() for parameter in network.parameters())
    decoder = layers_of(body(network))
    return {
        "parameters": total,
        "decoder_layers": None if decoder is None else len(decoder),
        "linear_layers": targets.linear,
        "adapted_layers": len(targets.adapted),
        "share_of_linear_layers_adapted": round(len(targets.adapted) / max(1, sum(targets.linear.values())), 4),
        "share_of_parameters_in_adapted_layers": round(weights / max(1, total), 4),
    }


def positions(config) -> dict:
    """Facts of how a text configuration places tokens."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    return {
        "context_length": context_length(config),
        "rotary_positions": rope if isinstance(rope, dict) else None,
        "sliding_window": getattr(config, "sliding_window", None),
        "layer_kinds": sorted(set(getattr(config, "layer_types", None) or [])),
    }


def kernel_facts(kernels: Kernels) -> dict:
    """Facts of how a network is computed, in words."""
    return {
        "attention": f"transformers' own: {kernels.attention_fault}" if kernels.attention_fault else "ours",
        "prefix_sharing": f"off: {kernels.sharing_fault}" if kernels.sharing_fault else "on",
    }


def inspect_network(folder, tokenizer, dtype: str, adapted: tuple[list[str], int], device: torch.device) -> Inspected:
    """What a model folder's network is; raises UserError where it could not be trained, or not as asked for.

    `tokenizer`: the folder's, whose ids are looked up in the network's embeddings; `adapted`: `target_modules` and
    `last_layers` of the adapter.
    """
    folder = Path(folder)
    network, info = load_network(folder, dtype, device)
    check_weights(network, folder)
    targets = find_targets(network, *adapted)
    config = network.config.get_text_config()
    kernels = install_kernels(network, device)
    tied = network.get_output_embeddings().weight is network.get_input_embeddings().weight
    facts = {
        "architecture": type(network).__name__,
        "model_type": network.config.model_type,
        "dtype": str(network.get_input_embeddings().weight.dtype).removeprefix("torch."),
        "quantization": quantization(folder) or "none",
        **sizes(network, targets),
        "tied_output_layer": tied,
        "embedding_rows": check_ids(network, tokenizer, folder),
        **positions(config),
        **kernel_facts(kernels),
        KERNELS: kernels.record(network, device),
    }
    if not kernels.finite:
        fault = f"{facts['architecture']} computes logits that are not finite in {facts['dtype']}"
        raise SettingError("model.dtype", fault, "set bfloat16 or float32, or take another copy of the weights")
    try_training(network, *adapted)
    facts = {name: value for name, value in facts.items() if value not in (None, [])}
    warnings = warnings_of(folder, facts, info, targets)
    if adapted[1] and "decoder_layers" not in facts:
        warnings.append("its layers cannot be counted, so all get an adapter, whatever lora.last_layers says")
    return Inspected(facts, tuple(warnings))


def warnings_of(folder: Path, facts: dict, info: dict, targets: Targets) -> list[str]:
    """What a user should know of a network, a sentence each."""
    found = []
    config = read_json(folder / "config.json")
    if unused := info["unexpected_keys"]:
        found.append(f"{len(unused)} tensors of the model's files are not used ({some_of(unused)})")
    if config.get("auto_map"):
        found.append(f"the folder's own code is not run; transformers' {facts['architecture']} computes the model")
    if targets.outside:
        found.append("layers of the same names beside the language model, as for images, get no adapter")
    text = config.get("text_config")
    if {**config, **(text if isinstance(text, dict) else {})}.get("output_router_logits"):
        found.append("the load-balancing loss of its mixture of experts takes no part in trainings")
    return found


def try_training(network, targets: list[str], last_layers: int) -> None:
    """Compute the gradient of a few tokens; raises SettingError if it does not reach the layers of some target.

    Some families read a layer's weight without calling the layer: an adapter on it would have no effect.
    """
    lora = {"r": 1, "alpha": 1, "dropout": 0.0, "target_modules": targets, "last_layers": last_layers}
    model = add_adapter(network, lora)
    model.train()
    rows = probe_rows(network)
    states = tail_states(network, [row[:-1] for row in rows], [row[-1:] for row in rows], [0, 1])
    token_logits(network, states[:, 0], rows[0][:2]).log_softmax(1)[:, 0].sum().backward()
    reached = [name for name, weight in model.named_parameters() if "lora_B" in name and weight.grad is not None]
    for target in targets:
        if not any(matches(name.partition(".lora_B")[0], target) for name in reached):
            fault = f"an adapter on {target!r} has no effect: {type(network).__name__} does not call that layer"
            in_all = "" if not last_layers else ", or set lora.last_layers to 0 for an adapter in all layers"
            raise SettingError("lora.target_modules", fault, f"leave it out{in_all}")
    network.eval()
