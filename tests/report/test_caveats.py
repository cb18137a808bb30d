"""What could change the result is named with a cause, and the method claims what is known."""

from dataclasses import replace

import numpy as np
import pytest
from test_comparisons import SURELY, pair

from hidden_rule.report.text.caveats import (
    Weaknesses,
    change_sentences,
    detection_sentences,
    method_sentences,
    rounded_up,
)
from synthetic import make_ruleset
from worlds import ABOUT

RULESET = make_ruleset(4)


@pytest.mark.parametrize(
    ("lead", "mde", "around", "words"),
    [  # one seed: (mde / lead)² times as many applications; three: their differences lie `around` the lead
        (0.02, 0.06, [0], "Detecting the observed difference of 2.0 points between a and b would take about 9,000 "
         "applications (80% power); this experiment has 1,000."),
        (0.05, 0.04, [0], "Twice as many applications would probably separate a from b."),
        (0.005, 0.06, [0], "between a and b (0.5 points) is undetectable even with 100× the test set."),
        (0.02, 0.06, [-0.01, 0, 0.01], "about 5 training seeds (80% power); this experiment has 3."),
        (0.08, 0.06, [-0.01, 0, 0.01], "Twice as many training seeds would probably separate a from b."),
        (0.01, 0.06, [-0.1, 0, 0.1], "(1.0 points) is undetectable even with 100 training seeds."),
        (0.0, 0.06, [-0.01, 0, 0.01], "(0.0 points) is undetectable even with 100 training seeds."),
    ],
)  # fmt: skip
def test_what_it_takes_to_tell_two_conditions_apart(lead, mde, around, words):
    half = 0.05 if len(around) == 1 else 4.303 * np.std(around, ddof=1) / 3**0.5  # t: applications add nothing
    for row in (pair("a", "b", lead, half, mde=mde), pair("b", "a", -lead, half, mde=mde)):
        row["of_seeds"] = [row["difference"] + shift for shift in around]
        row["ci_low"] = min(row["ci_low"], 0.0)  # hence not significant
        (sentence,) = detection_sentences("a", [row, pair("b", "c", 0.3)], 1000)
        assert words in sentence
    assert detection_sentences("a", [pair("a", "b", 0.2, **SURELY)], 1000) == []  # significant as it is
    assert detection_sentences("a", [pair("a", "b", 0.02, mde=None)], 1000) == []


def test_numbers_are_rounded_up_to_two_digits():
    assert [rounded_up(n) for n in (7.2, 10, 9.4, 101, 9_000, 12_345)] == [8, 10, 10, 110, 9_000, 13_000]


def test_what_would_change_the_answer_says_nothing_without_cause():
    sure = [pair("a", "b", 0.2, **SURELY)]
    nothing = ["Nothing measured here: all conditions compared with a are significantly less accurate."]
    none = Weaknesses([], [], [], one_seed=False)
    assert change_sentences("a", sure, 1000, none) == nothing
    assert change_sentences(None, [pair("a", "b", 0.01)], 1000, replace(none, failed=["x"])) == []
    all_of_them = Weaknesses(["decoys 50%"], ["a", "b"], ["c", "d"], one_seed=True)
    said = change_sentences("a", sure, 1000, all_of_them)
    assert [line.split(":")[0] for line in said[::2]] == ["More training seeds", "Longer training"]
    assert said[3].startswith("A different starting point for c and d: ")
    assert said[1] == "Inputs like those of the suites that a fails: decoys 50%."


def test_method_claims_only_what_is_known():
    text = " ".join(method_sentences(ABOUT, 1000, 1, is_balanced=True, has_suites=False, has_free=False))
    for words in (
        "balanced across decisions",
        "a-model",
        "rulesets/a.yaml",
        "rare in practice",
        "No generalization suites",
        "Structured decoding only",
    ):
        assert words in text, words
    text = " ".join(method_sentences({}, 1000, 1, is_balanced=False, has_suites=True, has_free=True))
    for words in ("balanced", "base model", "Synthetic", "rare", "No generalization", "Structured decoding"):
        assert words not in text, words
