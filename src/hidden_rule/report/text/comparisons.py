"""Which conditions differ, in sentences.

A pair of conditions is compared if it was planned (`experiment/planned_comparisons.py`): the rows of table COMPARISONS.
Nothing is said of the others.
"""

from collections import defaultdict

from hidden_rule.report.text.phrases import MANY, interval, listing, p_text, points
from hidden_rule.task.nouns import APPLICATION, CaseNouns

ALPHA = 0.05  # two conditions differ: adjusted p below this, and an interval of the difference without zero


def best_of(names, accuracies: dict) -> str:
    """The condition with the highest accuracy; of equal ones the first. accuracies: Estimate of each condition."""
    return max(names, key=lambda name: accuracies[name].value)


def differs(comparison: dict, p: str = "p_adjusted") -> bool:
    """Is this difference significant? Both the test and the interval have to say so.

    p: `p_adjusted` among all pairs that were planned, or `p_value` as if it were the only one.
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


def difference_sentences(of: str, comparisons: list[dict]) -> list[str]:
    """How the condition `of` differs from others; what several comparisons have in common is one sentence.

    That is, of many, those that it outperforms, and those that outperform it; of any number, those where no difference
    was detectable. comparisons: rows with `of` in each.
    """
    grouped: list[list[dict]] = []
    if len(comparisons) >= MANY:
        leads = {id(row): lead_over(of, row)[1] for row in comparisons if differs(row)}
        for sign in (1, -1):
            rows = [row for row in comparisons if sign * leads.get(id(row), 0.0) > 0]
            grouped += [rows] if len(rows) > 1 else []
    undetectable = [row for row in comparisons if not differs(row) and row["mde"] is not None and row["mde"] >= 1]
    undetectable = undetectable if len(undetectable) > 1 else []
    sentences = [group_sentence(of, rows) for rows in grouped]
    for row in comparisons:
        if not any(row in rows for rows in grouped):
            sentences.append(difference_sentence(row | {"mde": None} if row in undetectable else row))
    if undetectable:
        others = listing(lead_over(of, row)[0] for row in undetectable)
        sentences.append(f"The sample is too small to detect any difference between {of} and {others} with 80% power.")
    return sentences


def group_sentence(of: str, comparisons: list[dict]) -> str:
    """Conditions that `of` outperforms, or that outperform it: all of them do either."""
    names, leads, _ = zip(*(lead_over(of, row) for row in comparisons), strict=True)
    p = p_text(max(row["p_adjusted"] for row in comparisons))
    p = p if "<" in p else f"{p} or less"
    by = interval(*sorted((min(map(abs, leads)), max(map(abs, leads)))))
    who = f"{of} outperforms {listing(names)}" if leads[0] > 0 else f"{listing(names)} outperform {of}"
    return f"{who} by {by} points (each {p})."


def significance_sentences(
    best: str, comparisons: list[dict], n_seeds: int, nouns: CaseNouns = APPLICATION
) -> list[str]:
    """What was found of the planned comparisons, those of the best condition first, and the tests.

    Where all pairs were compared, those of the best condition answer which is best, and the others are left to tables.
    """
    of_best = [row for row in comparisons if best in pair_of(row)]
    others = [] if has_all_pairs(comparisons) else [row for row in comparisons if best not in pair_of(row)]
    against = compared_with_all(comparisons)
    sentences = difference_sentences(best, of_best)
    if against:
        sentences += difference_sentences(against, others)
    else:
        sentences += [difference_sentence(row) for row in others]
    return sentences + family_sentences(comparisons, n_seeds, nouns)


def pair_of(row: dict) -> tuple[str, str]:
    return row["condition_a"], row["condition_b"]


def other_than(name: str, row: dict) -> str:
    """The other condition of a comparison."""
    first, second = pair_of(row)
    return second if first == name else first


def compared_with_all(comparisons: list[dict]) -> str | None:
    """The condition that several others are compared with, each with it alone; None where pairs are others.

    comparisons: pooled rows of one metric and setting, a row a pair.
    """
    shared = set.intersection(*({*pair_of(row)} for row in comparisons)) if len(comparisons) > 1 else set()
    return next(iter(shared), None)


def has_all_pairs(comparisons: list[dict]) -> bool:
    """Is each pair of the conditions among the comparisons, a row a pair?"""
    n = len({name for row in comparisons for name in pair_of(row)})
    return len(comparisons) == n * (n - 1) // 2


def plan_words(comparisons: list[dict]) -> str:
    """Which pairs were planned: `all pairs`, or which conditions were compared with which; at most MANY are named."""
    if has_all_pairs(comparisons) and len(comparisons) > 1:
        return "all pairs"
    if len(comparisons) > MANY and not compared_with_all(comparisons):
        return f"{len(comparisons)} pairs"
    if against := compared_with_all(comparisons):
        others = [other_than(against, row) for row in comparisons]
        return f"{against} with {listing(others) if len(others) <= MANY else f'{len(others)} others'}"
    return listing(f"{first} with {second}" for first, second in map(pair_of, comparisons))


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


def family_sentences(comparisons: list[dict], n_seeds: int, nouns: CaseNouns = APPLICATION) -> list[str]:
    """Which comparisons were planned, and the tests behind their p-values; nothing where there are none."""
    if not comparisons:
        return []
    tests = {
        "mcnemar_exact": "exact McNemar test (one training seed)",
        "t_applications_seeds": f"t-test over {nouns.many} and {n_seeds} training seeds",
        "t_families": f"t-test over families of {nouns.many} (one training seed)",
        "t_families_seeds": f"t-test over families of {nouns.many} and {n_seeds} training seeds",
    }
    used = listing(dict.fromkeys(tests[row["test"]] for row in comparisons))
    if len(comparisons) == 1:
        return [f"p-values: {used}."]
    held = f"p-values: {used}; Holm correction for {len(comparisons)} comparisons"
    return [f"Planned comparisons: {plan_words(comparisons)}. {held}."]


def lead_over(best: str, row: dict) -> tuple[str, float, float]:
    """The other condition of a comparison, the lead of `best` over it and the largest lead that its interval allows."""
    row = turned(row, best)
    return row["condition_b"], row["difference"], row["ci_high"]


def rivals_of(best: str, pairs: list[dict]) -> list[tuple[str, float, float]]:
    """Conditions that are statistically tied with `best`, each with what `lead_over` says of it.

    Of one that is not compared with `best` nothing is known: see `untested`.
    """
    return [lead_over(best, row) for row in pairs if best in pair_of(row) and not differs(row)]


def untested(best: str, names, pairs: list[dict]) -> list[str]:
    """Those of the conditions `names` that no planned comparison compares with `best`."""
    compared = {name for row in pairs if best in pair_of(row) for name in pair_of(row)}
    return [name for name in names if name not in compared | {best}]
