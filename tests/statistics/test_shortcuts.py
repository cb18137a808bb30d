"""One feature that decides is found, and nothing else is called one."""

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.tables import predictions_schema, write_table
from hidden_rule.report.text.shortcuts import of_seeds, shortcut_sentences
from hidden_rule.statistics.shortcuts import deciding_feature, explained, levels
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
    found = deciding_feature(rows, ["noise", "size", "colour"])
    assert (found and found[0]) == feature


def test_noise_is_never_said_to_decide():
    for seed in range(20):
        at_random = np.random.default_rng(seed).choice(LABELS, N, p=[0.15, 0.85])
        rows = FEATURES.with_columns(predicted=pl.Series(at_random), label=BY_BOTH)
        assert deciding_feature(rows, ["noise", "size", "colour"]) is None


def test_shortcuts_in_words(tmp_path):
    paths = []
    for i, predicted in enumerate([BY_COLOUR, BY_BOTH, BY_COLOUR]):
        paths.append(tmp_path / f"{i}.parquet")
        schema = predictions_schema(LABELS)
        rows = FEATURES.with_columns(suite=pl.lit("holdout"), decoding=pl.lit("structured"), label=BY_BOTH)
        rows = rows.with_columns(predicted=predicted, is_valid=True).with_columns(
            pl.lit(None).alias(name) for name in schema if name not in {*rows.columns, "predicted", "is_valid"}
        )
        write_table(rows.select(schema.names()).cast(dict(schema)), paths[-1], schema)
    FEATURES.write_parquet(tmp_path / "holdout")
    jobs = [("a", 0), ("b", 0), ("c", 0)]
    (said,) = shortcut_sentences(
        paths, jobs, tmp_path / "holdout", ["noise", "size", "colour"], LABELS, ("holdout", "structured"), ["a", "b"]
    )
    assert said.startswith("a (100.0%) decides almost by colour alone: in brackets")


def test_shares_of_several_seeds_are_told_together():
    assert of_seeds("a", {0: 0.95}, {0}) == "a (95.0%)"
    assert of_seeds("a", {1: 0.95, 0: 0.99}, {0, 1}) == "a (95.0 to 99.0%)"
    assert of_seeds("a", {2: 0.95, 0: 0.99}, {0, 1, 2}) == "a (seeds 0 and 2: 95.0 to 99.0%)"
    assert of_seeds("a", {2: 0.95}, {0, 1, 2}) == "a (seed 2: 95.0%)"
