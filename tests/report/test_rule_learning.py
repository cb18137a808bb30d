"""Verdicts on the policy, the hidden rule and suites look at intervals."""

import polars as pl
import pytest

from hidden_rule.core.tables import METRICS
from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.text.rule_learning import (
    OnHiddenRule,
    hidden_sentences,
    hidden_verdict,
    policy_sentences,
    policy_verdict,
)
from hidden_rule.report.text.suites import sentence_on, suite_sentences, suite_verdict
from synthetic import make_ruleset

RULESET = make_ruleset(4)


def row(low, value, high, n=1000):
    return Estimate(value, low, high, n)


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.86, 0.88, 0.90, "learned"),
        (0.78, 0.82, 0.86, "partly"),  # the value is above the threshold, the interval is not
        (0.30, 0.34, 0.38, "partly"),
        (0.24, 0.28, 0.32, "chance"),
        (0.10, 0.15, 0.20, "below"),
    ],
)
def test_policy_verdict_looks_at_the_interval(low, value, high, verdict):
    assert policy_verdict(row(low, value, high), 0.25) == verdict


@pytest.mark.parametrize(
    ("recall", "precision", "verdict"),
    [
        (row(0.9, 0.95, 0.98), row(0.85, 0.9, 0.95), "learned"),
        (row(0.0, 0.05, 0.12), row(0.5, 0.9, 0.99), "missed"),
        (row(1.0, 1.0, 1.0), row(0.22, 0.25, 0.28), "no_evidence"),  # it always answers with that label
        (row(0.2, 0.25, 0.3), row(0.2, 0.25, 0.3), "no_evidence"),  # it guesses
        (row(0.9, 0.95, 0.98), row(0.4, 0.5, 0.6), "over_applied"),
        (row(0.4, 0.5, 0.6), row(0.7, 0.8, 0.9), "partly"),
        (row(0.4, 0.5, 0.6), None, "no_evidence"),
        (None, None, "unknown"),
    ],
)
def test_hidden_verdict(recall, precision, verdict):
    assert hidden_verdict(recall, precision, 0.25) == verdict


def test_no_sign_is_said_with_and_without_answers_of_that_kind():
    rules = [
        OnHiddenRule(None, {"a": row(0.4, 0.5, 0.6)}, {"a": precision}, {"a": 0.25})
        for precision in (None, row(0.2, 0.25, 0.3))
    ]
    said = [hidden_sentences(["a"], [of])[0] for of in rules]
    assert said[0].endswith("and no answer that only this rule explains.")
    assert said[1].endswith("precision 25.0% (95% CI 20.0–30.0) is not significantly above the base rate (25.0%).")


@pytest.mark.parametrize(
    ("low", "high", "metric", "verdict"),
    [
        (0.85, 0.95, "flip_rate", "holds"),
        (0.2, 0.4, "accuracy", "fails"),
        (0.7, 0.9, "accuracy", "open"),
        (0.02, 0.15, "false_flip_rate", "holds"),
        (0.3, 0.5, "false_flip_rate", "fails"),
        (0.1, 0.3, "false_flip_rate", "open"),
    ],
)
def test_suite_verdict(low, high, metric, verdict):
    assert suite_verdict(Estimate(low, low, high, 40), metric) == verdict


def test_suites_in_words():
    rows = [
        ("a", "decoys", "false_flip_rate", 0.5, 0.4, 0.6), ("a", "paraphrases", "accuracy", 0.95, 0.9, 0.97),
        ("a", "conflicts", "accuracy", 0.8, 0.7, 0.9), ("b", "paraphrases", "accuracy", 0.1, 0.05, 0.2),
        ("b", "test", "accuracy", 0.1, 0.05, 0.2),
    ]  # fmt: skip
    rows = [(c, None, s, "structured", m, None, None, v, low, high, 80) for c, s, m, v, low, high in rows]
    metrics = pl.DataFrame(rows, schema=METRICS, orient="row")
    said = suite_sentences(metrics, ["a", "b"], [])
    assert said[:2] == [
        "a fails decoys; passes paraphrased triggers; inconclusive on conflicting rules.",
        "b fails paraphrased triggers.",
    ]
    assert sentence_on("b", said) == said[1] and sentence_on("c", said) is None
    assert sentence_on("a", ["a → b passes decoys.", "a fails decoys."]) == "a fails decoys."
    assert said[2].startswith("Pass: 95% CI at or above 80% (of a false flip rate: at or below 20%).")
    assert suite_sentences(metrics.filter(suite="test"), ["a", "b"], []) == []


def of_accuracy(value, low, high):
    return Estimate(value, low, high, 100)


def test_many_conditions_are_told_in_groups():
    names = [f"c{i}" for i in range(9)]
    good, half, guess = of_accuracy(0.9, 0.85, 0.95), of_accuracy(0.5, 0.4, 0.6), of_accuracy(0.25, 0.2, 0.3)
    accuracies = dict(zip(names, [good, *[half] * 4, *[guess] * 4], strict=True))
    assert policy_sentences(names, accuracies, 0.25) == [
        "Learned (accuracy): c0 (90.0%).",
        "Partly learned (chance: 25.0%): c1 (50.0%), c2 (50.0%), c3 (50.0%), c4 (50.0%).",
        "Not significantly different from chance: c5 (25.0%), c6 (25.0%), c7 (25.0%), c8 (25.0%).",
    ]
    assert policy_sentences(names[:8], accuracies, 0.25)[0] == (
        "c0 learned the policy: accuracy 90.0% (95% CI 85.0–95.0)."
    )
    missed, rates = of_accuracy(0.0, 0.0, 0.1), dict.fromkeys(names, 0.25)
    recalls = dict(zip(names, [good, good, *[missed] * 7], strict=True))
    precisions = dict(zip(names, [good, guess, *[None] * 7], strict=True))
    said = hidden_sentences(names, [OnHiddenRule(None, recalls, precisions, rates)])
    assert said[0] == "Learned (recall, precision): c0 (90.0%, 90.0%)."
    assert said[1] == "No evidence, as precision is not significantly above the base rate: c1 (90.0%, 25.0%)."
    assert said[2].startswith("Not learned: c2 (0.0%, –), c3 ")
