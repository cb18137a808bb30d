"""Folders that are written whole: room for them, files copied and checked, one put in another's place."""

import ctypes
import os
import shutil
import sys
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import existing_parent, file_entry, free_bytes, sync
from hidden_rule.models.untrusted import check_links

EXCHANGE, HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
SPARE = 1.05  # of what is needed: tokenizers, cards, the file system's own
LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt", "USE_POLICY.md")


def check_room(folder: Path, n_bytes: int) -> None:
    """Raise UserError unless the disk of a folder, which need not exist, has room for so many bytes."""
    there, needed, free = existing_parent(folder), int(n_bytes * SPARE), free_bytes(folder)
    if free < needed:
        fault = f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise UserError(folder, None, fault, "free space on that disk")
    if not os.access(there, os.W_OK):
        raise UserError(there, None, "cannot be written to", "make it writable, or copy the results elsewhere")


def copy_files(source: Path, folder: Path, files: dict[str, dict]) -> None:
    """Copy the files of a base model, and what it says of its licence; raises UserError where one is not as recorded.

    files: `bytes` and `sha256` by the path below `source`.
    """
    for name, entry in files.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise UserError(source, None, f"has a file {name} outside the folder", "prepare the base model again")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
        if file_entry(target) != {key: entry[key] for key in ("bytes", "sha256")}:
            raise UserError(source / name, None, "was changed since the run", "prepare the base model again")
    copy_licences(source, folder)


def copy_licences(source: Path, folder: Path) -> None:
    """Copy what a base model says of its licence."""
    for name in LICENCES:
        if (source / name).is_file() and not (folder / name).exists():
            check_links(source, [source / name])
            shutil.copyfile(source / name, folder / name)


def entries_of(folder: Path, known: dict[str, dict] | None = None) -> dict[str, dict]:
    """`bytes` and `sha256` of every file below a folder, by its path there; those that are `known` are not read."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return {name: (known or {}).get(name) or file_entry(folder / name) for name in names}


def put_in_place(finished: Path, folder: Path) -> None:
    """Give a finished folder its name; what had the name before is whole until then, and deleted after."""
    mask = os.umask(0o022)
    os.umask(mask)
    for path in sorted(finished.rglob("*")):
        if path.is_file():
            os.chmod(path, 0o666 & ~mask)  # safetensors lets its owner alone read
        sync(path)
    if not folder.exists():
        os.rename(finished, folder)
    elif not exchange(finished, folder):  # a file system that cannot: there is no folder for an instant
        older = finished.with_name(f"{finished.name}.older")
        os.rename(folder, older)
        os.rename(finished, folder)
        os.rename(older, finished)
    sync(folder.parent)
    shutil.rmtree(finished, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change their names in one step (Linux); whether that was done."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0
