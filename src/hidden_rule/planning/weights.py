"""How large a model is: shapes and number types of its tensors, from the headers of its safetensors files.

A header lists each tensor's name, shape and type (8 bytes of length, then JSON), so that no weight is read. Of a model
that is not on this machine the Hub gives the same headers, where the network is allowed; without them only the number
of parameters in the model's name is known, and the shape of a usual decoder of that size is taken.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.models.files import AGAIN, loaded_files
from hidden_rule.models.job_resources import named_parameters

BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}  # others: 1
LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")
HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$")
MLP = re.compile(r"\.(gate_proj|up_proj|down_proj|c_fc|fc1|fc2|gate_up_proj|w1|w2|w3|dense_h_to_4h)\.weight$")
KEYS = re.compile(r"\.(k_proj|key)\.weight$")
RATIO, WIDE, KEYS_SHARE, VOCABULARY = 128, 3.4, 0.2, 150_000  # width / layers, MLP / width, keys / width, of decoders


@dataclass(frozen=True)
class Tensor:
    """A tensor of a header: its shape, and the bytes of one of its numbers."""

    shape: tuple[int, ...]
    itemsize: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Shape:
    """What memory and time depend on: numbers of weights, and the widths of a decoder.

    body: weights of all layers, embeddings left out; head: of the output layer (tied or not); embeddings: of both, once
    where they are tied; bytes: of all weights as the files hold them; origin: where this is known from, in words.
    """

    body: int
    head: int
    embeddings: int
    bytes: int
    width: int
    wide: int  # of the layers' MLPs
    keys: int  # numbers of the keys of one position in one layer
    layers: int
    vocabulary: int
    origin: str
    tensors: dict[str, Tensor]  # by name; empty where only the size is known

    @property
    def parameters(self) -> int:
        return self.body + self.embeddings

    def lora(self, r: int, targets: list[str], last_layers: int = 0) -> int:
        """Weights of an adapter of rank `r`: r · (in + out) of each layer that a target names (Hu et al. 2021).

        `last_layers`: within so many of the decoder's last layers; 0: within all.
        """
        first = max(0, self.layers - last_layers) if last_layers else 0
        if not self.tensors:
            per_layer = {"q_proj": self.width + self.width, "o_proj": self.width + self.width}
            per_layer |= dict.fromkeys(("k_proj", "v_proj"), self.width + self.keys)
            others = self.width + self.wide
            of_layer = sum(per_layer.get(target.rpartition(".")[2], others) for target in targets)
            return r * (self.layers - first) * of_layer
        adapted = [
            tensor
            for name, tensor in self.tensors.items()
            if len(tensor.shape) == 2
            and name.endswith(".weight")
            and any(f".{name}".endswith(f".{target}.weight") for target in targets)  # as PEFT matches names
            and (not first or ((found := LAYER.search(name)) and int(found[1]) >= first))
        ]
        return r * sum(sum(tensor.shape) for tensor in adapted)


def read_header(path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises UserError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > Path(path).stat().st_size:
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        return {
            name: Tensor(tuple(map(int, entry["shape"])), BYTES.get(entry["dtype"], 1))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(path, None, f"is not a safetensors file ({error})", AGAIN) from error


def folder_shape(folder) -> Shape | None:
    """The shape of a model's folder, or None where it holds no safetensors file."""
    files = [path for path in loaded_files(folder).values() if path.suffix == ".safetensors"]
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= read_header(path)
    return shape_of(tensors, f"headers of {len(files)} safetensors file{'s' * (len(files) != 1)}") if tensors else None


def shape_of(tensors: dict[str, Tensor], origin: str) -> Shape:
    """What is counted of a causal model's tensors."""

    def first(pattern: re.Pattern) -> Tensor | None:
        return next(
            (tensor for name, tensor in tensors.items() if pattern.search(name) and len(tensor.shape) == 2), None
        )

    embedding, head = first(EMBEDDING), first(HEAD)
    outer = embedding or head or Tensor((0, 0), 2)
    numbers = {name: tensor.numel for name, tensor in tensors.items()}
    embeddings = sum(n for name, n in numbers.items() if EMBEDDING.search(name) or HEAD.search(name))
    layers = {int(found[1]) for name in tensors if (found := LAYER.search(name))}
    mlp, keys = first(MLP), first(KEYS)
    width = outer.shape[1]
    return Shape(
        body=sum(numbers.values()) - embeddings,
        head=(head or outer).numel,
        embeddings=embeddings,
        bytes=sum(tensor.numel * tensor.itemsize for tensor in tensors.values()),
        width=width,
        wide=max(mlp.shape) if mlp else 4 * width,
        keys=keys.shape[0] if keys else width,
        layers=len(layers),
        vocabulary=outer.shape[0],
        origin=origin,
        tensors=tensors,
    )


def typical_shape(parameters: int, origin: str) -> Shape:
    """The shape of a usual decoder of so many parameters: width = 128 × layers, MLP 3.4 × width, grouped keys.

    With keys and values of a fifth of the width and a gated MLP, a layer has (2 + 2 · 0.2 + 3 · 3.4) · width² weights.
    """
    of_layer, width = 2 + 2 * KEYS_SHARE + 3 * WIDE, 64
    while of_layer * width**3 / RATIO + 2 * VOCABULARY * width < parameters:
        width += 64
    embeddings = min(2 * VOCABULARY * width, parameters // 2)
    return Shape(
        body=parameters - embeddings,
        head=embeddings // 2,
        embeddings=embeddings,
        bytes=2 * parameters,
        width=width,
        wide=int(WIDE * width),
        keys=int(KEYS_SHARE * width),
        layers=max(1, round(width / RATIO)),
        vocabulary=VOCABULARY,
        origin=origin,
        tensors={},
    )


def decoder_shape(width: int, wide: int, keys: int, layers: int, vocabulary: int, origin: str) -> Shape:
    """The shape of a decoder with gated MLPs and tied embeddings, in two bytes a number."""
    layer = 2 * width * width + 2 * width * keys + 3 * width * wide + 2 * width
    body, embeddings = layers * layer + width, vocabulary * width
    size = 2 * (body + embeddings)
    return Shape(body, embeddings, embeddings, size, width, wide, keys, layers, vocabulary, origin, {})


def named_shape(name: str) -> Shape | None:
    """The shape of a usual decoder of the size that a model's name states, or None where it states none."""
    n = named_parameters(name)
    return typical_shape(n, f"the size in its name, {name.rpartition('/')[2]}") if n else None
