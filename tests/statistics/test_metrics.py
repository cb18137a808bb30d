"""Metrics against values worked out by hand and against scipy, statsmodels and scikit-learn."""

import warnings

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import f1_score, precision_recall_fscore_support
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

import simulate
from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import COMPARISONS, COSTS, METRICS, predictions_schema, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.intervals import (
    Spread,
    effective_rows,
    holm,
    margin,
    mcnemar_exact,
    paired_difference,
    seeds_needed,
    share_interval,
    spread,
    wilson,
)
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.statistics.outcomes import count_patterns
from hidden_rule.statistics.suites_comparisons import clustered
from summarize import summarize
from synthetic import make_costs, make_predictions, make_ruleset, world_config, write_world

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
    metrics, comparisons = summarize_predictions({Run("x", 0): write_rows(tmp_path / "x", rows)}, RULESET)
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
    metrics, _ = summarize_predictions({Run("x", 0): write_rows(tmp_path / "x", rows)}, RULESET)
    for metric, label in [("hidden_recall", None), ("hidden_precision", None), ("conflict_recall", None)] + [
        (metric, A) for metric in ("precision", "recall", "f1")
    ]:
        row = look(metrics, metric, label=label)
        assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (None, None, None, 0), metric
    assert look(metrics, "macro_f1")["value"] == 0.5  # over B and C, the labels that occur


def test_wilson_equals_scipy_and_statsmodels():
    for k, n in [(0, 1), (1, 1), (0, 40), (40, 40), (3, 160), (141, 160), (884, 1000)]:
        expected = stats.binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
        assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert wilson(k / n, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)


def test_mcnemar_equals_statsmodels_and_its_edges():
    for b, c in [(1, 0), (5, 5), (30, 12), (0, 9)]:
        assert mcnemar_exact(b, c) == pytest.approx(mcnemar([[7, b], [c, 3]], exact=True).pvalue)
    assert mcnemar_exact(0, 0) == 1.0


def test_precision_recall_f1_equal_sklearn(tmp_path):
    ruleset = make_ruleset(5)
    frame = make_predictions(ruleset, 0.6, 0.3, sizes=[("test", "structured", 400, 0)])
    frame.write_parquet(tmp_path / "x")
    metrics, _ = summarize_predictions({Run("x", 0): tmp_path / "x"}, ruleset)
    truth, predicted = frame["label"].to_list(), frame["predicted"].to_list()
    theirs = precision_recall_fscore_support(truth, predicted, labels=list(ruleset.labels))
    for metric, values in zip(["precision", "recall", "f1"], theirs[:3], strict=True):
        ours = [look(metrics, metric, label=label)["value"] for label in ruleset.labels]
        assert ours == pytest.approx(values)
    assert look(metrics, "macro_f1")["value"] == pytest.approx(f1_score(truth, predicted, average="macro"))


@pytest.mark.slow
def test_macro_f1_interval_is_that_of_a_row_bootstrap(tmp_path):
    frame = make_predictions(RULESET, 0.7, sizes=[("test", "structured", 200, 0)])
    frame.write_parquet(tmp_path / "x")
    metrics, _ = summarize_predictions({Run("x", 0): tmp_path / "x"}, RULESET)
    truth, predicted = frame["label"].to_numpy(), frame["predicted"].to_numpy()
    rows = np.random.default_rng(1).integers(0, 200, (1500, 200))
    draws = [f1_score(truth[drawn], predicted[drawn], average="macro") for drawn in rows]
    ours = look(metrics, "macro_f1")
    assert (ours["ci_low"], ours["ci_high"]) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)


def test_one_seed_s_interval_is_that_of_agresti_and_min():
    b, c, n = 120, 60, 1000
    row = paired_difference(np.array([[1], [-1], [0]]), np.array([b, c, n - b - c]))
    shrunk = (b - c) / (n + 2)  # half a row in each of four cells
    error = np.sqrt(((b + c + 1) / (n + 2) - shrunk**2) / (n + 2))
    half = stats.norm.ppf(0.975) * error
    assert row["difference"] == pytest.approx((b - c) / n)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((shrunk - half, shrunk + half))
    assert row["mde"] == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error + 1 / n)
    assert row["p_value"] == stats.binomtest(b, b + c).pvalue
    assert (row["test"], row["n"]) == ("mcnemar_exact", n)


@pytest.mark.parametrize(("d", "low", "high"), [(0, -0.0370, 0.0370), (1, 0.9630, 1.0), (-1, -1.0, -0.9630)])
def test_difference_without_spread_keeps_an_interval(d, low, high):
    row = paired_difference(np.array([[d]]), np.array([100]))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), abs=1e-4)
    assert (row["p_value"] == 1.0) == (d == 0)
    pooled = paired_difference(np.array([[d, d]]), np.array([100]))
    assert (pooled["p_value"] == 1.0) == (d == 0)


def crossed(hits):
    """Share, low and high of (P, S) hits and their counts, every row counted."""
    patterns, counts = hits
    return share_interval(patterns, np.ones_like(patterns), counts)


def test_repeated_answers_of_seeds_are_not_new_evidence():
    same = np.array([[1, 1, 1], [0, 0, 0]])  # three seeds that answer alike
    counts = np.array([70, 30])
    assert effective_rows(0.7, (same - 0.7) / 300, counts) == pytest.approx(100)
    assert crossed((same, counts)) == pytest.approx((0.7, *map(float, wilson(0.7, 100))))
    assert crossed((np.ones((1, 3), int), np.array([40]))) == pytest.approx((1.0, *map(float, wilson(1.0, 40))))


def test_a_mean_without_applications_is_the_t_test_of_seeds():
    """Where all applications are as hard, and the more there are, the seeds' means are all that counts."""
    generator = np.random.default_rng(0)
    shares = (0.50, 0.70, 0.90)
    patterns, counts = count_patterns([(generator.random(100_000) < p).astype(int) for p in shares])
    means = (counts @ patterns) / counts.sum()
    ours = paired_difference(patterns, counts)  # the same numbers as a difference
    theirs = stats.ttest_1samp(means, 0)
    interval = theirs.confidence_interval()
    assert (ours["ci_low"], ours["ci_high"]) == pytest.approx((max(-1, interval.low), min(1, interval.high)), abs=2e-3)
    assert ours["p_value"] == pytest.approx(theirs.pvalue, rel=1e-2)
    assert ours["test"] == "t_applications_seeds"
    low, high = crossed((patterns, counts))[1:]
    assert high - low > 0.4


def test_spread_of_a_crossed_design_by_its_mean_squares():
    """Against mean squares computed from the whole table, as textbooks have them."""
    n, s = 300, 4
    generator = np.random.default_rng(1)
    values = generator.normal(size=(n, 1)) + 0.3 * generator.normal(size=(1, s)) + generator.normal(size=(n, s))
    values -= values.mean()
    items = s * (values.mean(1) ** 2).sum() / n
    seeds = n * (values.mean(0) ** 2).sum() / (s - 1)
    noise = ((values - values.mean(1, keepdims=True) - values.mean(0)) ** 2).sum() / (n * (s - 1))
    found = spread(values / (n * s), np.ones(n))
    variance = (seeds + items - noise) / (n * s)
    assert (found.error, found.uncertain, found.df) == pytest.approx((variance**0.5, seeds / (n * s) / variance, s - 1))


def test_families_of_one_seed_have_miller_s_clustered_error():
    generator = np.random.default_rng(2)
    family = np.repeat(np.arange(50), 2)  # fifty pairs
    right = (generator.random(100) < np.repeat(generator.random(50), 2)).astype(float)
    residual = (right - right.mean()) / 100
    by_pairs = sum(residual[i] * residual[j] for i in range(100) for j in range(100) if family[i] == family[j])
    sums = np.bincount(family, residual)[:, None]
    assert spread(sums, np.ones(50)).error == pytest.approx(by_pairs**0.5)


@pytest.mark.parametrize("n_families", [4, 50])
def test_families_equal_the_clustered_errors_of_statsmodels(n_families):
    """A mean is a regression on a constant; with the correction for few families, the t interval too."""
    generator = np.random.default_rng(3)
    family = np.repeat(np.arange(n_families), generator.integers(1, 5, n_families))
    values = generator.normal(size=len(family)) + generator.normal(size=n_families)[family]
    terms = np.bincount(family, (values - values.mean()) / len(values))[:, None]
    constant, groups = np.ones(len(values)), {"groups": family}
    plain = OLS(values, constant).fit(cov_type="cluster", cov_kwds=groups | {"use_correction": False})
    assert spread(terms, np.ones(n_families)).error == pytest.approx(plain.bse[0])
    corrected = OLS(values, constant).fit(cov_type="cluster", cov_kwds=groups, use_t=True)
    half = margin(clustered(terms, np.ones(n_families), n_families))
    assert (values.mean() - half, values.mean() + half) == pytest.approx(corrected.conf_int()[0])


def test_a_minimal_detectable_effect_is_detected_four_times_in_five():
    for n_seeds, sigma in [(1, 0.0), (3, 0.3), (10, 0.3)]:
        _, power = simulate.power_at_mde(0.5, simulate.Design(160, n_seeds, sigma), 600)
        assert 0.80 - 3.3 * 0.4 / 600**0.5 < power < 0.88 + 3.3 * 0.4 / 600**0.5


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # × 3, 1, 2, 4, then no smaller
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([np.nan, 0.02, 0.02]) == pytest.approx([np.nan, 0.04, 0.04], nan_ok=True)
    assert holm([0.2]) == pytest.approx([0.2])
    assert len(holm([])) == 0


def test_holm_equals_statsmodels():
    p_values = np.random.default_rng(4).beta(0.3, 1, 60).round(2)  # with ties, zeros and ones
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@pytest.mark.parametrize(("df", "most"), [(1, 0.990), (2, 0.978), (4, 0.966), (9, 0.959)])
def test_blended_quantiles_keep_their_level(df, most):
    """Normal data of which a part of the variance is known and the rest is estimated: coverage by integration."""
    estimates = stats.chi2.ppf((np.arange(400) + 0.5) / 400, df) / df
    for level in (0.95, 1 - 0.05 / 6, 0.999):
        for part in (0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98):
            variances = (1 - part) + part * estimates
            halves = [margin(Spread(v**0.5, 1 - (1 - part) / v, df, 0.0), level) for v in variances]
            covered = 1 - 2 * stats.norm.sf(halves).mean()
            assert 1 - covered < 1.03 * (1 - level)  # 3%: for the grid
            assert level != 0.95 or covered < most


def test_interval_and_p_value_of_several_seeds_agree():
    generator = np.random.default_rng(3)
    for _ in range(300):
        patterns = generator.choice([-1, 0, 1], p=[0.06, 0.84, 0.10], size=(60, 3))
        row = paired_difference(patterns, np.ones(60, int))
        assert (row["p_value"] < 0.05) == (row["ci_low"] > 0 or row["ci_high"] < 0)


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_seeds_needed_for_what_is_detectable_are_those_there_are(n_seeds):
    generator = np.random.default_rng(n_seeds)
    for shares in generator.uniform(0.1, 0.6, (20, n_seeds)):  # of +1: seeds differ
        patterns = np.where(generator.random((400, n_seeds)) < shares, 1, generator.integers(-1, 1, (400, 1)))
        row = paired_difference(patterns, np.ones(400, int), n_compared=6)
        known = patterns.mean(0), (row["ci_high"] - row["ci_low"]) / 2
        assert seeds_needed(*known, 1.05 * row["mde"], 6, 100) == n_seeds
        assert seeds_needed(*known, 0.95 * row["mde"], 6, 100) == n_seeds + 1
        assert seeds_needed(*known, 0.01, 6, 100) is None  # these applications alone differ by more


@pytest.mark.parametrize("accuracy", [0.25, 0.9])
@pytest.mark.parametrize(("n_seeds", "sigma"), [(1, 0.0), (3, 0.0), (3, 0.3), (3, 1.0), (5, 0.3), (10, 0.3)])
def test_intervals_cover_planted_truth(accuracy, n_seeds, sigma):
    """What docs/statistics.md shows for these worlds, 94 to 97%, give or take 3.3 standard errors of 1,000 worlds."""
    slack, design = 3.3 * np.sqrt(0.95 * 0.05 / 1000), simulate.Design(160, n_seeds, sigma)
    assert 0.94 - slack < simulate.accuracy_coverage(accuracy, design, 1000) < 0.97 + slack
    covered, significant = simulate.difference_coverage((accuracy, accuracy), design, 1000)
    assert 0.94 - slack < covered < 0.97 + slack
    assert significant < 0.06 + slack


def test_a_family_of_null_comparisons_keeps_its_level():
    slack = 3.3 * np.sqrt(0.95 * 0.05 / 300)
    for n_seeds, sigma in [(1, 0.0), (3, 0.3)]:
        _, unadjusted, adjusted = simulate.family_errors(0.6, simulate.Design(160, n_seeds, sigma), 300)
        assert adjusted < 0.05 + slack
        assert adjusted < unadjusted


def test_comparisons_by_hand_and_by_seed(tmp_path):
    truth = [(A, "rule_0", B)] * 4 + [(B, "rule_1", B)] * 4
    answers = {
        ("x", 0): [A, A, A, A, B, B, B, B],
        ("x", 1): [A, A, A, B, B, B, B, C],
        ("y", 0): [A, B, B, B, B, B, C, C],
        ("y", 1): [B, B, B, B, B, B, B, C],
    }
    paths = {
        Run(c, s): write_rows(tmp_path / f"{c}{s}", [(*t, p) for t, p in zip(truth, predicted, strict=True)])
        for (c, s), predicted in answers.items()
    }
    _, comparisons = summarize_predictions(paths, RULESET)
    assert comparisons.select("condition_a", "condition_b").unique().rows() == [("x", "y")]
    values = {(row["metric"], row["seed"]): row for row in comparisons.iter_rows(named=True)}
    assert len(values) == comparisons.height == 6
    assert values["accuracy", 0]["difference"] == 5 / 8
    assert values["accuracy", 0]["p_value"] == stats.binomtest(5, 5).pvalue
    assert values["hidden_recall", 1]["difference"] == 3 / 4
    assert values["accuracy", None]["difference"] == (5 + 3) / 16
    assert values["accuracy", None]["n"] == 16
    assert {row["test"] for row in values.values()} == {"mcnemar_exact", "t_applications_seeds"}
    assert all(row["p_adjusted"] == row["p_value"] for row in values.values())  # families of one


def test_p_values_are_adjusted_within_a_family(tmp_path):
    """Three conditions; the hidden rule never fires, so that metric has no p-values and no family."""
    truth = [(B, "rule_1", B)] * 12
    answers = {"x": [B] * 12, "y": [B] * 6 + [C] * 6, "z": [B] * 5 + [C] * 7}
    paths = {
        Run(c, 0): write_rows(tmp_path / c, [(*t, p) for t, p in zip(truth, predicted, strict=True)])
        for c, predicted in answers.items()
    }
    _, comparisons = summarize_predictions(paths, RULESET)
    of_seed = comparisons.filter(seed=0, metric="accuracy")
    assert of_seed["p_value"].to_list() == [stats.binomtest(k, k).pvalue for k in (6, 7, 1)]
    assert of_seed["p_adjusted"].to_list() == pytest.approx([2 * 2**-5, 3 * 2**-6, 1.0])
    undefined = comparisons.filter(metric="hidden_recall")
    assert undefined["p_adjusted"].null_count() == undefined["mde"].null_count() == undefined.height == 6


@pytest.mark.parametrize(
    ("planned", "adjusted"),
    [
        ([("y", "x"), ("z", "x")], {("y", "x"): 2**-5, ("z", "x"): 2 * 2**-6}),
        ([("x", "z")], {("x", "z"): 2**-6}),
        ([("x", "nobody")], {}),
    ],
)
def test_planned_pairs_alone_are_compared_and_make_the_family(tmp_path, planned, adjusted):
    """A pair that was not planned costs the others nothing; its difference is the first condition minus the second."""
    truth = [(B, "rule_1", B)] * 12
    answers = {"x": [B] * 12, "y": [B] * 6 + [C] * 6, "z": [B] * 5 + [C] * 7}
    paths = {
        Run(c, 0): write_rows(tmp_path / c, [(*t, p) for t, p in zip(truth, predicted, strict=True)])
        for c, predicted in answers.items()
    }
    _, comparisons = summarize_predictions(paths, RULESET, planned=planned)
    rows = comparisons.filter(seed=0, metric="accuracy").to_dicts()
    found = {(row["condition_a"], row["condition_b"]): row for row in rows}
    assert {pair: row["p_adjusted"] for pair, row in found.items()} == pytest.approx(adjusted)
    right = {"x": 12, "y": 6, "z": 5}
    assert all(row["difference"] == pytest.approx((right[a] - right[b]) / 12) for (a, b), row in found.items())
    every = summarize_predictions(paths, RULESET)[1].filter(seed=0, metric="accuracy")
    mde = dict(zip(every.select("condition_a", "condition_b").rows(), every["mde"], strict=True))
    assert all(row["mde"] < mde[tuple(sorted(pair))] for pair, row in found.items())  # a smaller family: more power


def test_other_applications_or_truth_are_refused(tmp_path):
    rows = [(A, "rule_0", B, A), (B, "rule_1", B, B)]
    x = write_rows(tmp_path / "x", rows)
    for other, fault in [(rows[:1], "differ from"), ([(A, "rule_0", B, A), (C, "default", C, B)], "another truth")]:
        y = write_rows(tmp_path / "y", other)
        with pytest.raises(UserError, match=fault):
            summarize_predictions({Run("x", 0): x, Run("y", 0): y}, RULESET)
    pl.concat([pl.read_parquet(x), pl.read_parquet(x)]).write_parquet(x)
    with pytest.raises(UserError, match="occurs twice"):
        summarize_predictions({Run("x", 0): x}, RULESET)
    (tmp_path / "x").write_bytes((tmp_path / "y").read_bytes()[:100])
    with pytest.raises(UserError, match="not a readable parquet"):
        summarize_predictions({Run("x", 0): x}, RULESET)


def test_summarize_writes_the_same_bytes_again(tmp_path):
    ruleset = make_ruleset(4)
    made = write_world(tmp_path, ruleset, seeds=(0, 1))
    config = world_config(seeds=(0, 1), evaluation={"structured": ["test", "holdout"], "free": ["test"]})
    results = Results(tmp_path, config, ruleset=ruleset)
    for run in results.runs:
        of_run = made.costs.filter(**run.columns).cast(dict(COSTS))
        write_table(of_run.filter(stage="evaluate"), results.layout.evaluation_cost(run), COSTS)
        if run.method:
            write_table(of_run.filter(stage="train"), results.layout.training_cost(run), COSTS)
    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for again in ("1", "2"):
            outputs = [tmp_path / f"{name}{again}.parquet" for name in ("metrics", "comparisons", "costs")]
            summarize(results, *outputs)
            written.append([path.read_bytes() for path in outputs])
    assert written[0] == written[1]
    assert pl.read_parquet(outputs[2]).equals(make_costs(made.predictions).cast(dict(COSTS)))
    metrics = pl.read_parquet(outputs[0])
    pooled = look(metrics.filter(suite="holdout"), "accuracy", "sft", None)
    assert pooled["n"] == 2000
    assert pooled["ci_low"] < pooled["value"] < pooled["ci_high"]
