"""The run that is to be exported: looked up in a finished experiment, and refused in one line where it cannot be."""

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256, read_json
from hidden_rule.core.manifest import faults
from hidden_rule.core.paths import ROOT
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run, Setting
from hidden_rule.models.adapters import ADAPTER
from hidden_rule.models.files import model_folder
from hidden_rule.report.finished import read_finished
from hidden_rule.report.text.phrases import listing

PAGES = ("charts/", "logs/", "benchmarks/", "report.html", "cases.html", "paper.zip")  # which nothing is made from


@dataclass(frozen=True)
class Chosen:
    """A trained run of a finished experiment, and the base that its adapter is for."""

    results: Results
    run: Run
    manifest: dict  # of the base, as the run used it
    base: Path  # the folder with the base's files
    dtype: str  # in which the run was evaluated

    @property
    def adapter(self) -> Path:
        return self.results.layout.adapter(self.run)

    @property
    def is_hub(self) -> bool:
        return self.manifest["source"] == "hub"

    @property
    def setting(self) -> Setting:
        """What parity is held against: the setting that the report's answer is about."""
        return self.results.main

    @property
    def start_from(self) -> str | None:
        return self.results.starts[self.run.condition]


def choose(folder: str, condition: str, seed: str) -> Chosen:
    """The run that a user names; raises UserError for what there is not, is not trained, unfinished or modified."""
    results = read_finished(folder, "RESULTS")
    run = find_run(results, condition.strip(), str(seed).strip())
    check_files(results, run)
    check_ruleset(results)
    manifest = read_json(results.layout.model) if results.layout.model.is_file() else {}
    if not isinstance(manifest, dict) or not {"source", "id", "revision", "files"} <= manifest.keys():
        raise UserError(results.layout.model, None, "is missing or damaged", "run the experiment again")
    base = base_folder(manifest, results.layout.folder)
    dtype = manifest.get("inspection", {}).get("facts", {}).get("dtype")
    if dtype is None:
        raise UserError(results.layout.model, "inspection.facts.dtype", "is missing", "run the experiment again")
    return Chosen(results, run, manifest, base, dtype)


def find_run(results: Results, condition: str, seed: str) -> Run:
    """The trained run of a condition and a seed, both as a user wrote them."""
    trained = list(dict.fromkeys(run.condition for run in results.trained))
    folder = results.layout.folder
    if not trained:
        raise UserError(folder, None, "has no trained condition, and so no adapter", "name a run that trains")
    remedy = f"name one of {listing(trained)}"
    if not condition:
        raise UserError("CONDITION", None, "names no condition", remedy)
    if condition not in results.conditions:
        raise UserError("CONDITION", None, f"{condition} is no condition of {folder}", remedy)
    if condition not in trained:
        raise UserError("CONDITION", None, f"{condition} is not trained and has no adapter", remedy)
    seeds = [str(number) for number in results.seeds]
    if not re.fullmatch(r"\d{1,18}", seed) or str(int(seed)) not in seeds:
        fault = f"{seed} is no seed of {folder}" if seed else "names no seed"
        raise UserError("SEED", None, fault, f"name {'one of ' if len(seeds) > 1 else ''}{listing(seeds)}")
    return next(run for run in results.trained if run.condition == condition and run.seed == int(seed))


def check_files(results: Results, run: Run) -> None:
    """Raise UserError if a file that the export is made from is missing, or not as the run left it."""
    folder, layout = results.layout.folder, results.layout
    for path in (*(layout.adapter(run) / name for name in ADAPTER), layout.predictions(run)):
        if not path.is_file():
            raise UserError(path, None, "is missing", "run the experiment again to rebuild it")
    needed = tuple(f"{folder / name}" for name in PAGES)
    altered = [line for line in faults(folder) if not line.startswith(needed)]
    if altered:
        file, _, fault = altered[0].partition(": ")
        more = f" (and {len(altered) - 1} more)" if len(altered) > 1 else ""
        raise UserError(file, None, f"{fault}{more}", "an export is of what was evaluated: run the experiment again")


def check_ruleset(results: Results) -> None:
    """Raise UserError if the ruleset was changed since the run: prompts would be others than were evaluated."""
    recorded = ((results.provenance or {}).get("ruleset") or {}).get("sha256")
    if results.ruleset.is_observed:  # made by the run, and compared with its manifest
        return
    path = ROOT / results.config["ruleset"]
    if recorded and file_sha256(path) != recorded:
        raise UserError(path, None, "was changed since the run", "restore it, or run the experiment again")


def base_folder(manifest: dict, results_folder: Path) -> Path:
    """The folder with the base's files, sizes checked; raises UserError if it is not here any more.

    A manifest names the embedded model's folder relative to the project's; results that were moved keep `models`
    beside them.
    """
    if manifest["source"] == "package":
        named = Path(str(manifest.get("folder", "")))
        tried = [results_folder.parents[1] / named, results_folder.parent / "models" / named.name, named]
    else:
        tried = [model_folder(manifest, results_folder / "model.json")]
    folder = next((path for path in tried if (path / "config.json").is_file()), None)
    if folder is None:
        fault = f"the base model {manifest['id']} is not there"
        raise UserError(tried[0], None, fault, "run the experiment again, which prepares it, or put it back")
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise UserError(path, None, "is missing or was changed since the run", "prepare the base model again")
    return folder


def evaluated(chosen: Chosen, n: int | None = None) -> pl.DataFrame:
    """The evaluated answers that parity is held against: `application_id` and `p_<LABEL>`, the first `n` or all.

    Probabilities are those of structured decoding, whichever was asked for.
    """
    labels = chosen.results.labels
    rows = chosen.results.predictions(chosen.run).filter(**chosen.setting.columns)
    frame = rows.select("application_id", *(f"p_{label}" for label in labels)).collect()
    return frame if n is None else frame.head(n)
