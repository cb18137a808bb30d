"""What is known of an experiment's base model before it is loaded: shape, where it lies, whether it may be fetched."""

import os
from dataclasses import dataclass
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.experiment.conditions import model_slug
from hidden_rule.models.files import LOADED, RECORD, known_record
from hidden_rule.planning.weights import Shape, Tensor, decoder_shape, folder_shape, named_shape, shape_of

EMBEDDED_NAME = "SmolLM2-135M-Instruct"
EMBEDDED = decoder_shape(576, 1536, 192, 30, 49152, "the published configuration")  # output layer and embeddings tied
ONLINE_S = 10  # seconds that the Hub has for an answer
OFFLINE, YES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class ModelFacts:
    """A base model before it is loaded.

    shape: None where nothing is known; folder: its files on this machine, None where they are not there; gated: whether
    the Hub gives it only to those who accepted its terms, None where that could not be asked; note: what could not be
    found out, in words.
    """

    shape: Shape | None
    folder: Path | None
    gated: bool | None = False
    note: str = ""
    cache: Path | None = None  # the Hub's, for a Hub model


def model_record(model: dict) -> Path:
    """The record of a model's preparation, which experiments share."""
    return Path("results/models") / model_slug(model) / RECORD


def model_facts(model: dict) -> ModelFacts:
    """What is known of the config's `model`. Asks the Hub only for a Hub model that is not here, and unless offline.

    Raises UserError where a weights file is damaged, or a local folder is not there.
    """
    if model["source"] == "path":
        folder = Path(model["id"])
        if not folder.is_dir():
            raise UserError(folder, None, "is no folder", "name the folder of a model saved with save_pretrained")
        return ModelFacts(folder_shape(folder), folder)
    if model["source"] == "package":
        folder = model_record(model).parent
        made = all(known_record(folder / RECORD).get(key) == model[key] for key in ("source", "id", "revision"))
        if made and (shape := folder_shape(folder)):
            return ModelFacts(shape, folder)
        shape = EMBEDDED if model["id"] == EMBEDDED_NAME else named_shape(model["id"])
        return ModelFacts(shape, None, note="is prepared at the first run")
    return hub_facts(model)


def hub_facts(model: dict) -> ModelFacts:
    """Of a Hub model: from its files in the cache, else from the Hub's metadata, else from its name."""
    from huggingface_hub import snapshot_download  # not needed by the other sources
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    try:
        patterns = [pattern for pattern in LOADED if not pattern.endswith(".txt")]
        folder = Path(
            snapshot_download(model["id"], revision=model["revision"], allow_patterns=patterns, local_files_only=True)
        )
        if shape := folder_shape(folder):
            return ModelFacts(shape, folder, cache=cache)
    except (OSError, ValueError):
        pass  # not in the cache
    guess, absent = named_shape(model["id"]), "is not in the Hub's cache"
    if offline := next((name for name in OFFLINE if os.environ.get(name, "").upper() in YES), None):
        return ModelFacts(guess, None, None, f"{absent}, and {offline} forbids to ask the Hub", cache)
    try:
        shape, gated = hub_metadata(model["id"], model["revision"])
    except Exception as error:  # the Hub's client passes on errors of whichever HTTP library it uses
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        return ModelFacts(guess, None, None, f"{absent}, and the Hub gives no answer ({reason})", cache)
    return ModelFacts(shape or guess, None, gated, "is fetched from the Hub at the first run", cache)


def hub_metadata(name: str, revision: str) -> tuple[Shape | None, bool]:
    """A Hub model's shape from the headers of its safetensors files, and whether it is gated; raises OSError."""
    from huggingface_hub import HfApi

    api = HfApi()
    gated = bool(api.model_info(name, revision=revision, timeout=ONLINE_S).gated)
    if gated and not has_token():
        return None, gated  # its headers are not given either
    metadata = api.get_safetensors_metadata(name, revision=revision)
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
    tensors = {
        tensor: Tensor(tuple(info.shape), sizes.get(info.dtype, 1))
        for file in metadata.files_metadata.values()
        for tensor, info in file.tensors.items()
    }
    return shape_of(tensors, "the Hub's headers of its safetensors files"), gated


def has_token() -> bool:
    """Whether a token for the Hub is set (HF_TOKEN, or `hf auth login`); it is neither kept nor shown."""
    from huggingface_hub import get_token

    return bool(get_token())
