"""Which layers of a network `lora.target_modules` names; one line where a name matches none, or one that cannot be."""

import re
from collections import Counter
from dataclasses import dataclass

from hidden_rule.core.errors import SettingError
from hidden_rule.core.schemas import did_you_mean
from hidden_rule.kernels.frozen_layers import layers_of
from hidden_rule.kernels.shared_prefix import body

KEY = "lora.target_modules"


@dataclass(frozen=True)
class Targets:
    """The layers that get an adapter, by their names in the network, and what there is to choose from."""

    adapted: tuple[str, ...]  # all that targets name, or those within the last layers
    everywhere: bool  # whether it is all
    linear: dict[str, int]  # how many linear layers the language model has of each last part of a name
    outside: str | None  # a pattern of names beside the language model's, where such would match too
    conv1d: bool  # whether all adapted layers keep their weights transposed, as GPT-2's do


def is_linear(layer) -> bool:
    """Whether a layer is a matrix product that PEFT adapts: PyTorch's, GPT-2's `Conv1D`, a quantized one."""
    kind = type(layer).__name__
    return any(end in kind for end in ("Linear", "Conv1D")) and not list(layer.children())


def matches(name: str, target: str) -> bool:
    """Whether PEFT takes a layer of this name for the target: a whole name, or its last parts."""
    return name == target or name.endswith(f".{target}")


def name_of(network, layer) -> str:
    """The name of a layer in a network."""
    return next(name for name, module in network.named_modules() if module is layer)


def check_end_layers(network, targets: list[str]) -> None:
    """Raise SettingError for a target that is the output layer or the input embeddings, under whatever name."""
    for layer, what in (
        (network.get_output_embeddings(), "the output layer"),
        (network.get_input_embeddings(), "the input embeddings"),
    ):
        name = name_of(network, layer)
        for target in targets:
            if matches(name, target):
                fault = f"{target!r} is {what}, which stays as it is: its own weights give the policy's probabilities"
                raise SettingError(KEY, fault, "leave it out")


def within_last(network, found: dict[str, list[str]], last_layers: int) -> dict[str, list[str]]:
    """Of each target's modules those within the last of a causal model's layers, of the layers that hold any.

    All of them where the model has no list of layers to count, or no more layers than that.
    """
    layers = layers_of(body(network))
    if layers is None:
        return found
    modules = dict(network.named_modules())
    named = {id(modules[name]) for names in found.values() for name in names}
    inside = [{id(module) for module in layer.modules()} for layer in layers]
    last = set().union(*[ids for ids in inside if ids & named][-last_layers:])
    within = {target: [name for name in names if id(modules[name]) in last] for target, names in found.items()}
    for target, names in within.items():
        if not names:
            fault = f"is {last_layers}, and {target!r} names none in the last layers of {type(network).__name__}"
            raise SettingError("lora.last_layers", fault, "set more, or 0 for all")
    return within


def find_targets(network, targets: list[str], last_layers: int = 0) -> Targets:
    """The layers of a causal model that `targets` name; raises SettingError if one of them names none to adapt.

    `last_layers`: within so many of its decoder layers, counted from the output; 0: within all, as in a model that has
    fewer, or whose layers cannot be counted. Layers beside the language model, of a tower for images, are left as they
    are: text never reaches them.
    """
    check_end_layers(network, targets)
    inside = {id(layer) for layer in body(network).modules()}
    layers = dict(network.named_modules())
    linear = {name: layer for name, layer in layers.items() if is_linear(layer) and id(layer) in inside}
    names = Counter(name.rpartition(".")[2] for name in linear)
    known = [name for name in names if not name.isdigit()]
    matching: dict[str, list[str]] = {}
    for target in targets:
        found = [name for name in linear if matches(name, target)]
        other = next((type(layer).__name__ for name, layer in layers.items() if matches(name, target)), None)
        if not found and other is None:
            listed = f"linear layers: {', '.join(known)}"
            close = did_you_mean(target, known, listed)
            remedy = close if close == listed else f"{close} {listed}"
            raise SettingError(KEY, f"{target!r} is no layer of {type(network).__name__}", remedy)
        if not found:
            fault = f"{target!r} of {type(network).__name__} is no linear layer of its language model but {other}"
            raise SettingError(KEY, fault, f"linear layers: {', '.join(known)}")
        unfit = [n for n, layer in layers.items() if matches(n, target) and id(layer) in inside and n not in linear]
        if unfit:
            fault = f"{target!r} names {unfit[0]} too, which is no linear layer ({type(layers[unfit[0]]).__name__})"
            raise SettingError(KEY, fault, f"write more of the name, as in {found[0].partition('.')[2]}")
        matching[target] = found
    within = within_last(network, matching, last_layers) if last_layers else matching
    adapted = tuple(dict.fromkeys(name for names in within.values() for name in names))
    outer = [name for name, layer in layers.items() if id(layer) not in inside]
    beside = any(matches(name, target) for name in outer for target in targets)
    own = re.escape(name_of(network, body(network)))
    conv1d = all(type(layers[name]).__name__ == "Conv1D" for name in adapted)
    outside = rf"(?!{own}\.).*" if beside else None
    return Targets(adapted, within == matching, dict(names), outside, conv1d)
