"""Calibration: bins and the expected calibration error by hand, and on simulated answers."""

import numpy as np
import polars as pl
import pytest

from hidden_rule.experiment.runs import Run, Setting
from hidden_rule.statistics.calibration import confidences, reliability
from hidden_rule.statistics.intervals import wilson
from synthetic import WORLD, make_ruleset, write_results


def test_calibration_error_by_hand():
    """Four bins of two: |1/2 − 0.3| , |1/2 − 0.5|, |1 − 0.7|, |1 − 0.9|, each weighs a quarter."""
    p = np.array([0.95, 0.2, 0.4, 0.45, 0.55, 0.65, 0.75, 0.85])[:, None]
    right = np.array([1, 0, 1, 1, 0, 1, 1, 1])[:, None]
    bins, error = reliability(p, right, 4)
    assert bins["p"].to_list() == pytest.approx([0.3, 0.5, 0.7, 0.9])
    assert bins["share"].to_list() == [0.5, 0.5, 1.0, 1.0] and bins["n"].to_list() == [2, 2, 2, 2]
    assert error == pytest.approx((0.2 + 0.0 + 0.3 + 0.1) / 4)
    assert (bins["low"][0], bins["high"][0]) == pytest.approx(tuple(map(float, wilson(0.5, 2))))


def test_equal_probabilities_stay_in_one_bin_and_seeds_do_not_multiply_applications():
    p, right = np.full((100, 1), 0.25), np.repeat([1, 0], [40, 60])[:, None]
    bins, error = reliability(p, right)
    assert bins.height == 1 and error == pytest.approx(0.15)
    again, _ = reliability(np.repeat(p, 3, axis=1), np.repeat(right, 3, axis=1))
    assert again["n"][0] == 300
    assert (again["low"][0], again["high"][0]) == pytest.approx((bins["low"][0], bins["high"][0]))


def test_calibrated_answers_have_a_small_error_and_overconfident_ones_a_large_one():
    generator = np.random.default_rng(0)
    p = generator.uniform(0.3, 1, (4000, 1))
    right = (generator.random((4000, 1)) < p).astype(int)
    bins, error = reliability(p, right)
    assert error < 0.03 and (bins["n"] == 400).all()
    assert (bins["low"] <= bins["p"]).sum() >= 8 and (bins["p"] <= bins["high"]).sum() >= 8
    assert reliability(np.clip(p + 0.2, 0, 1), right)[1] > 0.15


def test_confidence_is_the_most_probable_label_s(tmp_path):
    ruleset, run, setting = make_ruleset(3), Run("sft", 0, "sft"), Setting("test", "structured")
    made = write_results(tmp_path, ruleset, {"sft": WORLD["sft"]}, sizes=[(*setting, 3, 0)])
    rows = made.predictions(run).collect().sort("application_id")
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]])  # truth: the labels in turn
    rows = rows.with_columns(pl.Series(f"p_{label}", p[:, i]) for i, label in enumerate(ruleset.labels))
    found = confidences({run: rows.lazy()}, made.labels, setting)
    assert found["sft"][0][:, 0].tolist() == [0.5, 0.6, 0.6] and found["sft"][1][:, 0].tolist() == [1, 0, 1]
    without = rows.with_columns(p_LABEL_A=pl.lit(None, pl.Float64))
    assert confidences({run: without.lazy()}, made.labels, setting) == {}
