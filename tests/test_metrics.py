"""Metrics against values worked out by hand and against scipy and scikit-learn."""

import warnings

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import f1_score, precision_recall_fscore_support

from hidden_rule.errors import UserError
from hidden_rule.intervals import (
    effective_rows,
    mcnemar_exact,
    paired_difference,
    percentile_interval,
    resample,
    wilson,
)
from hidden_rule.metrics import summarize_predictions
from hidden_rule.outcomes import count_patterns
from hidden_rule.tables import COMPARISONS, COSTS, METRICS, predictions_schema
from summarize import summarize
from synthetic import make_costs, make_predictions, make_ruleset, write_world

RULESET = make_ruleset(3)
A, B, C = RULESET.labels  # hidden, stated, default


def write_rows(path, rows, suite="test", decoding="structured"):
    """Write a prediction table of (label, fired_rule, label_without_hidden, predicted) rows."""
    columns = ["label", "fired_rule", "label_without_hidden", "predicted"]
    schema = predictions_schema(list(RULESET.labels))
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row").with_columns(
        application_id=pl.int_range(pl.len()),
        suite=pl.lit(suite),
        decoding=pl.lit(decoding),
        reply=pl.lit(""),
        is_valid=pl.col("predicted").is_not_null(),
        **{f"p_{label}": pl.lit(0.0) for label in RULESET.labels},
    )
    frame.select(list(schema)).cast(dict(schema)).write_parquet(path)
    return path


def look(metrics, metric, condition="x", seed=0, label=None):
    """The one row of a metric, as a dictionary."""
    missing = [pl.col("seed").is_null() if seed is None else pl.col("seed") == seed]
    missing.append(pl.col("label").is_null() if label is None else pl.col("label") == label)
    return metrics.filter(*missing, condition=condition, metric=metric).row(0, named=True)


def test_metrics_worked_by_hand(tmp_path):
    rows = [
        (A, "rule_0", B, A),  # hidden rule against another rule, right
        (A, "rule_0", B, B),  # the same, wrong
        (A, "rule_0", C, A),  # hidden rule against the default alone, right: no conflict
        (A, "rule_0", A, A),  # hidden rule and another agree, right: explained without the hidden rule
        (B, "rule_1", B, A),  # the hidden rule claimed where it does not fire
        (B, "rule_1", B, B),
        (C, "default", C, None),  # invalid: wrong
        (C, "default", C, C),
    ]
    metrics, comparisons = summarize_predictions([write_rows(tmp_path / "x", rows)], [["x", 0]], RULESET)
    expected = {
        ("accuracy", None): (5 / 8, 8),
        ("invalid_rate", None): (1 / 8, 8),
        ("hidden_recall", None): (3 / 4, 4),
        ("hidden_precision", None): (2 / 3, 3),  # claims: rows 1, 3 and 5
        ("conflict_recall", None): (1 / 2, 2),
        ("precision", A): (3 / 4, 4),
        ("recall", A): (3 / 4, 4),
        ("f1", A): (3 / 4, 5),
        ("precision", C): (1.0, 1),
        ("recall", C): (1 / 2, 2),
        ("f1", C): (2 / 3, 2),
        ("macro_f1", None): ((3 / 4 + 1 / 2 + 2 / 3) / 3, 8),
    }
    for (metric, label), (value, n) in expected.items():
        row = look(metrics, metric, label=label)
        assert row["value"] == pytest.approx(value), (metric, label)
        assert row["n"] == n, (metric, label)
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert metrics.schema == METRICS
    assert comparisons.schema == COMPARISONS
    assert comparisons.is_empty()
    pooled, of_seed = metrics.filter(pl.col("seed").is_null()), metrics.filter(seed=0)
    assert pooled.drop("seed").equals(of_seed.drop("seed"))  # one seed: pooled is the seed


def test_undefined_values_are_null(tmp_path):
    rows = [(B, "rule_1", B, B), (C, "default", C, None)]
    metrics, _ = summarize_predictions([write_rows(tmp_path / "x", rows)], [["x", 0]], RULESET)
    for metric, label in [("hidden_recall", None), ("hidden_precision", None), ("conflict_recall", None)] + [
        (metric, A) for metric in ("precision", "recall", "f1")
    ]:
        row = look(metrics, metric, label=label)
        assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (None, None, None, 0), metric
    assert look(metrics, "macro_f1")["value"] == 0.5  # over B and C, the labels that occur


def test_wilson_equals_scipy():
    for k, n in [(0, 1), (1, 1), (0, 40), (40, 40), (3, 160), (141, 160), (884, 1000)]:
        expected = stats.binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
        assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_mcnemar_equals_scipy_and_its_edges():
    for b, c in [(1, 0), (5, 5), (30, 12), (0, 9)]:
        assert mcnemar_exact(b, c) == stats.binomtest(b, b + c, 0.5).pvalue
    assert mcnemar_exact(0, 0) == 1.0


def test_precision_recall_f1_equal_sklearn(tmp_path):
    ruleset = make_ruleset(5)
    frame = make_predictions(ruleset, 0.6, 0.3, sizes=[("test", "structured", 400, 0)])
    frame.write_parquet(tmp_path / "x")
    metrics, _ = summarize_predictions([tmp_path / "x"], [["x", 0]], ruleset)
    truth, predicted = frame["label"].to_list(), frame["predicted"].to_list()
    theirs = precision_recall_fscore_support(truth, predicted, labels=list(ruleset.labels))
    for metric, values in zip(["precision", "recall", "f1"], theirs[:3], strict=True):
        ours = [look(metrics, metric, label=label)["value"] for label in ruleset.labels]
        assert ours == pytest.approx(values)
    assert look(metrics, "macro_f1")["value"] == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_resampling_cells_is_resampling_rows():
    """Mean and covariance of multinomial cell counts, and a macro-F1 interval beside a bootstrap of the rows."""
    counts = np.array([50, 30, 20])
    drawn = np.concatenate(list(resample(np.arange(3)[:, None], counts, 3, 20_000)))
    assert drawn.sum(1) == pytest.approx(100)
    assert drawn.mean(0) == pytest.approx(counts, abs=0.2)
    assert drawn.var(0) == pytest.approx(counts * (1 - counts / 100), rel=0.05)


def test_macro_f1_interval_is_that_of_a_row_bootstrap(tmp_path):
    frame = make_predictions(RULESET, 0.7, sizes=[("test", "structured", 200, 0)])
    frame.write_parquet(tmp_path / "x")
    metrics, _ = summarize_predictions([tmp_path / "x"], [["x", 0]], RULESET)
    truth, predicted = frame["label"].to_numpy(), frame["predicted"].to_numpy()
    rows = np.random.default_rng(1).integers(0, 200, (1500, 200))
    draws = [f1_score(truth[drawn], predicted[drawn], average="macro") for drawn in rows]
    ours = look(metrics, "macro_f1")
    assert (ours["ci_low"], ours["ci_high"]) == pytest.approx(percentile_interval(np.array(draws)), abs=0.01)


def test_paired_bootstrap_is_close_to_the_analytic_interval():
    b, c, n = 120, 60, 1000
    row = paired_difference(np.array([[1], [-1], [0]]), np.array([b, c, n - b - c]))
    difference = (b - c) / n
    half = 1.96 * np.sqrt((b + c) / n - difference**2) / np.sqrt(n)
    assert row["difference"] == pytest.approx(difference)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((difference - half, difference + half), abs=0.002)
    assert row["p_value"] == stats.binomtest(b, b + c).pvalue
    assert (row["test"], row["n"]) == ("mcnemar_exact", n)


@pytest.mark.parametrize(("d", "low", "high"), [(0, -0.0370, 0.0370), (1, 0.9630, 1.0), (-1, -1.0, -0.9630)])
def test_difference_without_spread_keeps_an_interval(d, low, high):
    row = paired_difference(np.array([[d]]), np.array([100]))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), abs=1e-4)
    assert (row["p_value"] == 1.0) == (d == 0)
    pooled = paired_difference(np.array([[d, d]]), np.array([100]))
    assert (pooled["p_value"] == 1.0) == (d == 0)


def test_repeated_answers_of_seeds_are_not_new_evidence():
    right = np.array([1, 0])
    counts = np.array([70, 30])
    same = right[:, None].repeat(3, axis=1)  # three seeds that answer alike
    assert effective_rows(same, np.ones_like(same), counts) == pytest.approx(100)
    generator = np.random.default_rng(0)
    draws = [(generator.random(2000) < 0.7).astype(int) for _ in range(3)]  # three that answer independently
    patterns, counts = count_patterns(draws)
    assert effective_rows(patterns, np.ones_like(patterns), counts) == pytest.approx(6000, rel=0.1)
    everything = np.ones((1, 3), int)
    assert effective_rows(everything, everything, np.array([40])) == 40


def test_seeds_that_differ_widen_the_pooled_interval():
    """Three seeds at 50, 70 and 90%: the spread of seeds, not the number of rows, limits what is known."""
    generator = np.random.default_rng(0)
    patterns, counts = count_patterns([(generator.random(1000) < p).astype(int) for p in (0.5, 0.7, 0.9)])
    effective = effective_rows(patterns, np.ones_like(patterns), counts)
    assert effective == pytest.approx(0.7 * 0.3 / (0.2**2 / 3), rel=0.15)
    shifted = paired_difference(patterns, counts)  # the same numbers as a difference
    assert shifted["test"] == "bootstrap_applications_seeds"
    assert shifted["ci_high"] - shifted["ci_low"] > 0.25


def test_comparisons_by_hand_and_by_seed(tmp_path):
    truth = [(A, "rule_0", B)] * 4 + [(B, "rule_1", B)] * 4
    answers = {
        ("x", 0): [A, A, A, A, B, B, B, B],
        ("x", 1): [A, A, A, B, B, B, B, C],
        ("y", 0): [A, B, B, B, B, B, C, C],
        ("y", 1): [B, B, B, B, B, B, B, C],
    }
    paths = [
        write_rows(tmp_path / f"{c}{s}", [(*t, p) for t, p in zip(truth, said, strict=True)])
        for (c, s), said in answers.items()
    ]
    _, comparisons = summarize_predictions(paths, [list(job) for job in answers], RULESET)
    assert comparisons.select("condition_a", "condition_b").unique().rows() == [("x", "y")]
    values = {(row["metric"], row["seed"]): row for row in comparisons.iter_rows(named=True)}
    assert len(values) == comparisons.height == 6
    assert values["accuracy", 0]["difference"] == 5 / 8
    assert values["accuracy", 0]["p_value"] == stats.binomtest(5, 5).pvalue
    assert values["hidden_recall", 1]["difference"] == 3 / 4
    assert values["accuracy", None]["difference"] == (5 + 3) / 16
    assert values["accuracy", None]["n"] == 16
    assert {row["test"] for row in values.values()} == {"mcnemar_exact", "bootstrap_applications_seeds"}


def test_other_applications_or_truth_are_refused(tmp_path):
    rows = [(A, "rule_0", B, A), (B, "rule_1", B, B)]
    x = write_rows(tmp_path / "x", rows)
    for other, fault in [(rows[:1], "differ from"), ([(A, "rule_0", B, A), (C, "default", C, B)], "another truth")]:
        y = write_rows(tmp_path / "y", other)
        with pytest.raises(UserError, match=fault):
            summarize_predictions([x, y], [["x", 0], ["y", 0]], RULESET)
    pl.concat([pl.read_parquet(x), pl.read_parquet(x)]).write_parquet(x)
    with pytest.raises(UserError, match="occurs twice"):
        summarize_predictions([x], [["x", 0]], RULESET)
    (tmp_path / "x").write_bytes((tmp_path / "y").read_bytes()[:100])
    with pytest.raises(UserError, match="not a readable parquet"):
        summarize_predictions([x], [["x", 0]], RULESET)


def test_summarize_writes_the_same_bytes_again(tmp_path):
    ruleset = make_ruleset(4)
    made = write_world(tmp_path, ruleset, seeds=(0, 1))
    costs = []
    for i, row in enumerate(made.costs.iter_slices(1)):
        costs.append(tmp_path / f"cost{i}")
        row.write_parquet(costs[-1])
    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for again in ("1", "2"):
            outputs = [tmp_path / f"{name}{again}.parquet" for name in ("metrics", "comparisons", "costs")]
            summarize(made.predictions, made.jobs, costs, ruleset, *outputs)
            written.append([path.read_bytes() for path in outputs])
    assert written[0] == written[1]
    assert pl.read_parquet(outputs[2]).equals(make_costs(made.trained, made.jobs).cast(dict(COSTS)))
    metrics = pl.read_parquet(outputs[0])
    pooled = look(metrics.filter(suite="holdout"), "accuracy", "sft", None)
    assert pooled["n"] == 2000
    assert pooled["ci_low"] < pooled["value"] < pooled["ci_high"]
