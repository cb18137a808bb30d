"""Learning curves over labels and label noise: which conditions are points of which line, and the chart of them."""

from types import SimpleNamespace
from xml.etree import ElementTree

import polars as pl
import pytest

from hidden_rule.core.tables import METRICS, SUPERVISION
from hidden_rule.experiment.runs import Guess, Setting
from hidden_rule.report.charts.labels import label_chart
from hidden_rule.statistics.label_curves import curve_points, rising

MAIN = Setting("holdout", "structured")


def supervision_of(*rows):
    """SUPERVISION of (condition, curve, method, rows, noise), two seeds each, whose cost is 10 and 30 s."""
    made = []
    for condition, curve, method, n, noise in rows:
        bits = 2.0 * n * (1 - noise)
        for seed, wall_s in ((0, 10.0), (1, 30.0)):
            counts = [n, noise, noise, 20, n, 8 * n * (method == "grpo"), wall_s, 100 * n]
            made.append([condition, seed, method, curve, *counts, bits, bits if method == "grpo" else None, bits])
    return pl.DataFrame(made, schema=SUPERVISION, orient="row")


def metrics_of(shares: dict, half: float = 0.02):
    """METRICS of conditions' accuracies, pooled and of one seed; recall and precision on the hidden rule equal them."""
    rows = []
    for condition, share in shares.items():
        for metric, n in (("accuracy", 1000), ("hidden_recall", 250), ("hidden_precision", 250)):
            value = (None, None, None) if share is None and metric != "accuracy" else (share or 0.5,) * 3
            low, high = (None, None) if value[0] is None else (value[0] - half, value[0] + half)
            for seed in (None, 0):
                rows.append((condition, seed, *MAIN, metric, None, None, value[0], low, high, n))
    return pl.DataFrame(rows, schema=METRICS, orient="row")


ROWS = supervision_of(
    *[(f"s_{n}", "s", "sft", n, 0.0) for n in (25, 400, 100)], *[(f"g_{n}", "g", "grpo", n, 0.0) for n in (25, 400)]
)
ROWS_METRICS = metrics_of({"base": 0.25, "s_25": 0.5, "s_100": 0.9, "s_400": 0.7, "g_25": 0.24, "g_400": 0.4})
NOISE = supervision_of(*[(f"s_{n}_{p}", "s", "sft", n, p) for n in (50, 100) for p in (0.0, 0.2, 0.05)])


def test_points_by_hand():
    points = curve_points(ROWS_METRICS, ROWS, MAIN)
    accuracy = points.filter(metric="accuracy")
    assert accuracy.select("line", "train_rows", "value").rows() == [
        ("g", 25, 0.24), ("g", 400, 0.4), ("s", 25, 0.5), ("s", 100, 0.9), ("s", 400, 0.7)
    ]  # fmt: skip
    assert set(points["kind"]) == {"labels"}
    first = accuracy.row(0, named=True)
    assert (first["wall_s"], first["n_tokens"], first["bits"], first["n"]) == (20.0, 2500.0, 50.0, 1000)
    assert (first["ci_low"], first["ci_high"]) == (pytest.approx(0.22), pytest.approx(0.26))


def test_noise_and_rows_together_are_a_line_each():
    shares = dict.fromkeys(NOISE["condition"].unique(), 0.5)
    points = curve_points(metrics_of(shares), NOISE, MAIN).filter(metric="accuracy")
    lines = points.group_by("kind", "line", maintain_order=True).agg("train_rows", "label_noise").rows()
    assert lines == [
        ("labels", "s, 0.0% wrong", [50, 100], [0.0, 0.0]),
        ("labels", "s, 5.0% wrong", [50, 100], [0.05, 0.05]),
        ("labels", "s, 20.0% wrong", [50, 100], [0.2, 0.2]),
        ("noise", "s, 50 labels", [50] * 3, [0.0, 0.05, 0.2]),
        ("noise", "s, 100 labels", [100] * 3, [0.0, 0.05, 0.2]),
    ]


def test_a_single_condition_is_no_line():
    alone = supervision_of(("a", "a", "sft", 25, 0.1), ("b", "b", "sft", 50, 0.1))
    assert curve_points(metrics_of({"a": 0.5, "b": 0.6}), alone, MAIN).is_empty()


def test_points_are_joined_where_the_axis_rises_with_the_labels():
    rows = supervision_of(*((f"{line}_{n}", line, "sft", n, 0.0) for line in "ab" for n in (25, 50, 100)))
    seconds = {"a_25": 10.0, "a_50": 12.0, "a_100": 14.0, "b_25": 20.0, "b_50": 18.0, "b_100": 22.0}  # b: once fewer
    rows = rows.with_columns(wall_s=pl.col("condition").replace_strict(seconds))
    points = curve_points(metrics_of(dict.fromkeys(seconds, 0.5)), rows, MAIN)
    assert rising(points, "train_rows", "wall_s")["line"].unique().to_list() == ["a"]
    assert sorted(rising(points, "train_rows", "train_rows")["line"].unique()) == ["a", "b"]


def drawn(tmp_path, metrics, supervision, width=300):
    """The text of the chart."""
    shown = {"metrics": metrics, "supervision": supervision, "main": MAIN, "chance": Guess(0.25)}
    results = SimpleNamespace(**shown, separate_rules=[], rules_apart=[None], config={"charts": {"width": width}})
    label_chart(results).save(str(tmp_path / "labels.svg"))
    return "".join(ElementTree.parse(tmp_path / "labels.svg").getroot().itertext())


def test_the_chart_of_labels(tmp_path):
    text = drawn(tmp_path, ROWS_METRICS, ROWS)
    for words in (
        "labels (log)",
        "training time in seconds",
        "tokens trained on",
        "bits of supervision (upper bound)",
        "n = 1,000",
    ):
        assert words in text
    assert "share of wrong labels" not in text
    assert "seed 0 only" in text


def test_a_recall_that_is_undefined_and_bits_without_a_logarithm(tmp_path):
    rows = [("a_0", "<b>a", "sft", 50, 0.0), ("a_1", "<b>a", "sft", 50, 0.5), ("a_2", "<b>a", "sft", 99, 0.0)]
    supervision = supervision_of(*rows).with_columns(bits=pl.lit(0.0))
    text = drawn(tmp_path, metrics_of(dict.fromkeys(["a_0", "a_1", "a_2"])), supervision)
    assert "share of wrong labels" in text and "<b>a" in text
    assert "labels (log)" in text and "bits of supervision" not in text


def test_nothing_to_show(tmp_path):
    for supervision in (None, supervision_of(("s_25", "s", "sft", 25, 0.0))):
        assert "No conditions of this experiment differ only in" in drawn(tmp_path, ROWS_METRICS, supervision)
