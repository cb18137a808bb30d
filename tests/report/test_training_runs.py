"""Sentences on training: reward signal, collapse, early stops, validation; and what is sampled but never answered."""

from types import SimpleNamespace

import polars as pl
import pytest

from hidden_rule.core.tables import HISTORY, METRICS
from hidden_rule.experiment.runs import Run, Setting
from hidden_rule.report.text.training_runs import (
    feasibility_sentence,
    first_samples_sentence,
    still_rising,
    stopped_sentences,
    unanswered_sentences,
    validation_sentences,
)
from hidden_rule.statistics.feasibility import HIDDEN, OVERALL, Subset
from hidden_rule.task.nouns import CaseNouns

LABELS = ["A", "B", "C"]
CASES = {"A": 50, "B": 50, "C": 0}  # applications for which each decision is correct
SAMPLED = "which takes the most probable decision, whereas training samples."


def results_of(answers: dict, decoding="structured"):
    """Results in which each (condition, seed) answered each decision so many times; all sampled all in training."""
    setting = Setting("holdout", decoding)
    rows = [
        (condition, seed, *setting, metric, label, None, None, None, None, n)
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


def subsets(all_signal, p_right, **right_shares):
    rows = {OVERALL: {"signal_share": all_signal, "p_right": p_right, "p_invalid": 0.0, "right_share": 1.0}}
    subsets = {"hidden": HIDDEN}
    return rows | {subsets.get(name, Subset("label", name)): {"right_share": s} for name, s in right_shares.items()}


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            subsets(0.56, 0.25, hidden=0.6, A=0.9),
            "have mixed rewards, and most groups of each decision contain a correct reply.",
        ),
        (
            subsets(0.56, 0.25, hidden=0.264, A=0.9, B=0.113),
            "have mixed rewards; groups with a correct reply to reinforce are rare (26.4% for the hidden rule, 11.3% "
            "for B).",
        ),
        (
            subsets(0.04, 0.99, hidden=1.0, A=1.0),
            "only 4.0% of the first groups of 8 have mixed rewards (almost no learning signal); 99.0% of replies are "
            "correct.",
        ),
    ],
)
def test_feasibility_in_words(of, words):
    sentence = feasibility_sentence("grpo", "baseline", 8, of)
    assert sentence.startswith("grpo (start: baseline): ") and sentence.endswith(words)


@pytest.mark.parametrize(
    ("samples", "of", "sentence"),
    [
        (8, {"hidden": 0.6, "A": 0.9}, "83.0% of cases have a correct reply among the first 8 samples."),
        (
            1,
            {"hidden": 0.264, "A": 0.9, "B": 0.113},
            "83.0% of cases have a correct reply as the first sample; only 26.4% for the hidden rule and 11.3% for B.",
        ),
    ],
)
def test_the_first_samples_in_words(samples, of, sentence):
    of = subsets(0.5, 0.25, **of)
    of[OVERALL]["right_share"] = 0.83
    said = first_samples_sentence("rft", "baseline", samples, of, CaseNouns("case", "cases"))
    assert said == f"rft (start: baseline): {sentence}"


def test_a_training_that_was_stopped_is_named():
    rows = [(step, 0.0, 0, "zero_signal_share", None, 1.0) for step in range(1, 5)]
    stopped = pl.DataFrame([*rows, (4, 0.0, 0, "stopped_without_signal", None, 4.0)], schema=HISTORY, orient="row")
    timed = pl.DataFrame([*rows, (4, 0.0, 0, "stopped_by_time_limit", None, 2.5)], schema=HISTORY, orient="row")
    empty = pl.DataFrame([(1, 0.0, 0, "stopped_without_samples", None, 8.0)], schema=HISTORY, orient="row")
    other = pl.DataFrame(rows, schema=HISTORY, orient="row")
    histories = {
        Run("d", 0, "rft"): empty,
        Run("a", 0, "grpo"): other,
        Run("b", 1, "grpo"): stopped,
        Run("c", 0, "sft"): timed,
    }
    assert stopped_sentences(histories) == [
        "d (seed 0) was stopped after step 1: none of 8 replies sampled to each training prompt was of use.",
        "b (seed 1) was stopped after step 4: no group had mixed rewards for 4 steps.",
        "c (seed 0) was stopped after step 4: time limit of 2.5 minutes reached.",
    ]


def validated(*values, stopped=False):
    rows = [(i, 0.0, 0, "validation_accuracy", None, value) for i, value in enumerate(values)]
    rows += [(len(values), 0.0, 0, "stopped_without_signal", None, 50.0)] if stopped else []
    return pl.DataFrame(rows, schema=HISTORY, orient="row")


def test_training_in_words_and_what_was_still_rising():
    histories = {
        Run("up", 0, "sft"): validated(0.2, 0.5, 0.8),
        Run("flat", 0, "sft"): validated(0.3, 0.88, 0.9),
        Run("stopped", 0, "grpo"): validated(0.2, 0.8, stopped=True),
        Run("none", 0, "sft"): validated(0.5),
    }
    assert validation_sentences(histories) == [
        "up: validation accuracy 20.0% → 80.0%; +30.0 points in the last epoch.",
        "flat: validation accuracy 30.0% → 90.0%; +2.0 points in the last epoch.",
        "stopped: validation accuracy 20.0% → 80.0%.",
    ]
    nine = {Run(f"c{i}", 0, "sft"): validated(0.2, 0.5, 0.8) for i in range(8)}
    (said,) = validation_sentences(nine | {Run("c8", 0, "sft"): validated(0.3, 0.25, 0.2)})
    assert "points): c0 20.0% → 80.0% (+30.0), c1 20.0%" in said
    assert said.endswith("c7 20.0% → 80.0% (+30.0), c8 30.0% → 20.0% (−5.0).")
    assert still_rising(histories, 160) == ["up"]
    assert still_rising(histories, 4) == []  # three of four, or two: chance
