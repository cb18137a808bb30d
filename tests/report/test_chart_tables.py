"""What the charts show, worked out by hand: the tables that they are drawn from."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hidden_rule.core.tables import COMPARISONS, COSTS, HISTORY, METRICS
from hidden_rule.experiment.runs import Run, Setting, find_estimate
from hidden_rule.report.charts.cost import cost_points, time_axis
from hidden_rule.report.charts.forest import forest_rows
from hidden_rule.report.charts.learning import time_unit
from hidden_rule.report.charts.placement import Label, overlap, place_labels
from hidden_rule.report.charts.style import wrapped
from hidden_rule.report.charts.suites import heat_map, row_label, suite_cells
from hidden_rule.report.text.rule_learning import SUITES
from hidden_rule.statistics.calibration import confidences, reliability
from hidden_rule.statistics.intervals import wilson
from hidden_rule.statistics.learning_curves import learning_curves
from hidden_rule.statistics.training_costs import training_costs
from synthetic import WORLD, make_ruleset, write_results

MAIN = Setting("holdout", "structured")


def frame(schema, *rows) -> pl.DataFrame:
    """A table of the schema; columns that a row leaves out are null."""
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


def metric(condition, value, suite="holdout", name="accuracy", **columns):
    """A row of METRICS, by default pooled and under structured decoding."""
    interval = {"ci_low": None, "ci_high": None} if value is None else {"ci_low": value - 0.1, "ci_high": value + 0.1}
    at = {"condition": condition, "seed": None, "suite": suite, "decoding": "structured", "metric": name, "n": 100}
    return at | {"value": value} | interval | columns


def history(values, seconds=10.0) -> pl.DataFrame:
    """A history of validation accuracies {step: value}, `seconds` a step."""
    rows = [
        {"step": step, "wall_s": step * seconds, "n_tokens": 0, "metric": "validation_accuracy", "value": value}
        for step, value in values.items()
    ]
    return frame(HISTORY, *rows)


# --- forest -----------------------------------------------------------------------------------------------------------


def test_forest_rows_have_the_better_one_on_the_side_of_the_sign():
    def pair(a, b, difference, p, seed=None):
        return {
            "condition_a": a, "condition_b": b, "seed": seed, **MAIN.columns, "metric": "accuracy",
            "difference": difference, "ci_low": difference - 0.1, "ci_high": difference + 0.1, "p_value": p,
            "p_adjusted": p, "n": 100, "test": "mcnemar_exact", "mde": 0.1,
        }  # fmt: skip

    rows = forest_rows(
        frame(
            COMPARISONS,
            pair("b", "c", 0.05, 0.001),  # p says so, the interval does not
            pair("a", "b", -0.2, 0.001),
            pair("a", "b", -0.25, 0.5, seed=3),
            pair("a", "c", 0.2, 0.06),  # the interval says so, p does not
        ),
        ["a", "b", "c"],
    )
    assert rows.select("row", "left", "right", "seed", "significant").rows() == [
        (0, "b", "a", None, True),  # right, a, is worse: the difference is below 0
        (0, "b", "a", 3, False),
        (1, "c", "a", None, False),
        (2, "c", "b", None, False),
    ]
    assert rows["difference"].to_list() == [-0.2, -0.25, 0.2, 0.05]
    assert rows["numbers"][0] == "−20.0 (−30.0 to −10.0), p = 0.001"


# --- suites -----------------------------------------------------------------------------------------------------------


def test_suite_cells_say_what_is_good_and_why_there_is_none():
    metrics = frame(
        METRICS,
        metric("x", 0.3, "decoys", "false_flip_rate"),
        metric("y", 0.9, "decoys", "false_flip_rate"),
        metric("x", 0.3, "decoys", "false_flip_rate", seed=0),
        metric("x", 0.4, "decoys", "false_flip_rate", decoding="free"),
        metric("x", 0.8, "conflicts"),
        metric("y", None, "conflicts", n=0),
        metric("x", 0.5, "test"),
    )
    cells = suite_cells(metrics, ["x", "y"], {"paraphrases": "lists no paraphrases"})
    assert cells.height == 2 * len(SUITES)
    found = {(*list(SUITES)[r["row"]], r["condition"]): r for r in cells.to_dicts()}
    decoys = found["decoys", "false_flip_rate", "x"]
    assert (decoys["value"], decoys["good"]) == (0.3, pytest.approx(0.7))  # few false flips are good
    assert found["conflicts", "accuracy", "x"]["good"] == 0.8
    assert found["conflicts", "accuracy", "y"]["reason"] == "undefined (n = 0)"
    lacking = "not evaluated: ruleset lists no paraphrases"
    assert found["paraphrases", "accuracy", "y"]["reason"] == lacking
    assert found["boundaries", "accuracy", "x"]["reason"] == "not evaluated: not among suites.kinds"
    assert decoys["reason"] is None
    assert suite_cells(metrics, ["x", "z"], {}).filter(condition="z", row=3)["reason"].item() == "not evaluated"
    assert suite_cells(metrics.filter(suite="test"), ["x"], {}).is_empty()
    text = str(heat_map(cells).to_dict())
    assert "'30%'" in text and "'70%'" not in text  # the value is written, its goodness shaded


def test_each_condition_has_an_n_of_its_own():
    """Conditions differ in how often they answer what only the hidden rule explains: a row shows the range."""
    metrics = frame(
        METRICS, *(metric(name, 0.5, "prevalence", "hidden_precision", n=n) for name, n in {"x": 3, "y": 478}.items())
    )
    cells = suite_cells(metrics, ["x", "y"], {})
    assert row_label(cells.filter(what="rare trigger: precision")).endswith("n = 3 to 478")


# --- learning ---------------------------------------------------------------------------------------------------------


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
    assert [time_unit(s)[0] for s in (100, 1000, 100_000)] == ["seconds", "minutes", "hours"]


# --- calibration ------------------------------------------------------------------------------------------------------


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


# --- cost -------------------------------------------------------------------------------------------------------------


def test_cost_counts_what_a_training_starts_from():
    def spent(condition, seed, seconds, stage="train"):
        return {"condition": condition, "seed": seed, "stage": stage, "wall_s": seconds}

    costs = frame(
        COSTS, spent("sft", 0, 100.0), spent("sft", 1, 120.0), spent("more", 0, 50.0), spent("more", 1, 10.0),
        spent("last", 0, 1.0), spent("last", 1, 1.0), spent("base", 0, 9.0, "evaluate"),
    )  # fmt: skip
    starts = {"sft": None, "more": "sft", "last": "more"}
    seconds = {name: (of.seconds, of.least, of.most) for name, of in training_costs(costs, starts).items()}
    assert seconds == {"sft": (110.0, 100.0, 120.0), "more": (140.0, 130.0, 150.0), "last": (141.0, 131.0, 151.0)}
    metrics = frame(METRICS, metric("base", 0.3), metric("sft", 0.8), metric("more", 0.7), metric("last", 0.8))
    results = SimpleNamespace(costs=costs, starts=starts, conditions=["base", "sft", "more", "last"], main=MAIN)
    results.estimate = lambda *of: find_estimate(metrics, *of)
    points = cost_points(results)
    assert points["seconds"].to_list() == [0.0, 110.0, 140.0, 141.0]
    assert points["frontier"].to_list() == [True, True, False, False]  # as accurate in more time: beaten


def test_the_time_axis_is_logarithmic_where_times_are_far_apart():
    axis = time_axis([0.0, 60.0, 240.0])
    assert axis.kind == "linear" and axis.at[0.0] == 0.0 and axis.at[240.0] == 240.0
    assert axis.ticks == {0.0: "no training", 60.0: "1 min", 120.0: "2 min", 180.0: "3 min", 240.0: "4 min"}
    axis = time_axis([0.0, 30.0, 6000.0])
    assert axis.kind == "log" and axis.ticks[axis.at[0.0]] == "no training"
    assert axis.ends[0] < axis.at[0.0] < axis.at[30.0] < axis.at[6000.0] < axis.ends[1]
    assert {text: x for x, text in axis.ticks.items()}["10 min"] == pytest.approx(np.log10(600))


def test_labels_overlap_neither_each_other_nor_points():
    generator = np.random.default_rng(0)
    for _ in range(20):
        points = [tuple(xy) for xy in generator.uniform((20, 20), (540, 100), (8, 2))]
        placed = place_labels([Label([], point, (90, 14)) for point in points], (560, 360))
        boxes = [(x, y, x + 90, y + 14) for _, (x, y) in placed]
        dots = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
        for i, box in enumerate(boxes):
            assert box[0] >= 0 and box[2] <= 560 and box[1] >= 0 and box[3] <= 360
            assert not any(overlap(box, other) for other in [*boxes[:i], *dots])


@pytest.mark.parametrize(
    ("name", "lines"),
    [("sft", ["sft"]), ("sft_then_grpo", ["sft_then_", "grpo"]), ("abcdefghijklmno", ["abcdefghij", "klmno"])],
)
def test_long_names_break_after_underscores(name, lines):
    assert wrapped(name, 10) == lines
