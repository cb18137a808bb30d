"""Curves over training: means and intervals over seeds by hand, long curves thinned."""

import polars as pl
import pytest
from scipy import stats

from hidden_rule.core.tables import HISTORY
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.learning_curves import MAX_POINTS, learning_curves, training_curves
from synthetic import WORLD, make_ruleset, write_results


def history(values, seconds=10.0) -> pl.DataFrame:
    """A history of validation accuracies {step: value}, `seconds` a step."""
    columns = {"n_tokens": 0, "metric": "validation_accuracy", "label": None}
    rows = [{"step": step, "wall_s": step * seconds, "value": value} | columns for step, value in values.items()]
    return pl.DataFrame(rows, schema=HISTORY)


def test_learning_curves_by_hand():
    histories = {
        Run("a", 0, "sft"): history({0: 0.2, 4: 0.5, 8: 0.8}),
        Run("a", 1, "sft"): history({0: 0.3, 4: 0.7, 8: 0.9}, seconds=20.0),
        Run("a", 2, "sft"): history({0: 0.4, 4: 0.6, 6: 0.65}),  # stopped after step 6
        Run("b", 0, "grpo"): history({0: 0.25, 2: 0.75}),
    }
    curves = learning_curves(histories, {"b": 100.0})
    assert curves.select("condition", "step", "n_seeds").rows() == [
        ("a", 0, 3), ("a", 4, 3), ("a", 8, 3), ("b", 0, 1), ("b", 2, 1)
    ]  # fmt: skip
    assert curves["value"].to_list() == pytest.approx([0.3, 0.6, (0.8 + 0.9 + 0.65) / 3, 0.25, 0.75])
    assert curves["wall_s"].to_list() == pytest.approx([0, 160 / 3, 300 / 3, 100, 120])
    interval = stats.ttest_1samp([0.5, 0.7, 0.6], 0).confidence_interval()
    assert curves.row(1, named=True)["low"] == pytest.approx(interval.low)
    assert curves.row(1, named=True)["high"] == pytest.approx(interval.high)
    assert curves.row(2, named=True)["high"] == 1.0  # cut
    assert curves.filter(condition="b")["low"].null_count() == 2


def test_long_curves_are_averaged_and_short_ones_are_not(tmp_path):
    results = write_results(
        tmp_path, make_ruleset(3), {"sft": WORLD["sft"]}, n_steps=950, sizes=[("test", "structured", 42, 0)]
    )
    curves = training_curves(results.histories)
    loss, accuracy = curves.filter(metric="loss"), curves.filter(metric="validation_accuracy")
    assert loss.height <= MAX_POINTS
    full = results.history(Run("sft", 0, "sft")).filter(metric="loss")
    assert loss["value"][0] == pytest.approx(full["value"][:10].mean())
    assert accuracy["window"].unique().to_list() == [1]
