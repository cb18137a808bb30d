"""Sentences on what each condition learned: the policy, the hidden rule, generalization suites, free decoding."""

import polars as pl

from hidden_rule.experiment.runs import Estimate, Setting, find_estimate
from hidden_rule.report.text.phrases import MANY, listing, percent, with_interval

LEARNED = 0.80  # learned: the interval lies at or above this share of correct answers
MISSED = 0.20  # the hidden rule is missed: the interval of its recall lies at or below this
SUITES = {  # suite and its metric: what that is, in a table and in a sentence
    ("counterfactuals", "flip_rate"): ("counterfactual trigger: flip rate", "counterfactual triggers"),
    ("counterfactuals", "false_flip_rate"): ("irrelevant feature changed: false flip rate", "irrelevant features"),
    ("paraphrases", "accuracy"): ("paraphrased trigger: accuracy", "paraphrased triggers"),
    ("decoys", "false_flip_rate"): ("decoys: false flip rate", "decoys"),
    ("conflicts", "accuracy"): ("conflicting rules: accuracy", "conflicting rules"),
    ("boundaries", "accuracy"): ("threshold values: accuracy", "threshold values"),
    ("field_order", "false_flip_rate"): ("reordered fields: false flip rate", "field order"),
    ("prevalence", "hidden_recall"): ("rare trigger: recall", "recall of a rare trigger"),
    ("prevalence", "hidden_precision"): ("rare trigger: precision", "precision on a rare trigger"),
}


def policy_verdict(accuracy: Estimate, chance: float) -> str:
    """`learned`, `partly`, `chance` or `below` chance."""
    if accuracy.high < chance:
        return "below"
    if accuracy.low <= chance:
        return "chance"
    return "learned" if accuracy.low >= LEARNED else "partly"


def policy_sentence(condition: str, accuracy: Estimate, chance: float) -> str:
    """Did this condition learn the policy?"""
    value, guess = with_interval(accuracy), percent(chance)
    return {
        "learned": f"{condition} learned the policy: accuracy {value}.",
        "partly": f"{condition} learned part of the policy: accuracy {value}; chance: {guess}.",
        "chance": f"{condition} is not significantly different from chance ({guess}): accuracy {value}.",
        "below": f"{condition} is worse than chance ({guess}): accuracy {value}.",
    }[policy_verdict(accuracy, chance)]


def in_groups(verdicts: dict[str, str], heads: dict[str, str], values: dict[str, str]) -> list[str]:
    """A sentence for each verdict that was reached: its head and the conditions of that verdict, with their values."""
    return [
        f"{head}: {', '.join(f'{name} ({values[name]})' for name in names)}."
        for verdict, head in heads.items()
        if (names := [name for name, reached in verdicts.items() if reached == verdict])
    ]


def policy_sentences(conditions, accuracies: dict[str, Estimate], chance: float) -> list[str]:
    """Who learned the policy? A sentence a condition, or of many a sentence a verdict."""
    if len(conditions) <= MANY:
        return [policy_sentence(name, accuracies[name], chance) for name in conditions]
    heads = {
        "learned": "Learned (accuracy)",
        "partly": f"Partly learned (chance: {percent(chance)})",
        "chance": "Not significantly different from chance",
        "below": "Worse than chance",
    }
    verdicts = {name: policy_verdict(accuracies[name], chance) for name in conditions}
    return in_groups(verdicts, heads, {name: percent(accuracies[name].value) for name in conditions})


def hidden_verdict(recall: Estimate | None, precision: Estimate | None, base_rate: float) -> str:
    """`learned`, `missed`, `no_evidence`, `over_applied`, `partly`, or `unknown` where the hidden rule never fires.

    base_rate: share of applications on which a hidden rule fires, which is the precision of answering at random.
    """
    if recall is None:
        return "unknown"
    if recall.high <= MISSED:
        return "missed"
    if precision is None or precision.low <= base_rate:
        return "no_evidence"
    if recall.low >= LEARNED:
        return "learned" if precision.low >= LEARNED else "over_applied"
    return "partly"


def hidden_sentence(condition: str, recall: Estimate | None, precision: Estimate | None, base_rate: float) -> str:
    """Did this condition learn the hidden rule?"""
    found, correct = f"recall {with_interval(recall)}", f"precision {with_interval(precision)}"
    if precision is None:
        doubt = "and no answer that only this rule explains"
    else:
        doubt = f"but {correct} is not significantly above the base rate ({percent(base_rate)})"
    return {
        "learned": f"{condition} learned the hidden rule: {found}, {correct}.",
        "missed": f"{condition} did not learn the hidden rule: {found}.",
        "no_evidence": f"{condition} shows no evidence of the hidden rule: {found}, {doubt}.",
        "over_applied": f"{condition} over-applies the hidden rule: {correct}, {found}.",
        "partly": f"{condition} partly learned the hidden rule: {found}, {correct}.",
        "unknown": f"{condition}: the hidden rule applies to no application here and is untested.",
    }[hidden_verdict(recall, precision, base_rate)]


def hidden_sentences(conditions, recalls: dict, precisions: dict, base_rates: dict[str, float]) -> list[str]:
    """Who learned the hidden rule? A sentence a condition, or of many a sentence a verdict."""
    if len(conditions) <= MANY:
        return [hidden_sentence(name, recalls[name], precisions[name], base_rates[name]) for name in conditions]
    heads = {
        "learned": "Learned (recall, precision)",
        "over_applied": "Over-applied",
        "partly": "Partly learned",
        "no_evidence": "No evidence, as precision is not significantly above the base rate",
        "missed": "Not learned",
        "unknown": "Untested, as it applies to no application here",
    }
    verdicts = {name: hidden_verdict(recalls[name], precisions[name], base_rates[name]) for name in conditions}
    rows = {name: [row[name] for row in (recalls, precisions)] for name in conditions}
    values = {
        name: ", ".join("–" if row is None else percent(row.value) for row in pair) for name, pair in rows.items()
    }
    return in_groups(verdicts, heads, values)


def free_sentence(condition: str, accuracy: Estimate, invalid: Estimate) -> str:
    """Accuracy and invalid replies of a condition under free decoding."""
    return f"{condition}: accuracy {with_interval(accuracy)}; invalid replies {with_interval(invalid)}."


def suite_verdict(row: Estimate, metric: str) -> str:
    """`holds` or `fails`: the interval (of 1 − a false flip rate) is at or above LEARNED, or below it; else `open`."""
    low, high = row.low, row.high
    if metric == "false_flip_rate":
        low, high = 1 - high, 1 - low
    return "holds" if low >= LEARNED else "fails" if high < LEARNED else "open"


def suite_findings(metrics: pl.DataFrame, condition: str) -> dict[str, list[str]]:
    """What a condition `holds`, `fails` and what stays `open`, in words."""
    decodings = metrics.filter(pl.col("suite").is_in([suite for suite, _ in SUITES]))["decoding"]
    found: dict[str, list[str]] = {"holds": [], "fails": [], "open": []}
    if decodings.is_empty():
        return found
    decoding = max(decodings.to_list())  # structured, if that was asked for
    for (suite, metric), (_, words) in SUITES.items():
        row = find_estimate(metrics, condition, Setting(suite, decoding), metric)
        if row:
            found[suite_verdict(row, metric)].append(words)
    return found


def suite_sentences(metrics: pl.DataFrame, conditions) -> list[str]:
    """Which suites each of `conditions` passes and which it fails; nothing where it was evaluated on none."""
    sentences = []
    for name in conditions:
        found = suite_findings(metrics, name)
        heads = {"fails": "fails", "holds": "passes", "open": "inconclusive on"}
        parts = [f"{head} {listing(found[key])}" for key, head in heads.items() if found[key]]
        if parts:
            sentences.append(f"{name} {'; '.join(parts)}.")
    if sentences:
        sentences.append(
            f"Pass: 95% CI at or above {LEARNED:.0%} (of a false flip rate: at or below {1 - LEARNED:.0%}). Fail: 95% "
            "CI entirely on the other side. Otherwise inconclusive."
        )
    return sentences
