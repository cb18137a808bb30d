"""Compare a results folder with its manifest: `make verify`, or `python -m hidden_rule.core.manifest FOLDER`."""

import json
import sys
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256

MAX_NAME = 1000  # characters of a file's name below the folder


def faults(folder) -> list[str]:
    """What differs from `manifest.json` in a results folder, a line each; raises UserError if that cannot be read."""
    manifest = Path(folder) / "manifest.json"
    lines = []
    for name, (size, sha256) in read_manifest(manifest).items():
        path = Path(folder) / name
        if not path.is_file():
            lines.append(f"{path}: is missing")
        elif path.stat().st_size != size:
            lines.append(f"{path}: has {path.stat().st_size:,} bytes, not {size:,}")
        elif file_sha256(path) != sha256:
            lines.append(f"{path}: was altered")
    return lines


def read_manifest(manifest: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file that a manifest names, by its name below the folder.

    The folder may be somebody else's: raises UserError for what is no such list, and for a name that leads out of it.
    """
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        expected = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
    except FileNotFoundError as error:
        raise UserError(manifest, None, "is missing", "name the folder of a finished run") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise UserError(manifest, None, f"is damaged ({error})", "run the experiment again") from error
    for name in expected:
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or not name.isprintable() or len(name) > MAX_NAME:
            raise UserError(
                manifest, None, f"names {name!r}, which is no file of the folder", "run the experiment again"
            )
    return expected


def main(folder: str) -> int:
    """Print every fault, or that there is none; returns the exit status."""
    try:
        lines = faults(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines) or f"{folder}: every file is as it was written")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
