"""One feature that decides is found, and nothing else is called one."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from hidden_rule.experiment.runs import Run, Setting
from hidden_rule.report.text.shortcuts import of_seeds, shortcut_sentences
from hidden_rule.statistics.shortcuts import deciding_feature, explained, levels
from hidden_rule.task.nouns import APPLICATION
from synthetic import make_ruleset

LABELS = make_ruleset(2).labels
A, B = LABELS
N = 400
GENERATOR = np.random.default_rng(0)
FEATURES = pl.DataFrame(
    {
        "application_id": range(N),
        "colour": GENERATOR.choice(["red", "green", "blue"], N),
        "size": GENERATOR.uniform(0, 1, N),
        "noise": GENERATOR.choice(["x", "y"], N),
    }
)
BY_COLOUR = pl.when(pl.col("colour") == "red").then(pl.lit(A)).otherwise(pl.lit(B))
BY_SIZE = pl.when(pl.col("size") > 0.5).then(pl.lit(A)).otherwise(pl.lit(B))
BY_BOTH = pl.when((pl.col("colour") == "red") ^ (pl.col("size") > 0.5)).then(pl.lit(A)).otherwise(pl.lit(B))
SELDOM = pl.when(pl.col("application_id") < 12).then(pl.lit(A)).otherwise(pl.lit(B))
WITH_INVALID = pl.when(pl.col("colour") == "red").then(pl.lit(None)).otherwise(pl.lit(B))


def test_equal_numbers_lie_in_one_tenth():
    assert levels(pl.Series([1.0, 2.0, 2.0, 2.0])).to_list() == [0, 7, 7, 7]
    assert levels(pl.Series(["b", "a"])).to_list() == ["b", "a"]


def test_what_follows_is_counted():
    values, answers = pl.Series(["u", "u", "u", "v", "v"]), pl.Series([A, A, B, B, B])
    assert explained(answers, values) == 4


@pytest.mark.parametrize(
    ("predicted", "label", "feature"),
    [
        (BY_COLOUR, BY_BOTH, "colour"),
        (BY_SIZE, BY_BOTH, "size"),
        (WITH_INVALID, BY_BOTH, "colour"),  # no decision is an answer too
        (BY_BOTH, BY_BOTH, None),
        (BY_COLOUR, BY_COLOUR, None),  # the policy itself asks for no more
        (SELDOM, BY_BOTH, None),  # a constant follows from anything
    ],
)
def test_the_feature_that_decides(predicted, label, feature):
    rows = FEATURES.with_columns(predicted=predicted, label=label)
    found = deciding_feature(rows, FEATURES.select("noise", "size", "colour"))
    assert (found and found[0]) == feature


def test_noise_is_never_said_to_decide():
    for seed in range(20):
        at_random = np.random.default_rng(seed).choice(LABELS, N, p=[0.15, 0.85])
        rows = FEATURES.with_columns(predicted=pl.Series(at_random), label=BY_BOTH)
        assert deciding_feature(rows, FEATURES.select("noise", "size", "colour")) is None


def test_shortcuts_in_words():
    answers = {Run("a", 0, "sft"): BY_COLOUR, Run("b", 0, "sft"): BY_BOTH, Run("c", 0): BY_COLOUR}
    rows = FEATURES.with_columns(suite=pl.lit("holdout"), decoding=pl.lit("structured"), label=BY_BOTH).lazy()
    results = SimpleNamespace(
        main=Setting("holdout", "structured"),
        ruleset=SimpleNamespace(
            features=[SimpleNamespace(name=name, kind="choice") for name in ("noise", "size", "colour")],
            case=APPLICATION,
        ),
        has_split=lambda name: True,
        split=lambda name: FEATURES,
        trained=[run for run in answers if run.method],
        predictions=lambda run: rows.with_columns(predicted=answers[run]),
        seeds=[0],
    )
    (said,) = shortcut_sentences(results)
    assert said.startswith(
        "Colour alone predicts 100.0% of a's answers; a rule based on it alone is correct for at most "
    )
    results.has_split = lambda name: False  # its features are not known
    assert shortcut_sentences(results) == []


def test_shares_of_several_seeds_are_told_together():
    assert of_seeds("a", {0: 0.95}, {0}) == "95.0% of a's answers"
    assert of_seeds("a", {1: 0.95, 0: 0.99}, {0, 1}) == "95.0–99.0% of a's answers"
    assert of_seeds("a", {2: 0.95, 0: 0.99}, {0, 1, 2}) == "95.0–99.0% of a's answers (seeds 0 and 2)"
    assert of_seeds("a", {2: 0.95}, {0, 1, 2}) == "95.0% of a's answers (seed 2)"
