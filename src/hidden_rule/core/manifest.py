"""Compare a results folder with its manifest: `make verify`, or `python -m hidden_rule.verify results/laptop`."""

import json
import sys
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256


def faults(folder) -> list[str]:
    """What differs from `manifest.json` in a results folder, a line each; raises UserError if that cannot be read."""
    manifest = Path(folder) / "manifest.json"
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in entries.items()}
    except FileNotFoundError as error:
        raise UserError(manifest, None, "is missing", "name the folder of a finished run") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(manifest, None, f"is damaged ({error})", "run the experiment again") from error
    lines = []
    for name, (size, sha256) in expected.items():
        path = Path(folder) / name
        if not path.is_file():
            lines.append(f"{path}: is missing")
        elif path.stat().st_size != size:
            lines.append(f"{path}: has {path.stat().st_size:,} bytes, not {size:,}")
        elif file_sha256(path) != sha256:
            lines.append(f"{path}: was altered")
    return lines


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
