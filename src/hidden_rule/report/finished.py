"""The results of a finished run that a person names by its folder; anything else is refused in one line."""

from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.paths import ROOT
from hidden_rule.experiment.results import Results
from hidden_rule.report.recorded import read_record
from hidden_rule.report.text.phrases import listing
from hidden_rule.task.ruleset import load_ruleset

TABLES = ("metrics.parquet", "comparisons.parquet", "costs.parquet")
PROVENANCE = "provenance.json"
REMEDY = "name the folder of a finished run, as in results/laptop"


def read_finished(folder, named: str = "") -> Results:
    """The results in `folder`; named: the variable of `make` that names it, for messages.

    Raises UserError for what is no folder, no results folder or an unfinished run, and for damaged provenance.
    """
    if not str(folder).strip():
        raise UserError(named or "folder", None, "names no folder", REMEDY)
    path = Path(folder)
    if not path.is_dir():
        raise UserError(path, named, "is a file" if path.exists() else "does not exist", REMEDY)
    missing = [name for name in (*TABLES, PROVENANCE) if not (path / name).is_file()]
    if len(missing) > len(TABLES):
        started = any((path / part).is_dir() for part in ("data", "logs", "training"))
        fault = "holds a run that is not finished" if started else "is no results folder"
        raise UserError(path, named, f"{fault}: it has no {listing(missing)}", REMEDY)
    if missing:
        raise UserError(path, named, f"holds a run that is not finished: it has no {listing(missing)}", REMEDY)
    config = read_record(path / PROVENANCE)["config"]
    own = path / "data" / Path(config["ruleset"]).name  # of own cases: one of the results, which may be moved
    is_own = config["data"].get("source") == "file" and own.is_file()
    results = Results(path, config, ruleset=load_ruleset(own if is_own else ROOT / config["ruleset"]))
    try:
        results.settings  # noqa: B018 # what conditions and methods say of each other, once
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        fault = f"is damaged: {type(error).__name__} {error}"
        raise UserError(path / PROVENANCE, "config.conditions", fault, "run the experiment again") from error
    return results
