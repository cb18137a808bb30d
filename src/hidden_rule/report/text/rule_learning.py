"""What each condition learnt and did not, in sentences: the policy, the hidden rule, the suites, free replies."""

import polars as pl

from hidden_rule.experiment.runs import Estimate, Setting, find_estimate
from hidden_rule.report.text.phrases import MANY, listing, percent, with_interval

LEARNT = 0.80  # learnt: the interval lies at or above this share of right answers
MISSED = 0.20  # the hidden rule is missed: the interval of its recall lies at or below this
SUITES = {  # suite and its metric: what that is, in a table and in a sentence
    ("counterfactuals", "flip_rate"): (
        "counterfactual pairs: the answer follows the hidden rule's feature",
        "changes of the hidden rule's feature",
    ),
    ("counterfactuals", "false_flip_rate"): (
        "counterfactual pairs: it changes with a feature that means nothing",
        "changes of a feature that means nothing",
    ),
    ("paraphrases", "accuracy"): ("the trigger in other words: right", "the trigger in other words"),
    ("decoys", "false_flip_rate"): (
        "words like the trigger, or another harmless value: the answer changes",
        "words like the trigger or another harmless value",
    ),
    ("conflicts", "accuracy"): ("the hidden rule against another: right", "the hidden rule against another"),
    ("boundaries", "accuracy"): ("at a threshold and one step beside it: right", "thresholds"),
    ("field_order", "false_flip_rate"): (
        "the fields in another order: the answer changes",
        "the fields in another order",
    ),
    ("prevalence", "hidden_recall"): ("the trigger is rare: found", "finding a rare trigger"),
    ("prevalence", "hidden_precision"): (
        "the trigger is rare: right where it is claimed",
        "claiming a rare trigger only where it is",
    ),
}


def policy_verdict(accuracy: Estimate, chance: float) -> str:
    """`learnt`, `partly`, `chance` or `below` chance."""
    if accuracy.high < chance:
        return "below"
    if accuracy.low <= chance:
        return "chance"
    return "learnt" if accuracy.low >= LEARNT else "partly"


def policy_sentence(condition: str, accuracy: Estimate, chance: float) -> str:
    """Did this condition learn the policy?"""
    value, guess = with_interval(accuracy), percent(chance)
    return {
        "learnt": f"{condition} learnt the policy: {value} of its decisions are right.",
        "partly": f"{condition} learnt a part of the policy: {value} of its decisions are right, chance is {guess}.",
        "chance": f"{condition} cannot be told apart from chance ({guess}): {value} of its decisions are right.",
        "below": f"{condition} does worse than chance ({guess}): {value} of its decisions are right.",
    }[policy_verdict(accuracy, chance)]


def in_groups(verdicts: dict[str, str], heads: dict[str, str], values: dict[str, str]) -> list[str]:
    """A sentence for each verdict that was reached: its head and the conditions of that verdict, with their values."""
    return [
        f"{head}: {', '.join(f'{name} ({values[name]})' for name in names)}."
        for verdict, head in heads.items()
        if (names := [name for name, reached in verdicts.items() if reached == verdict])
    ]


def policy_sentences(conditions, accuracies: dict[str, Estimate], chance: float) -> list[str]:
    """Who learnt the policy? A sentence a condition, or of many a sentence a verdict."""
    if len(conditions) <= MANY:
        return [policy_sentence(name, accuracies[name], chance) for name in conditions]
    heads = {
        "learnt": "Learnt, by the share of decisions that are right",
        "partly": f"Learnt in part (chance is {percent(chance)})",
        "chance": "Not to be told apart from chance",
        "below": "Worse than chance",
    }
    verdicts = {name: policy_verdict(accuracies[name], chance) for name in conditions}
    return in_groups(verdicts, heads, {name: percent(accuracies[name].value) for name in conditions})


def hidden_verdict(recall: Estimate | None, precision: Estimate | None, base_rate: float) -> str:
    """`learnt`, `missed`, `no_sign`, `too_wide`, `partly`, or `unknown` where the hidden rule never fires.

    base_rate: share of applications on which a hidden rule fires, which is the precision of answering at random.
    """
    if recall is None or recall.value is None:
        return "unknown"
    if recall.high <= MISSED:
        return "missed"
    if precision is None or precision.value is None or precision.low <= base_rate:
        return "no_sign"
    if recall.low >= LEARNT:
        return "learnt" if precision.low >= LEARNT else "too_wide"
    return "partly"


def hidden_sentence(condition: str, recall: Estimate | None, precision: Estimate | None, base_rate: float) -> str:
    """Did this condition learn the hidden rule?"""
    found, right = with_interval(recall), with_interval(precision)
    if right == "–":
        but = "none of its answers needs this rule to be explained"
    else:
        chance = f"which chance ({percent(base_rate)}) can explain"
        but = f"of the answers that only this rule explains {right} are right, {chance}"
    return {
        "learnt": f"{condition} learnt the hidden rule: it finds {found} of its cases, and {right} of the answers that "
        "only this rule explains are right.",
        "missed": f"{condition} did not learn the hidden rule: it finds {found} of its cases.",
        "no_sign": f"{condition} shows no sign of the hidden rule: it gets {found} of its cases right, but {but}.",
        "too_wide": f"{condition} finds {found} of the hidden rule's cases but cannot be said to keep to them: {right} "
        "of the answers that only this rule explains are right.",
        "partly": f"{condition} learnt a part of the hidden rule: it finds {found} of its cases, and {right} of the "
        "answers that only this rule explains are right.",
        "unknown": f"Nothing can be said about {condition} and the hidden rule: it fires on no application here.",
    }[hidden_verdict(recall, precision, base_rate)]


def hidden_sentences(conditions, recalls: dict, precisions: dict, base_rates: dict[str, float]) -> list[str]:
    """Who learnt the hidden rule? A sentence a condition, or of many a sentence a verdict."""
    if len(conditions) <= MANY:
        return [hidden_sentence(name, recalls[name], precisions[name], base_rates[name]) for name in conditions]
    heads = {
        "learnt": "Learnt (recall, precision)",
        "too_wide": "Its cases found, but others taken for them",
        "partly": "Learnt in part",
        "no_sign": "No sign of it, the precision being one that chance explains",
        "missed": "Not learnt",
        "unknown": "Nothing can be said, since it fires on no application here",
    }
    verdicts = {name: hidden_verdict(recalls[name], precisions[name], base_rates[name]) for name in conditions}
    rows = {name: [row[name] for row in (recalls, precisions)] for name in conditions}
    values = {
        name: ", ".join("–" if row is None or row.value is None else percent(row.value) for row in pair)
        for name, pair in rows.items()
    }
    return in_groups(verdicts, heads, values)


def free_sentence(condition: str, accuracy: Estimate, invalid: Estimate) -> str:
    """How a condition does when nothing keeps its replies in form."""
    return (
        f"{condition}: {with_interval(accuracy)} right; {with_interval(invalid)} of its replies are no valid decision."
    )


def suite_verdict(row: Estimate, metric: str) -> str:
    """`holds` or `fails`: the interval (of 1 − a false flip rate) is at or above LEARNT, or below it; else `open`."""
    low, high = row.low, row.high
    if metric == "false_flip_rate":
        low, high = 1 - high, 1 - low
    return "holds" if low >= LEARNT else "fails" if high < LEARNT else "open"


def suite_findings(metrics: pl.DataFrame, condition: str) -> dict[str, list[str]]:
    """What a condition `holds`, `fails` and what stays `open`, in words."""
    decodings = metrics.filter(pl.col("suite").is_in([suite for suite, _ in SUITES]))["decoding"].unique()
    found = {"holds": [], "fails": [], "open": []}
    if decodings.is_empty():
        return found
    for (suite, metric), (_, words) in SUITES.items():
        row = find_estimate(metrics, condition, Setting(suite, decodings.max()), metric)
        if row and row.value is not None:
            found[suite_verdict(row, metric)].append(words)
    return found


def suite_sentences(metrics: pl.DataFrame, conditions) -> list[str]:
    """Which suites each of `conditions` passes and which it fails; nothing where none was put to it."""
    sentences = []
    for name in conditions:
        found = suite_findings(metrics, name)
        heads = {"fails": "fails on", "holds": "holds up on", "open": "leaves open"}
        parts = [f"{head} {listing(found[key])}" for key, head in heads.items() if found[key]]
        if parts:
            sentences.append(f"{name} {'; '.join(parts)}.")
    if sentences:
        sentences.append(
            f"What holds up has its whole interval at or above {LEARNT:.0%} right, what fails below it (where answers "
            f"should stay: at or below {1 - LEARNT:.0%} changed, and above it)."
        )
    return sentences
