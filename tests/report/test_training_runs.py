"""A verdict on training is not one on evaluation: what is sampled may never be answered."""

from types import SimpleNamespace

import polars as pl
import pytest

from hidden_rule.core.tables import METRICS
from hidden_rule.experiment.runs import Setting
from hidden_rule.report.text.training_runs import unanswered_sentences

LABELS = ["A", "B", "C"]
CASES = {"A": 50, "B": 50, "C": 0}  # applications for which each decision is correct
SAMPLED = "which takes the most probable decision, whereas training samples."


def results_of(answers: dict, decoding="structured"):
    """Results in which each (condition, seed) answered each decision so many times; all sampled all in training."""
    setting = Setting("holdout", decoding)
    rows = [
        (condition, seed, *setting, metric, label, None, None, None, n)
        for (condition, seed), of in answers.items()
        for label in LABELS
        for metric, n in (("precision", of[label]), ("recall", CASES[label]))
    ]
    collapse = pl.DataFrame([{"condition": c, "seed": s} for c, s in answers if c != "sft"])
    metrics = pl.DataFrame(rows, schema=METRICS, orient="row")
    return SimpleNamespace(metrics=metrics, main=setting, labels=LABELS, collapse=collapse)


EVERY, NO_B = {"A": 50, "B": 50, "C": 0}, {"A": 100, "B": 0, "C": 0}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({("grpo", 0): EVERY}, []),  # C is correct nowhere
        ({("sft", 0): NO_B}, []),  # nothing is sampled in SFT
        (
            {("grpo", 0): NO_B, ("grpo", 1): EVERY, ("grpo", 2): NO_B},
            [f"grpo (seeds 0 and 2) never answers B in evaluation (holdout, structured decoding), {SAMPLED}"],
        ),
    ],
)
def test_a_decision_that_is_sampled_and_never_answered_is_named(answers, expected):
    assert unanswered_sentences(results_of(answers)) == expected


def test_free_decoding_has_no_such_explanation():
    (sentence,) = unanswered_sentences(results_of({("grpo", 0): NO_B}, "free"))
    assert sentence == "grpo (seed 0) never answers B in evaluation (holdout, free decoding)."
