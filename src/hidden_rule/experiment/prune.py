"""Remove what a finished experiment needs no more: `make prune EXPERIMENT=laptop [KEEP=logs] [DRY=yes]`.

What goes: checkpoints, logs, benchmarks, and what killed processes left half-written. What the report, `make verify` or
a rerun reads stays, so that Snakemake has nothing to do afterwards. Adapters and tables are results, and stay.
"""

import argparse
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.core.manifest import faults
from hidden_rule.core.schemas import did_you_mean, first_fault, load_schema, quoted
from hidden_rule.experiment.config_checks import OWN_RESULTS

PARTS = {  # folders of an experiment that nothing reads once it is finished, and what they hold
    "checkpoints": "of trainings that ended",
    "logs": "what jobs printed",
    "benchmarks": "time and memory of jobs, as Snakemake measured them",
}
LEFT = "leftovers"
HALF_WRITTEN = re.compile(r"\.[0-9]+\..+|\..+\.[0-9]+\.tmp")  # core/files.py: `whole`, `scratch_folder`
EXPERIMENT, KEEP = "EXPERIMENT", "KEEP"


@dataclass
class Part:
    """What is removed under one name: paths, and how many bytes and files they hold."""

    name: str
    paths: list[Path] = field(default_factory=list)
    n_bytes: int = 0
    n_files: int = 0

    def add(self, path: Path) -> None:
        """Count a file, or all files of a folder; links count as what they are, and are never followed."""
        files = [path]
        if path.is_dir() and not path.is_symlink():
            files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        self.paths.append(path)
        self.n_bytes += sum(file.lstat().st_size for file in files)
        self.n_files += len(files)


def experiment_folder(name: str, results: Path) -> Path:
    """The folder of the experiment called `name` below `results`; UserError for any other name."""
    schema = load_schema("config.schema.yaml")
    if not name:
        raise UserError("make prune", EXPERIMENT, "is missing", "name an experiment: EXPERIMENT=laptop")
    if first_fault(name, schema["properties"]["experiment"], schema) or name in OWN_RESULTS:
        remedy = f"give its name as below {results}, without a folder: EXPERIMENT=laptop"
        raise UserError("make prune", EXPERIMENT, f"{quoted(name)} is no experiment", remedy)
    folder = results / name
    if folder.is_symlink():
        raise UserError(folder, None, "is a link", "name the experiment that it leads to")
    if not folder.is_dir():
        known = sorted(path.name for path in results.glob("*") if path.is_dir() and path.name not in OWN_RESULTS)
        remedy = did_you_mean(name, known) if known else "run it first"
        raise UserError(folder, None, "is a file" if folder.exists() else "does not exist", remedy)
    return folder


def check_finished(folder: Path, records: Path) -> None:
    """Raise UserError unless the experiment in `folder` is finished and as it was written, and no run works at it.

    `records`: Snakemake's folder, `.snakemake`, whose locks name files as they lie below the folder that it is in.
    """
    below = f"{folder.relative_to(records.parent)}/"
    for lock in sorted(records.glob("locks/*.lock")):
        locked = lock.read_text(encoding="utf-8", errors="replace").splitlines()
        if any(path.startswith(below) for path in locked):
            remedy = "wait for its end; if none runs: snakemake --unlock, then run it again to its end"
            raise UserError(folder, None, "is locked by a run, or by one that was killed", remedy)
    manifest, remedy = folder / "manifest.json", "run the experiment to its end, then prune it"
    if not manifest.is_file():
        raise UserError(folder, None, "holds a run that is not finished: it has no manifest.json", remedy)
    if differing := faults(folder):
        more = f", as {len(differing) - 1} others" if len(differing) > 1 else ""
        raise UserError(folder, None, f"is not as the run wrote it: {differing[0]}{more}", remedy)
    written = manifest.stat().st_mtime
    for path in (folder / "checkpoints").rglob("*"):
        if path.is_file() and path.stat().st_mtime > written:
            raise UserError(path, None, "was written after the run was finished: a training goes on", remedy)


def kept_parts(words: str) -> set[str]:
    """The parts that `KEEP` names, with commas or blanks between; UserError for one that is none."""
    kept = set(filter(None, re.split(r"[\s,]+", words)))
    for name in sorted(kept - {*PARTS, LEFT}):
        raise UserError("make prune", KEEP, f"{quoted(name)} is no part", did_you_mean(name, [*PARTS, LEFT]))
    return kept


def removable(folder: Path, kept: set[str]) -> list[Part]:
    """What may be removed of a finished experiment, by part; raises UserError for a part that is a link."""
    parts = []
    for name in [of for of in PARTS if of not in kept]:
        path, part = folder / name, Part(name)
        if path.is_symlink():
            raise UserError(path, None, "is a link", f"delete it by hand, or leave it: KEEP={name}")
        if path.is_dir():
            part.add(path)
            parts.append(part)
    if LEFT not in kept:
        left = Part(LEFT)
        for above, folders, files in os.walk(folder):
            if Path(above) == folder:
                folders[:] = [name for name in folders if name not in PARTS]
            for name in [name for name in (*folders, *files) if HALF_WRITTEN.fullmatch(name)]:
                left.add(Path(above, name))
            folders[:] = [name for name in folders if not HALF_WRITTEN.fullmatch(name)]
        parts += [left] if left.paths else []
    return parts


def remove(parts: list[Part]) -> None:
    """Delete what the parts name."""
    for path in [path for part in parts for path in part.paths]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def as_lines(folder: Path, parts: list[Part], dry: bool) -> list[str]:
    """What is removed, or would be, and how much it holds."""
    if not parts:
        return [f"{folder}: nothing to remove"]
    verb = "would be removed" if dry else "removed"
    lines = [f"{folder}: {sum(part.n_bytes for part in parts) / 1e6:.1f} MB {verb}"]
    for part in parts:
        files = f"{part.n_files:,} file{'' if part.n_files == 1 else 's'}"
        lines.append(f"  {part.name:<12} {part.n_bytes / 1e6:8.1f} MB  {files}: {PARTS.get(part.name, 'half-written')}")
    return lines


def prune(name: str, keep: str = "", dry: bool = False, root: Path = Path()) -> list[str]:
    """Remove what experiment `name` needs no more, but for the parts that `keep` names; lines on what was removed.

    dry: only say it; root: the folder in which `results` and `.snakemake` lie. Raises UserError, and removes nothing,
    for what is no experiment, not finished, altered, locked by a run, or a link.
    """
    kept = kept_parts(keep)
    folder = experiment_folder(name, root / "results")
    check_finished(folder, root / ".snakemake")
    parts = removable(folder, kept)
    if not dry:
        remove(parts)
    return as_lines(folder, parts, dry)


def main() -> None:
    parser = argparse.ArgumentParser(description="Remove what a finished experiment needs no more.")
    parser.add_argument("experiment", help="its name")
    parser.add_argument("--keep", default="", help=f"what to keep of {', '.join([*PARTS, LEFT])}")
    parser.add_argument("--dry", default="", help="yes: only say what would be removed")
    given = parser.parse_args()
    with one_line_errors():
        if given.dry not in ("", "yes", "no"):
            raise UserError("make prune", "DRY", f"{quoted(given.dry)} is neither yes nor no", "write DRY=yes")
        print("\n".join(prune(given.experiment, given.keep, given.dry == "yes")))


if __name__ == "__main__":
    main()
