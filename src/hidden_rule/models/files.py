"""The files of a base model: where they lie, what they hold, and whether a weights file is whole."""

import json
import os
import re
import sys
from pathlib import Path

from hidden_rule.core.errors import SettingError, UserError
from hidden_rule.core.files import file_entry, json_sha256, read_json, write_text

LOADED = [  # what loading a model reads, and README.md, for the licence it declares
    *("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"),
    "additional_chat_templates/*.jinja",
]
UNUSED = ["*/*.safetensors", "*/*.json"]  # of a Hub model: copies of it for other programs
AGAIN = "fetch or copy the file again"
MAX_HEADER = 100_000_000  # bytes of a safetensors header; the format's own limit
# our own, in the folder of a prepared model
RECORD, HASHES, FETCHED = "manifest.json", "file_hashes.json", "fetched.json"
EXPORTED = "exported"  # the source of a manifest whose files lie in a folder beside it, wherever both are moved
WORTH_SAYING = 2**30  # bytes that take more than a moment to hash


def check_safetensors(path) -> None:
    """Raise UserError if a safetensors file is cut short or its header cannot be read.

    The format: 8 bytes, the header's length; the header, JSON with each tensor's byte range; the bytes.
    """
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size, MAX_HEADER):
                raise ValueError("header longer than the file" if length > size else "header too long")
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(path, None, f"is not a safetensors file ({error})", AGAIN) from error
    if size != expected:
        raise UserError(path, None, f"has {size:,} bytes where its header promises {expected:,}", AGAIN)


def loaded_files(folder) -> dict[str, Path]:
    """The files of a folder that loading a model from it reads, by their names below it, in order."""
    folder = Path(folder)
    found = {path for pattern in LOADED for path in folder.glob(pattern) if path.is_file()}
    own = {folder / RECORD, folder / HASHES}
    return {path.relative_to(folder).as_posix(): path for path in sorted(found - own)}


def file_hashes(folder, known, of_hub: bool = False) -> dict[str, dict]:
    """`bytes` and `sha256` of each of `loaded_files`, by name.

    `known` is a file that keeps the hashes of files by size and times: one is read again only when one of these has
    changed, so that 28 GB are not read each time someone looks whether there is something to do. `of_hub`: the folder
    lies in the Hub's cache, whose hashes are taken where it states them.
    """
    paths, before, entries = loaded_files(folder), _kept(known), {}
    try:
        stamps = {name: _stamp(path) for name, path in paths.items()}
        changed = [name for name, stamp in stamps.items() if before.get(name, {}).get("stamp") != stamp]
        n_bytes = sum(paths[name].stat().st_size for name in changed if not (of_hub and hub_sha256(paths[name])))
        if n_bytes > WORTH_SAYING:
            print(f"hashing {n_bytes / 1e9:.1f} GB in {folder}, once", file=sys.stderr)
        for name, path in paths.items():
            entries[name] = {"stamp": stamps[name], **entry_of(path, of_hub)} if name in changed else before[name]
    except OSError as error:
        raise UserError(error.filename or folder, None, f"cannot be read ({error.strerror})", AGAIN) from error
    if entries != before:
        _keep(entries, known)
    return {name: {key: entry[key] for key in ("bytes", "sha256")} for name, entry in entries.items()}


def hub_sha256(path: Path) -> str:
    """The SHA-256 that the Hub states for a file of its cache, or nothing.

    In that cache a file is a link to `blobs/<ETag>`, and the ETag of what the Hub keeps in large-file storage is the
    SHA-256 of its content. So weights need not be read to be named; that the file is as long as its header says is
    checked beside (`check_safetensors`).
    """
    target = Path(os.readlink(path)) if path.is_symlink() else Path()
    return target.name if target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name) else ""


def entry_of(path: Path, of_hub: bool) -> dict:
    """`bytes` and `sha256` of a file, which is read unless the Hub states its hash."""
    stated = hub_sha256(path) if of_hub else ""
    return {"bytes": path.stat().st_size, "sha256": stated} if stated else file_entry(path)


def folder_content(folder, known) -> str:
    """SHA-256 of what a model's folder holds, whatever the times of its files; `known` as in `file_hashes`."""
    return json_sha256(file_hashes(folder, known))


def _stamp(path: Path) -> list[int]:
    """What changes with a file's content: its size and times; that of the inode too, which no program sets."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _kept(known) -> dict[str, dict]:
    """What `_keep` wrote, or nothing where it cannot be read."""
    try:
        entries = json.loads(Path(known).read_text(encoding="utf-8"))
        return {name: entry for name, entry in entries.items() if {"stamp", "bytes", "sha256"} <= entry.keys()}
    except (OSError, ValueError, AttributeError):
        return {}


def _keep(entries: dict[str, dict], known) -> None:
    try:
        write_text(json.dumps(entries, indent=1) + "\n", known)
    except OSError:  # a read-only folder of results can be looked into all the same
        print(f"warning: {known} cannot be written: hashes are worked out again next time", file=sys.stderr)


def model_folder(manifest: dict, manifest_path, fetch: bool = False) -> Path:
    """The folder with a model's files; only `fetch` may reach the network, and only for a Hub model."""
    if manifest["source"] == "package":
        return Path(manifest.get("folder", Path(manifest_path).parent))
    if manifest["source"] == "path":
        return Path(manifest["id"])
    if manifest["source"] == EXPORTED:
        return Path(manifest_path).parent / manifest["folder"]
    from huggingface_hub import snapshot_download  # not needed by the other sources
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        return Path(
            snapshot_download(
                manifest["id"],
                revision=manifest["revision"],
                allow_patterns=[*LOADED, "README.md"],
                ignore_patterns=UNUSED,
                local_files_only=not fetch,
            )
        )
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if not fetch:
            raise SettingError(
                "model.id",
                f"{manifest['id']} at {manifest['revision']} is not in the Hub's cache on this machine, {HF_HUB_CACHE}",
                "let HF_HOME name a folder that login and compute nodes share, or run rule fetch_model again",
            ) from error
        raise SettingError(
            "model.id",
            f"{manifest['id']} at {manifest['revision']} cannot be fetched ({reason})",
            "check the name, the revision and the network, or fetch it beforehand with `hf download`",
        ) from error


def fetch_model(model: dict, done) -> None:
    """Bring a Hub model's files into the Hub's cache, and list them in the file `done`; no other step asks the Hub."""
    folder = model_folder(model, done, fetch=True)
    files = {name: {"bytes": path.stat().st_size} for name, path in loaded_files(folder).items()}
    record = {"id": model["id"], "revision": model["revision"], "files": files}
    write_text(json.dumps(record, indent=2) + "\n", done)


def known_record(path) -> dict:
    """A record that was written before, or an empty one where there is none that can be read."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def check_index(folder: Path, index: Path) -> None:
    """Raise UserError if a safetensors index is damaged, or names a file that its folder lacks."""
    try:
        shards = {str(shard) for shard in read_json(index, AGAIN)["weight_map"].values()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(index, "weight_map", "is missing or no list of files", AGAIN) from error
    if outside := sorted(shard for shard in shards if Path(shard).name != shard):
        raise UserError(index, None, f"names {outside[0]}, outside the model's folder", "save the model again")
    if foreign := sorted(shard for shard in shards if not shard.endswith(".safetensors")):
        raise UserError(index, None, f"names {foreign[0]}, which is no safetensors file", "save the model again")
    if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
        raise UserError(folder, None, f"lacks {missing[0]}, which {index.name} names", "fetch or copy it again")
