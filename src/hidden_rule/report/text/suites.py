"""Sentences on generalization suites, and what each suite and its metric is called."""

from dataclasses import dataclass

import polars as pl

from hidden_rule.experiment.runs import Estimate, Setting, find_estimate
from hidden_rule.report.text.phrases import listing
from hidden_rule.report.text.rule_learning import LEARNED
from hidden_rule.task.suites import KINDS, why_not


@dataclass(frozen=True)
class SuiteRow:
    """One metric on one suite, of all hidden rules or of one of several."""

    suite: str
    metric: str
    words: str  # in a table: what is shown, a colon, the metric
    topic: str  # in a sentence
    rule: str | None = None


SUITES = (
    SuiteRow("counterfactuals", "flip_rate", "counterfactual trigger: flip rate", "counterfactual triggers"),
    SuiteRow(
        "counterfactuals", "false_flip_rate", "irrelevant feature changed: false flip rate", "irrelevant features"
    ),
    SuiteRow("paraphrases", "accuracy", "paraphrased trigger: accuracy", "paraphrased triggers"),
    SuiteRow("decoys", "false_flip_rate", "decoys: false flip rate", "decoys"),
    SuiteRow("conflicts", "accuracy", "conflicting rules: accuracy", "conflicting rules"),
    SuiteRow("boundaries", "accuracy", "threshold values: accuracy", "threshold values"),
    SuiteRow("field_order", "false_flip_rate", "reordered fields: false flip rate", "field order"),
    SuiteRow("prevalence", "hidden_recall", "rare trigger: recall", "recall of a rare trigger"),
    SuiteRow("prevalence", "hidden_precision", "rare trigger: precision", "precision on a rare trigger"),
)
OF_ONE_RULE = {  # suite and metric: the metric of one hidden rule; where every row is one of a hidden rule, its recall
    ("counterfactuals", "flip_rate"): "flip_rate",
    ("paraphrases", "accuracy"): "hidden_recall",
    ("conflicts", "accuracy"): "hidden_recall",
    ("prevalence", "hidden_recall"): "hidden_recall",
    ("prevalence", "hidden_precision"): "hidden_precision",
}
NAMES = tuple(dict.fromkeys(row.suite for row in SUITES))


def suite_rows(rules: list[str]) -> list[SuiteRow]:
    """The rows of tables and charts: SUITES, each followed by those of `rules`: the hidden rules, if several."""
    return [one for row in SUITES for one in (row, *rows_of_rules(row, rules))]


def rows_of_rules(row: SuiteRow, rules: list[str]) -> list[SuiteRow]:
    """The rows of single hidden rules that belong to one of SUITES."""
    metric = OF_ONE_RULE.get((row.suite, row.metric))
    what, _, measure = row.words.partition(": ")
    return [
        SuiteRow(row.suite, metric, f"{what}, rule {rule}: {measure}", f"{row.topic} (rule {rule})", rule)
        for rule in rules
        if metric
    ]


def suite_verdict(row: Estimate, metric: str) -> str:
    """`holds` or `fails`: the interval (of 1 − a false flip rate) is at or above LEARNED, or below it; else `open`."""
    low, high = row.low, row.high
    if metric == "false_flip_rate":
        low, high = 1 - high, 1 - low
    return "holds" if low >= LEARNED else "fails" if high < LEARNED else "open"


def suite_findings(metrics: pl.DataFrame, condition: str, rules: list[str]) -> dict[str, list[str]]:
    """What a condition `holds`, `fails` and what stays `open`, in words; of each of `rules` where there are several."""
    decodings = metrics.filter(pl.col("suite").is_in(NAMES))["decoding"]
    found: dict[str, list[str]] = {"holds": [], "fails": [], "open": []}
    if decodings.is_empty():
        return found
    decoding = max(decodings.to_list())  # structured, if that was asked for
    for of in (one for row in SUITES for one in rows_of_rules(row, rules) or [row]):
        row = find_estimate(metrics, condition, Setting(of.suite, decoding), of.metric, of.rule)
        if row:
            found[suite_verdict(row, of.metric)].append(of.topic)
    return found


HEADS = {"fails": "fails", "holds": "passes", "open": "inconclusive on"}  # of what is said of a condition


def sentence_on(name: str, sentences: list[str]) -> str | None:
    """The one of `suite_sentences` that is about a condition; None where it was evaluated on no suite."""
    return next((one for one in sentences if one.startswith(tuple(f"{name} {head} " for head in HEADS.values()))), None)


def suite_sentences(metrics: pl.DataFrame, conditions, rules: list[str]) -> list[str]:
    """Which suites each of `conditions` passes and which it fails; nothing where it was evaluated on none."""
    sentences = []
    for name in conditions:
        found = suite_findings(metrics, name, rules)
        parts = [f"{head} {listing(found[key])}" for key, head in HEADS.items() if found[key]]
        if parts:
            sentences.append(f"{name} {'; '.join(parts)}.")
    if sentences:
        sentences.append(
            f"Pass: 95% CI at or above {LEARNED:.0%} (of a false flip rate: at or below {1 - LEARNED:.0%}). Fail: 95% "
            "CI entirely on the other side. Otherwise inconclusive."
        )
    return sentences


def left_out_sentences(ruleset, asked, evaluated) -> list[str]:
    """Which kinds of suites the ruleset does not allow, where others were evaluated; `asked` are the config's kinds."""
    if not set(KINDS) & set(evaluated):
        return []
    lacks = {kind: why_not(ruleset, kind) or ("allows no such family" if kind in asked else None) for kind in KINDS}
    reasons: dict[str, list[str]] = {}
    for kind, lack in lacks.items():
        if lack and kind not in evaluated:
            reasons.setdefault(lack, []).append(kind.replace("_", " "))
    return [f"Suites left out: {listing(kinds)} (the ruleset {lack})." for lack, kinds in reasons.items()]
