"""Seals: a file's own SHA-256 among its metadata, so that a reader notices a single flipped bit.

Parquet as polars writes it and safetensors have no checksums: a flipped bit would be another number. A seal is checked
whenever a table or an adapter is read, with no other file at hand, after the folder was moved or copied, and between
two jobs of one run. `manifest.json`, which `make verify` compares, is written when a run has ended, and holds what has
no place for a seal as well: charts, the page, JSON. Neither can stand in for the other.
"""

import hashlib
import json
import re
from pathlib import Path

UNSEALED = "sealed with sha256 " + 64 * "0"  # what a file's own metadata hold before it is sealed
SEAL = re.compile(UNSEALED[:-64].encode() + rb"[0-9a-f]{64}")


def expected_seal(content: bytes) -> tuple[int, bytes] | None:
    """Where a file's seal has its 64 digits and what they have to be: the file's SHA-256 with zeros in their place."""
    starts = [found.end() - 64 for found in SEAL.finditer(content)]
    if not starts:
        return None
    before, after = content[: starts[-1]], content[starts[-1] + 64 :]
    return starts[-1], hashlib.sha256(before + UNSEALED[-64:].encode() + after).hexdigest().encode()


def seal(path) -> None:
    """Put its own hash into a file whose metadata hold UNSEALED, as parquet's and safetensors' may."""
    found = expected_seal(Path(path).read_bytes())
    if found is None:
        raise ValueError(f"{path} has no place for a seal")
    start, digits = found
    with open(path, "rb+") as stream:
        stream.seek(start)
        stream.write(digits)


def seal_holds(path) -> bool:
    """Whether a file is as it was sealed, every byte of it; true for one that never was."""
    content = Path(path).read_bytes()
    found = expected_seal(content)
    return found is None or content[found[0] : found[0] + 64] == found[1]


def seal_safetensors(path) -> None:
    """Seal a safetensors file, whose bytes repeat: the library itself writes several metadata in random order."""
    content = Path(path).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header.setdefault("__metadata__", {})["seal"] = UNSEALED
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    seal(path)
