"""A finished run that is asked or watched: named by its folder, a seed of it, a condition of it."""

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean
from hidden_rule.deployment.chosen import check_ruleset
from hidden_rule.experiment.results import Results
from hidden_rule.report.finished import read_finished


def read_run(folder: str, seed: str | None) -> tuple[Results, int]:
    """The results in a folder, and the seed that is meant, by default the first; raises UserError for what is none.

    A ruleset that was changed since the run is refused: prompts and rules would be others than the run's.
    """
    results = read_finished(folder, "RESULTS")
    check_ruleset(results)
    known = [str(one) for one in results.seeds]
    if seed is None or not seed.strip():
        return results, results.seeds[0]
    if seed.strip() not in known:
        raise UserError("SEED", None, f"{seed} is no seed of {folder}", f"known: {', '.join(known)}")
    return results, int(seed)


def condition_of(results: Results, name: str) -> str:
    """A condition by its name; raises UserError for one that the run does not have."""
    known = results.conditions
    if not name:
        raise UserError("CONDITION", None, "is missing", f"known: {', '.join(known)}")
    if name not in known:
        raise UserError(
            "CONDITION", None, f"{name} is no condition of {results.layout.folder}", did_you_mean(name, known)
        )
    return name
