"""Which conditions differ, in sentences."""

from .wording import listing, p_text, points

ALPHA = 0.05  # two conditions differ: adjusted p below this, and an interval of the difference without zero


def best_of(names, accuracies: dict) -> str:
    """The condition with the highest accuracy; of equal ones the first. accuracies: row of each condition."""
    return max(names, key=lambda name: accuracies[name]["value"])


def differs(comparison: dict) -> bool:
    """Is this difference significant? Both the test and the interval have to say so."""
    return comparison["p_adjusted"] < ALPHA and not comparison["ci_low"] <= 0 <= comparison["ci_high"]


def difference_sentence(comparison: dict) -> str:
    """Which of two conditions is better, by how much, and how sure that is."""
    a, b, difference = comparison["condition_a"], comparison["condition_b"], comparison["difference"]
    low, high = comparison["ci_low"], comparison["ci_high"]
    if difference < 0:
        a, b, difference, low, high = b, a, -difference, -high, -low
    evidence = f"{points(low)} to {points(high)}; {p_text(comparison['p_adjusted'])}"
    if differs(comparison):
        return f"{a} beats {b} by {points(difference)} points ({evidence})."
    missed = missed_sentence(comparison["mde"])
    return f"{a} and {b} cannot be told apart: {points(difference)} points ({evidence}).{missed}"


def missed_sentence(mde: float | None) -> str:
    """What a comparison could have shown, by its minimal detectable effect; nothing where that is not known."""
    if mde is None:
        return ""
    if mde >= 1:
        return " There are too few applications or seeds to show any difference with such a chance as 80%."
    return f" A difference of {points(mde)} points would have been seen with a chance of some 80%."


def family_sentences(comparisons: list[dict], n_seeds: int) -> list[str]:
    """How the p-values of these comparisons were made; nothing where there are none."""
    if not comparisons:
        return []
    tests = {
        "mcnemar_exact": "exact McNemar tests of one training seed",
        "t_applications_seeds": f"t-tests over applications and {n_seeds} training seeds",
        "t_families": "t-tests over families of applications, of one training seed",
        "t_families_seeds": f"t-tests over families of applications and {n_seeds} training seeds",
    }
    used = listing(dict.fromkeys(tests[row["test"]] for row in comparisons))
    held = f", adjusted for {len(comparisons)} comparisons (Holm)" if len(comparisons) > 1 else ""
    return [f"The p-values are of {used}{held}."]


def lead_over(best: str, row: dict) -> tuple[str, float, float]:
    """The other condition of a comparison, the lead of `best` over it and the largest lead that its interval allows."""
    if row["condition_a"] == best:
        return row["condition_b"], row["difference"], row["ci_high"]
    return row["condition_a"], -row["difference"], -row["ci_low"]


def rivals_of(best: str, pairs: list[dict]) -> list[tuple[str, float, float]]:
    """Conditions that cannot be told apart from `best`, each with what `lead_over` says of it."""
    return [
        lead_over(best, row) for row in pairs if best in (row["condition_a"], row["condition_b"]) and not differs(row)
    ]
