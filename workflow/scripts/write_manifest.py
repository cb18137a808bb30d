"""Write down the size and SHA-256 of every result, so that `make verify` can tell whether one was altered."""

import json
from pathlib import Path

from hidden_rule.core.files import file_entry, write_text


def write_manifest(paths, manifest) -> None:
    """Write `manifest`, with `paths` by their names relative to its folder: the folder may be moved as a whole."""
    folder = Path(manifest).parent
    entries = {str(Path(path).relative_to(folder)): file_entry(path) for path in sorted(map(str, paths))}
    write_text(json.dumps(entries, indent=1) + "\n", manifest)


if "snakemake" in globals():
    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        write_manifest(list(snakemake.input), snakemake.output[0])
