"""Hashes of files, and files that are written whole or not at all."""

import contextlib
import glob
import hashlib
import json
import os
from pathlib import Path


def file_sha256(path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_sha256(value) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sync(path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_whole(temporary, path) -> None:
    """Give a finished file its name; what had the name before is whole until then."""
    sync(temporary)
    os.replace(temporary, path)
    sync(Path(path).parent)


@contextlib.contextmanager
def whole(path):
    """A temporary path with the same suffix, to write to; it becomes `path` at the end, or is deleted after an error.

    What a killed process left half-written beside `path` is deleted too.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".[0-9]*.{glob.escape(path.name)}"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        move_whole(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
