"""What the charts show, worked out by hand: the tables that they are drawn from."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.tables import COMPARISONS, COSTS, METRICS
from hidden_rule.experiment.runs import Setting, find_estimate
from hidden_rule.report.charts.cost import cost_points, time_axis
from hidden_rule.report.charts.forest import forest_rows
from hidden_rule.report.charts.learning import time_unit
from hidden_rule.report.charts.placement import Label, overlap, place_labels
from hidden_rule.report.charts.style import wrapped
from hidden_rule.report.charts.suites import heat_map, row_label, suite_cells
from hidden_rule.report.text.suites import SUITES
from hidden_rule.statistics.training_costs import training_costs

MAIN = Setting("holdout", "structured")


def frame(schema, *rows) -> pl.DataFrame:
    """A table of the schema; columns that a row leaves out are null."""
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


def metric(condition, value, suite="holdout", name="accuracy", **columns):
    """A row of METRICS, by default pooled and under structured decoding."""
    interval = {"ci_low": None, "ci_high": None} if value is None else {"ci_low": value - 0.1, "ci_high": value + 0.1}
    at = {"condition": condition, "seed": None, "suite": suite, "decoding": "structured", "metric": name, "n": 100}
    return at | {"value": value} | interval | columns


# --- forest -----------------------------------------------------------------------------------------------------------


def pair(a, b, difference, p=0.5, seed=None):
    """A row of COMPARISONS of accuracy."""
    return {
        "condition_a": a, "condition_b": b, "seed": seed, **MAIN.columns, "metric": "accuracy",
        "difference": difference, "ci_low": difference - 0.1, "ci_high": difference + 0.1, "p_value": p,
        "p_adjusted": p, "n": 100, "test": "mcnemar_exact", "mde": 0.1,
    }  # fmt: skip


def test_of_many_conditions_all_planned_pairs_are_shown():
    many = [f"c{i}" for i in range(12)]
    rows = forest_rows(frame(COMPARISONS, *(pair(name, "sft", -0.2) for name in many)), ["sft", *many])
    assert rows.height == 12 and set(rows["winner"]) == {"sft"} and rows["other"].to_list() == many
    assert set(rows["difference"]) == {0.2}
    planned = forest_rows(frame(COMPARISONS, pair("a", "b", 0.1), pair("d", "c", 0.1)), list("abcdefghij"))
    assert planned.select("winner", "other").rows() == [("a", "b"), ("d", "c")]


def test_forest_rows_are_winner_minus_other_the_largest_first():
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
    assert rows.select("row", "winner", "other", "seed", "significant").rows() == [
        (0, "a", "c", None, False),
        (1, "b", "a", None, True),
        (1, "b", "a", 3, False),
        (2, "b", "c", None, False),
    ]
    assert rows["difference"].to_list() == [0.2, 0.2, 0.25, 0.05]
    assert rows["numbers"][1] == "+20.0 (+10.0 to +30.0), p = 0.001"
    equal = forest_rows(frame(COMPARISONS, pair("b", "a", 0.0)), ["a", "b"])
    assert (equal["winner"][0], equal["other"][0]) == ("a", "b")


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
    cells = suite_cells(metrics, ["x", "y"], {"paraphrases": "lists no paraphrases"}, [])
    assert cells.height == 2 * len(SUITES)
    found = {(SUITES[r["row"]].suite, SUITES[r["row"]].metric, r["condition"]): r for r in cells.to_dicts()}
    decoys = found["decoys", "false_flip_rate", "x"]
    assert (decoys["value"], decoys["good"]) == (0.3, pytest.approx(0.7))  # few false flips are good
    assert found["conflicts", "accuracy", "x"]["good"] == 0.8
    assert found["conflicts", "accuracy", "y"]["reason"] == "undefined (n = 0)"
    lacking = "not evaluated: ruleset lists no paraphrases"
    assert found["paraphrases", "accuracy", "y"]["reason"] == lacking
    assert found["boundaries", "accuracy", "x"]["reason"] == "not evaluated: not among suites.kinds"
    assert decoys["reason"] is None
    assert suite_cells(metrics, ["x", "z"], {}, []).filter(condition="z", row=3)["reason"].item() == "not evaluated"
    assert suite_cells(metrics.filter(suite="test"), ["x"], {}, []).is_empty()
    text = str(heat_map(cells).to_dict())
    assert "'30%'" in text and "'70%'" not in text  # the value is written, its goodness shaded


def test_each_condition_has_an_n_of_its_own():
    """Conditions differ in how often they answer what only the hidden rule explains: a row shows the range."""
    metrics = frame(
        METRICS, *(metric(name, 0.5, "prevalence", "hidden_precision", n=n) for name, n in {"x": 3, "y": 478}.items())
    )
    cells = suite_cells(metrics, ["x", "y"], {}, [])
    assert row_label(cells.filter(what="rare trigger: precision")).endswith("n = 3 to 478")


# --- learning ---------------------------------------------------------------------------------------------------------


def test_units_of_training_time():
    assert [time_unit(s)[0] for s in (100, 1000, 100_000)] == ["seconds", "minutes", "hours"]


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
    [
        ("sft", ["sft"]),
        ("sft_then_grpo", ["sft_then_", "grpo"]),
        ("Logistic regression", ["Logistic", "regression"]),
        ("abcdefghijklmno", ["abcdefghij", "klmno"]),
    ],
)
def test_long_names_break_after_underscores_and_spaces(name, lines):
    assert wrapped(name, 10) == lines
