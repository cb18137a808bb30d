"""Differences of conditions on suites: by hand, against scipy, and on worlds in which conditions do not differ."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

import simulate
from hidden_rule.core.tables import COMPARISONS
from hidden_rule.experiment.runs import Run
from hidden_rule.report.text.comparisons import family_sentences
from hidden_rule.statistics.intervals import holm, margin, p_of, paired_difference
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.statistics.suites_comparisons import clustered, design_effect, difference_of_shares, linear_terms
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import KINDS, SuiteSettings, draw_suites
from suite_worlds import FINCORP, SIZES, answered


def drawn(families, members, n_seeds=1, share=0.7, seed=0):
    """Hits of two conditions (N, S), correlated within families, and where families begin."""
    generator = np.random.default_rng(seed)
    p = generator.beta(2 * share, 2 * (1 - share), (2, families, 1)).repeat(members, axis=1)
    hits = (generator.random((2, families * members, n_seeds)) < p).astype(int)
    return hits, np.arange(0, families * members, members)


def test_error_interval_and_p_value_are_those_of_scipy_s_paired_t_test_of_families():
    """Families of one size: the difference of shares is the mean of the families' differences."""
    (a, b), starts = drawn(30, 3)
    ones = np.ones((30, 1), int)
    terms = linear_terms(*((np.add.reduceat(hits, starts), 3 * ones) for hits in (a, b)))
    of = clustered(terms, np.ones(30), 30)
    theirs = stats.ttest_rel(*(hits.reshape(30, 3).mean(1) for hits in (a, b)))
    interval = theirs.confidence_interval()
    assert margin(of) == pytest.approx((interval.high - interval.low) / 2)
    assert p_of(a.mean() - b.mean(), of) == pytest.approx(theirs.pvalue)


def test_error_for_families_of_several_sizes_is_the_sandwich_of_a_regression_on_a_constant():
    generator = np.random.default_rng(1)
    sizes = generator.integers(1, 5, 40)
    starts, family = np.cumsum([0, *sizes[:-1]]), np.repeat(np.arange(40), sizes)
    a, b = (generator.random((2, len(family), 1)) < generator.random((40, 1))[family]).astype(int)
    counted = np.add.reduceat(np.ones_like(a), starts)
    terms = linear_terms(*((np.add.reduceat(hits, starts), counted) for hits in (a, b)))
    x, y = np.ones((len(family), 1)), (a - b)[:, 0]
    residuals = y - x @ np.linalg.lstsq(x, y)[0]
    bread = np.linalg.inv(x.T @ x)
    scores = np.array([x[family == g].T @ residuals[family == g] for g in range(40)])
    correction = 40 / 39 * (len(y) - 1) / (len(y) - 1)  # G / (G − 1) · (N − 1) / (N − K), K = 1 coefficient
    sandwich = correction * bread @ (scores.T @ scores) @ bread
    assert clustered(terms, np.ones(40), 40).error == pytest.approx(float(sandwich[0, 0]) ** 0.5)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_families_of_one_are_applications(n_seeds):
    (a, b), starts = drawn(2000, 1, n_seeds)
    ours = difference_of_shares((a, np.ones_like(a)), (b, np.ones_like(b)), starts)
    theirs = paired_difference(a - b, np.ones(2000, int))
    for key in ("difference", "ci_low", "ci_high", "n"):
        assert ours[key] == pytest.approx(theirs[key], rel=2e-3), key  # F − 1 degrees of freedom instead of many
    assert ours["mde"] == pytest.approx(theirs["mde"], rel=0.02)  # McNemar's has 1/n on top
    assert ours["test"] == ("t_families" if n_seeds == 1 else "t_families_seeds")


def test_rows_that_repeat_each_other_within_families_add_nothing():
    (a, b), starts = drawn(40, 1)
    once = difference_of_shares((a, np.ones_like(a)), (b, np.ones_like(b)), starts)
    thrice = [(hits.repeat(3, axis=0), np.ones((120, 1), int)) for hits in (a, b)]
    assert design_effect(linear_terms(*thrice), np.arange(0, 120, 3)) == pytest.approx(3)
    again = difference_of_shares(*thrice, np.arange(0, 120, 3))
    assert again == pytest.approx(once | {"n": 120})


def test_answers_that_offset_each_other_claim_no_more_than_independent_ones():
    a, b = np.tile([1, 0], 40)[:, None], np.tile([0, 1], 40)[:, None]  # in each family one way, and the other
    ones = np.ones_like(a)
    families = difference_of_shares((a, ones), (b, ones), np.arange(0, 80, 2))
    rows = difference_of_shares((a, ones), (b, ones), np.arange(80))
    assert families["ci_high"] - families["ci_low"] >= rows["ci_high"] - rows["ci_low"] > 0.4


def test_a_ratio_whose_denominator_hangs_on_the_answers():
    """a claims rows 0 to 3 and is right in three, b claims 2 to 7 and is right in two: 3/4 − 1/3."""
    a = np.array([1, 1, 1, 0, 0, 0, 0, 0])[:, None], np.array([1, 1, 1, 1, 0, 0, 0, 0])[:, None]
    b = np.array([0, 0, 1, 0, 1, 0, 0, 0])[:, None], np.array([0, 0, 1, 1, 1, 1, 1, 1])[:, None]
    row, mirrored = (difference_of_shares(*pair, np.arange(8)) for pair in ((a, b), (b, a)))
    assert row["difference"] == pytest.approx(5 / 12) and row["n"] == 4
    assert mirrored["difference"] == -row["difference"] and mirrored["p_value"] == row["p_value"]
    assert (mirrored["ci_low"], mirrored["ci_high"]) == pytest.approx((-row["ci_high"], -row["ci_low"]))
    quarter, third = 1 / 4 / 4, 1 / 3 / 6  # what a right answer leaves over, in a and in b
    expected = [quarter, quarter, quarter - 2 * third, -3 * quarter + third, -2 * third, third, third, third]
    assert linear_terms(a, b)[:, 0] == pytest.approx(expected)
    nothing = (a[0] * 0, a[1] * 0)
    assert difference_of_shares(a, nothing, np.arange(8)) == {"n": 0}


@pytest.mark.parametrize(("d", "low", "high"), [(0, -0.0370, 0.0370), (1, 0.9630, 1.0)])
def test_families_that_all_agree_keep_an_interval(d, low, high):
    ones = np.ones((300, 1), int)
    row = difference_of_shares((ones, ones), (ones * (1 - d), ones), np.arange(0, 300, 3))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), abs=1e-4)  # a hundred families, not 300 rows
    assert (row["p_value"] == 1.0) == (d == 0)


@pytest.mark.parametrize(
    ("families", "members", "n_seeds", "sigma"), [(10, 2, 1, 0.0), (40, 3, 1, 0.0), (40, 2, 3, 0.3)]
)
def test_intervals_cover_and_null_worlds_keep_their_level(families, members, n_seeds, sigma):
    """95% intervals on 600 worlds, give or take 3.3 standard errors; few families of discrete answers lie above."""
    slack = 3.3 * np.sqrt(0.95 * 0.05 / 600)
    for pair in [(0.6, 0.6), (0.9, 0.9), (0.6, 0.25)]:
        covered, significant = simulate.suite_coverage(
            pair, simulate.SuiteDesign(families, members, n_seeds, sigma), 600
        )
        assert covered > 0.95 - slack
        assert families < 40 or covered < 0.97 + slack
        assert pair[0] != pair[1] or significant < 0.05 + slack


def test_a_precision_keeps_its_level_when_claims_are_few():
    generator = np.random.default_rng(2)
    significant = []
    for _ in range(400):
        counted = (generator.random((2, 60, 1)) < np.array([0.1, 0.5])[:, None, None]).astype(int)
        hits = (generator.random((2, 60, 1)) < 0.8).astype(int) * counted
        row = difference_of_shares(*zip(hits, counted, strict=True), np.arange(60))
        significant.append(row.get("p_value", 1.0) < 0.05)
    assert np.mean(significant) < 0.05 + 3.3 * np.sqrt(0.95 * 0.05 / 400)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Metrics and comparisons of three conditions and two seeds on FinCorp's suites."""
    folder = tmp_path_factory.mktemp("compared")
    ruleset = load_ruleset(FINCORP)
    train = draw_splits(ruleset, SIZES, seed=0)["train"]
    suites = draw_suites(ruleset, SuiteSettings(KINDS, 40, 0.02, 0), train)
    answers = {
        "knows": lambda row, seed: row["label"],
        "ignorant": lambda row, seed: row["label_without_hidden"],
        "unsure": lambda row, seed: row["label"] if (row["family"] // 4 + seed) % 3 else row["label_without_hidden"],
    }
    paths = {}
    for name, answer in answers.items():
        for seed in (0, 1):
            paths[Run(name, seed)] = folder / f"{name}{seed}.parquet"
            answered(suites, ruleset, lambda row, a=answer, s=seed: a(row, s)).write_parquet(paths[Run(name, seed)])
    return summarize_predictions(paths, ruleset, suites)


def test_each_pair_on_each_suite_and_metric_is_compared(compared):
    metrics, comparisons = compared
    assert comparisons.schema == COMPARISONS
    keys = ["suite", "decoding", "metric", "seed"]
    values = metrics.select("condition", *keys, "value")
    sides = [values.rename({"condition": f"condition_{side}", "value": side}) for side in "ab"]
    joined = comparisons
    for side in sides:
        joined = joined.join(side, on=[side.columns[0], *keys], how="left", nulls_equal=True)
    assert joined.height == 3 * 3 * len(KINDS) * metrics["metric"].n_unique()  # pairs; two seeds and pooled
    defined = joined.drop_nulls("difference")
    assert defined["difference"].to_list() == pytest.approx((defined["a"] - defined["b"]).to_list())
    assert (defined["ci_low"] <= defined["difference"]).all() and (defined["difference"] <= defined["ci_high"]).all()
    undefined = joined.filter(pl.col("difference").is_null())
    assert undefined.filter(pl.col("a").is_not_null() & pl.col("b").is_not_null()).is_empty()
    assert undefined["p_adjusted"].null_count() == undefined.height


def test_p_values_of_a_suite_s_metric_are_adjusted_together(compared):
    rows = compared[1].filter(pl.col("seed").is_null(), suite="counterfactuals", metric="flip_rate")
    assert rows["p_adjusted"].to_list() == pytest.approx(holm(rows["p_value"].to_numpy()).tolist())
    assert rows["test"].unique().to_list() == ["t_families_seeds"]
    assert "families of applications and 2 training seeds" in family_sentences(rows.to_dicts(), 2)[0]
    assert rows.filter(condition_a="knows", condition_b="ignorant")["difference"].item() == 1.0
