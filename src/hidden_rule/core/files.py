"""Hashes of files, and files that are written whole or not at all."""

import contextlib
import glob
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

from hidden_rule.core.errors import UserError

TOLERATED_S = 60  # clocks of machines that share a folder differ


def file_sha256(path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_entry(path) -> dict:
    """`bytes` and `sha256` of a file, as lists of files hold them."""
    return {"bytes": Path(path).stat().st_size, "sha256": file_sha256(path)}


def json_sha256(value) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def content_hash(*paths) -> str:
    """One SHA-256 of several files' names and bytes, in hexadecimal."""
    return json_sha256({str(path): file_sha256(path) for path in paths})


def read_json(path, remedy: str = "delete it and run again to rebuild it"):
    """The content of a JSON file; raises UserError if it is cut short or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(path, None, f"is not JSON ({error})", remedy) from error


def check_times(*paths) -> None:
    """Raise UserError if one of these files, where it exists, was written later than now.

    Snakemake runs again what is older than its inputs. Once the clock was set back, what is newer than what cannot be
    told: results of before could pass for results of what was changed since.
    """
    now = time.time()
    for path in map(Path, paths):
        with contextlib.suppress(FileNotFoundError):
            if (written := path.lstat().st_mtime) > now + TOLERATED_S:
                when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written))
                fault = f"was written at {when}, which is still to come: the clock was set back, or was ahead then"
                raise UserError(path, None, fault, "set the clock right; docs/faults.md says what else helps")


def modified(*paths) -> list[int | None]:
    """When each file was written, in nanoseconds; None where there is none."""
    found: list[int | None] = []
    for path in paths:
        try:
            found.append(os.stat(path).st_mtime_ns)
        except OSError:
            found.append(None)
    return found


def existing_parent(path) -> Path:
    """The nearest folder above a path that exists."""
    path = Path(path).absolute()
    return next(each for each in (path, *path.parents) if each.is_dir())


def free_bytes(path) -> int:
    """Free bytes for this user on the disk where a path lies, or will lie; a quota is not seen."""
    status = os.statvfs(existing_parent(path))
    return status.f_bavail * status.f_frsize


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


@contextlib.contextmanager
def scratch_folder(folder):
    """A path beside `folder` for a folder of temporary files, deleted at the end; so is what a killed process left."""
    folder = Path(folder)
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.[0-9]*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(text: str, path) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
