"""What a reader must know of a run before its numbers: of how many seeds it is, and that it is a smoke test."""

from hidden_rule.experiment.results import Results

SMOKE = "smoke test: numbers mean nothing"
ONE_SEED = "one seed: not for decisions"


def badges(results: Results) -> list[str]:
    """The badges of a run, the gravest first; none of a comparison over several seeds.

    A config that was resolved before `purpose` was a key has none of it, and is a comparison.
    """
    smoke = [SMOKE] if results.config.get("purpose") == "smoke" else []
    return smoke + ([ONE_SEED] if len(results.seeds) == 1 else [])
