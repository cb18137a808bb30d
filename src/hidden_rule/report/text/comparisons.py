"""Which conditions differ, in sentences."""

from collections import defaultdict

from hidden_rule.report.text.phrases import MANY, interval, listing, p_text, points

ALPHA = 0.05  # two conditions differ: adjusted p below this, and an interval of the difference without zero


def best_of(names, accuracies: dict) -> str:
    """The condition with the highest accuracy; of equal ones the first. accuracies: Estimate of each condition."""
    return max(names, key=lambda name: accuracies[name].value)


def differs(comparison: dict, p: str = "p_adjusted") -> bool:
    """Is this difference significant? Both the test and the interval have to say so.

    p: `p_adjusted` among all pairs that were compared, or `p_value` as if it were the only one looked at.
    """
    return comparison[p] < ALPHA and not comparison["ci_low"] <= 0 <= comparison["ci_high"]


def turned(comparison: dict, first: str) -> dict:
    """The comparison with `first`, one of its two conditions, as `condition_a`."""
    if comparison["condition_a"] == first:
        return comparison
    return comparison | {
        "condition_a": first,
        "condition_b": comparison["condition_a"],
        "difference": -comparison["difference"],
        "ci_low": -comparison["ci_high"],
        "ci_high": -comparison["ci_low"],
    }


def difference_sentence(comparison: dict) -> str:
    """Which of two conditions is better, by how much, and how sure that is."""
    better = comparison["condition_b" if comparison["difference"] < 0 else "condition_a"]
    row = turned(comparison, better)
    other, by = row["condition_b"], points(row["difference"])
    evidence = f"95% CI {interval(row['ci_low'], row['ci_high'])}; {p_text(row['p_adjusted'])}"
    if differs(row):
        return f"{better} outperforms {other} by {by} points ({evidence})."
    tied = "are statistically tied"
    if differs(row, "p_value"):
        tied = "are not significantly different after Holm correction"
        evidence += f", {p_text(row['p_value'])} without correction"
    return f"{better} and {other} {tied}: {by} points ({evidence}).{detectable_sentence(row['mde'])}"


def difference_sentences(best: str, comparisons: list[dict]) -> list[str]:
    """How `best` differs from each other condition; what several have in common is one sentence.

    That is, of many conditions, those that it outperforms; of any number, those where no difference was detectable.
    """
    outperformed = [row for row in comparisons if differs(row) and lead_over(best, row)[1] > 0]
    outperformed = outperformed if len(comparisons) >= MANY and len(outperformed) > 1 else []
    undetectable = [row for row in comparisons if not differs(row) and row["mde"] is not None and row["mde"] >= 1]
    undetectable = undetectable if len(undetectable) > 1 else []
    sentences = []
    if outperformed:
        names, leads, _ = zip(*(lead_over(best, row) for row in outperformed), strict=True)
        p = p_text(max(row["p_adjusted"] for row in outperformed))
        p = p if "<" in p else f"{p} or less"
        sentences.append(
            f"{best} outperforms {listing(names)} by {interval(min(leads), max(leads))} points (each {p})."
        )
    for row in comparisons:
        if row not in outperformed:
            sentences.append(difference_sentence(row | {"mde": None} if row in undetectable else row))
    if undetectable:
        others = listing(lead_over(best, row)[0] for row in undetectable)
        sentences.append(
            f"The sample is too small to detect any difference between {best} and {others} with 80% power."
        )
    return sentences


def with_leader(comparisons: list[dict]) -> list[dict]:
    """The comparisons with the condition that is ahead of all others in sum, each turned so that it is `condition_a`.

    comparisons: rows of one metric and setting; those of seeds are turned like the pooled ones, which alone decide.
    """
    ahead: dict[str, float] = defaultdict(float)
    for row in comparisons:
        if row["seed"] is None:
            ahead[row["condition_a"]] += row["difference"]
            ahead[row["condition_b"]] -= row["difference"]
    leader = max(ahead, key=lambda name: ahead[name])
    return [turned(row, leader) for row in comparisons if leader in (row["condition_a"], row["condition_b"])]


def detectable_sentence(mde: float | None) -> str:
    """The minimum detectable difference of a comparison; nothing where that is not known."""
    if mde is None:
        return ""
    if mde >= 1:
        return " The sample is too small to detect any difference with 80% power."
    return f" Minimum detectable difference: {points(mde)} points (80% power)."


def family_sentences(comparisons: list[dict], n_seeds: int) -> list[str]:
    """The tests behind the p-values of these comparisons; nothing where there are none."""
    if not comparisons:
        return []
    tests = {
        "mcnemar_exact": "exact McNemar test (one training seed)",
        "t_applications_seeds": f"t-test over applications and {n_seeds} training seeds",
        "t_families": "t-test over families of applications (one training seed)",
        "t_families_seeds": f"t-test over families of applications and {n_seeds} training seeds",
    }
    used = listing(dict.fromkeys(tests[row["test"]] for row in comparisons))
    held = f"; Holm correction for {len(comparisons)} comparisons" if len(comparisons) > 1 else ""
    return [f"p-values: {used}{held}."]


def lead_over(best: str, row: dict) -> tuple[str, float, float]:
    """The other condition of a comparison, the lead of `best` over it and the largest lead that its interval allows."""
    row = turned(row, best)
    return row["condition_b"], row["difference"], row["ci_high"]


def rivals_of(best: str, pairs: list[dict]) -> list[tuple[str, float, float]]:
    """Conditions that are statistically tied with `best`, each with what `lead_over` says of it."""
    return [
        lead_over(best, row) for row in pairs if best in (row["condition_a"], row["condition_b"]) and not differs(row)
    ]
