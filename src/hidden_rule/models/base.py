"""Which base model a job uses; imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class BaseModel:
    """A prepared base model, and how it is used."""

    manifest: Path  # the file that `models.prepare.prepare_model` wrote
    dtype: str  # of its weights and activations: auto | bfloat16 | float32 | …
    chat_template_kwargs: dict = field(default_factory=dict)  # what its chat template is given beside the messages

    @classmethod
    def of(cls, manifest, config: dict) -> "BaseModel":
        """The model of a manifest, used as the configuration's `model` says."""
        return cls(Path(manifest), config["dtype"], config["chat_template_kwargs"])
