"""The files of a base model: where they lie, and whether a weights file is whole."""

import json
import os
from pathlib import Path

from hidden_rule.core.errors import UserError

LOADED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]  # and README.md, for the licence it declares
AGAIN = "fetch or copy the file again"


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
