"""Sentences on label efficiency and label noise claim what the intervals support."""

from types import SimpleNamespace

import polars as pl
import pytest
from test_labels import ROWS, ROWS_METRICS, metrics_of, supervision_of

from hidden_rule.core.tables import COMPARISONS
from hidden_rule.experiment.runs import Setting, find_estimate
from hidden_rule.report.text.label_findings import label_sentences, supervision_cells
from hidden_rule.task.nouns import APPLICATION

MAIN = Setting("holdout", "structured")
NAMES = {"s_0": 0.0, "s_5": 0.05, "s_20": 0.2}  # a line of noise: conditions and their shares of wrong labels


def sentences(metrics, supervision, pairs=()):
    """`label_sentences` of these tables; pairs: (a, b, difference, half of its interval, p) of accuracies."""
    rows = [
        (a, b, None, *MAIN, "accuracy", None, difference, difference - half, difference + half, p, "t", 1000, p, 0.1)
        for a, b, difference, half, p in pairs
    ]
    results = SimpleNamespace(
        metrics=metrics,
        supervision=supervision,
        comparisons=pl.DataFrame(rows, schema=COMPARISONS, orient="row"),
        main=MAIN,
        chance=0.25,
        separate_rules=[],
        rules_apart=[None],
        ruleset=SimpleNamespace(hidden_rules=[], case=APPLICATION),
        estimate=lambda *of: find_estimate(metrics, *of),
    )
    return label_sentences(results)


def noise_of(shares):
    """METRICS and SUPERVISION of the line of noise with these accuracies."""
    noise = supervision_of(*[(name, "s", "sft", 50, p) for name, p in NAMES.items()])
    return metrics_of(dict(zip(NAMES, shares, strict=True))), noise


def test_conditions_that_are_no_line_make_no_sentence():
    alone = supervision_of(("a", "a", "sft", 25, 0.1), ("b", "b", "sft", 50, 0.1))
    assert sentences(metrics_of({"a": 0.5, "b": 0.6}), alone) == []
    assert sentences(ROWS_METRICS, None) == []


def test_sentences_on_labels():
    assert sentences(ROWS_METRICS, ROWS) == [
        "g did not learn the policy at any training-set size (tried: 25 and 400); highest accuracy 40.0% (95% CI "
        "38.0–42.0), at 400 labels.",
        "g is significantly above chance (25.0%) with 400 labels.",
        "g did not learn the hidden rule at any training-set size (tried: 25 and 400); highest recall 40.0% (95% CI "
        "38.0–42.0), precision 40.0% (95% CI 38.0–42.0), at 400 labels.",
        "s learned the policy with 100 labels (tried: 25, 100 and 400); fewest: 100, accuracy 90.0% (95% CI "
        "88.0–92.0).",
        "s learned the hidden rule with 100 labels (tried: 25, 100 and 400); fewest: 100, recall 90.0% (95% CI "
        "88.0–92.0), precision 90.0% (95% CI 88.0–92.0).",
        "Learned: 95% CI of accuracy, or of recall and precision on the hidden rule, at or above 80.0%.",
    ]


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        (
            [0.95, 0.9, 0.81],  # 0.81 − 0.02 lies below the level
            "s learned the policy with 0% and 5% wrong labels (tried: 0%, 5% and 20%); lowest failing level: 20%, "
            "accuracy 81.0% (95% CI 79.0–83.0).",
        ),
        (
            [0.95, 0.7, 0.9],  # not monotonic: stated as it is
            "s learned the policy with 0% and 20% wrong labels (tried: 0%, 5% and 20%); lowest failing level: 5%, "
            "accuracy 70.0% (95% CI 68.0–72.0).",
        ),
        ([0.95, 0.9, 0.83], "s learned the policy at every noise level (tried: 0%, 5% and 20%)."),
        (
            [0.26, 0.25, 0.2],
            "s did not learn the policy at any noise level (tried: 0%, 5% and 20%); highest accuracy 26.0% (95% CI "
            "24.0–28.0), at 0% wrong labels.",
        ),
    ],
)
def test_sentences_on_noise(shares, sentence):
    found = sentences(*noise_of(shares))
    assert found[0] == sentence
    assert ("s is nowhere significantly above chance (25.0%)." in found) == (max(shares) < 0.3)


@pytest.mark.parametrize(
    ("half", "p", "verdict"),
    [
        (0.05, 0.001, "significant at 20%"),
        (0.32, 0.18, "not significant at any level"),
        (0.05, 0.2, "not significant at"),
    ],
)
def test_a_loss_by_noise_is_judged_by_interval_and_p_value(half, p, verdict):
    """A learned verdict at 5% and not at 20% is no evidence that 20% is worse."""
    pairs = [("s_5", "s_0", -0.01, 0.2, 0.9), ("s_0", "s_20", 0.152, half, p), ("s_20", "s_5", -0.1, 0.01, 0.001)]
    found = sentences(*noise_of([0.95, 0.9, 0.7]), pairs)
    (loss,) = [sentence for sentence in found if "loss of accuracy" in sentence]
    assert loss.startswith(
        "s, loss of accuracy in points against 0% wrong labels: 1.0 at 5% (95% CI −19.0 to 21.0; p = 0.90)"
    )
    assert "15.2 at 20% (95% CI" in loss and verdict in loss


def test_a_rule_that_never_fires_is_left_out():
    noise = supervision_of(("s_0", "s", "sft", 50, 0.0), ("s_1", "s", "sft", 50, 0.1))
    found = sentences(metrics_of({"s_0": None, "s_1": None}), noise)
    assert not [sentence for sentence in found if "learn the hidden rule" in sentence]
    assert not [sentence for sentence in found if "learned the hidden rule" in sentence]


def test_the_table_of_supervision():
    _, columns, rows = supervision_cells(ROWS, ["base", "s_400", "g_25"])
    assert dict(zip(columns, rows[0], strict=True)) == {
        "condition": "s_400", "wrong labels": "0.0%", "labels": "400", "steps": "20", "sampled replies": "0",
        "bits in labels": "800", "bits in rewards": "–", "bits (upper bound)": "800",
    }  # fmt: skip
    assert rows[1][:5] == ["g_25", "0.0%", "25", "20", "200"] and len(rows) == 2
