"""Metrics where labels are not right equally often, and where rules say nothing of some cases: worked by hand."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.tables import METRICS
from hidden_rule.experiment.runs import Setting, guess_words, most_frequent
from hidden_rule.statistics.metrics import estimate
from hidden_rule.statistics.outcomes import CELL

RARE = SimpleNamespace(name="rare", label="yes", hidden=True)
RULESET = SimpleNamespace(labels=("no", "yes"), default=None, rules=[RARE], hidden_rules=[RARE], is_observed=True)
ROWS = [  # label, predicted, fired rule, label without hidden rules; how many
    ("no", "no", "default", None, 80),
    ("no", "yes", "default", None, 8),
    ("yes", "yes", "default", None, 3),  # right, and by no rule that is known
    ("yes", "no", "default", None, 3),
    ("yes", "yes", "rare", None, 4),
    ("no", "yes", "rare", "no", 1),  # the file decides against the rule
    ("yes", "no", "rare", "no", 1),
]


@pytest.fixture(scope="module")
def found() -> dict:
    """Each metric, and each of a label, with its row."""
    cells = pl.DataFrame([row[:4] for row in ROWS], schema=dict.fromkeys(CELL, pl.String), orient="row")
    codes = np.repeat(np.arange(len(ROWS)), [row[4] for row in ROWS])
    return {(row["metric"], row["label"]): row for row in estimate(cells, [codes], RULESET)}


def test_balanced_accuracy_is_the_mean_of_recalls(found):
    recalls = 80 / 89, 7 / 11
    balanced = found["balanced_accuracy", None]
    assert found["accuracy", None]["value"] == pytest.approx(0.87)
    assert balanced["value"] == pytest.approx(sum(recalls) / 2)
    assert balanced["ci_low"] < balanced["value"] < balanced["ci_high"] and balanced["n"] == 100
    wide = found["recall", "yes"]  # of eleven cases: the mean is more certain than its least certain part, not by far
    assert 0.4 < (balanced["ci_high"] - balanced["ci_low"]) / (wide["ci_high"] - wide["ci_low"]) < 0.8


def test_hidden_rules_are_measured_on_what_was_decided(found):
    assert found["hidden_recall", None]["value"] == pytest.approx(4 / 6)
    assert found["hidden_precision", None]["value"] == pytest.approx(
        4 / 13
    )  # an answer that is right without a rule claims none
    assert (found["conflict_recall", None]["value"], found["conflict_recall", None]["n"]) == (0, 1)


def test_guessing_is_the_most_frequent_label():
    setting = Setting("holdout", "structured")
    rows = [{"condition": name, "seed": None, **setting.columns, "metric": "recall", "label": label, "n": n}
            for name in ("a", "b") for label, n in (("yes", 12), ("no", 88))]  # fmt: skip
    guess = most_frequent(pl.DataFrame(rows, schema=METRICS), setting)
    assert guess == 0.88 and guess_words(guess) == "always answering no" and guess_words(0.25) == "chance"
