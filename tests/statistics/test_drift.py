"""Two samples compared: published intervals, scipy's tests, and how often unchanged data raise an alarm."""

import numpy as np
import pytest
from scipy import optimize, stats

from hidden_rule.statistics.drift import chi_squared, constrained, mix_change, share_change

PUBLISHED = [  # hits and rows of b, then of a: Miettinen–Nurminen's 95% interval in Newcombe (1998), table II, method 6
    (56, 70, 48, 80, 0.0528, 0.3382),
    (9, 10, 3, 10, 0.1700, 0.8406),
    (6, 7, 2, 7, 0.0342, 0.8534),
    (5, 56, 0, 29, -0.0326, 0.1933),
    (10, 10, 0, 20, 0.7156, 1.0),
    (10, 10, 0, 10, 0.6636, 1.0),
]


@pytest.mark.parametrize(("hits_b", "n_b", "hits_a", "n_a", "low", "high"), PUBLISHED)
def test_the_interval_is_the_published_one_and_the_test_goes_with_it(hits_b, n_b, hits_a, n_a, low, high):
    found = share_change(hits_a, n_a, hits_b, n_b, level=0.05)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    table = [[hits_b, n_b - hits_b], [hits_a, n_a - hits_a]]
    n = n_a + n_b  # the score at 0 is Pearson's chi-squared times (n - 1) / n
    statistic = stats.chi2_contingency(table, correction=False).statistic * (n - 1) / n
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-9)
    assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high), "interval and test agree"


@pytest.mark.parametrize("difference", [-0.6, -0.1, -0.0475, 0.03])
def test_the_constrained_shares_are_the_likeliest(difference):
    hits_a, n_a, hits_b, n_b = 985, 1000, 150, 160
    share_a, share_b = constrained(hits_a / n_a, hits_b / n_b, n_a, n_b, difference)
    assert share_b - share_a == pytest.approx(difference)

    def loss(a: float) -> float:
        return -stats.binom.logpmf(hits_a, n_a, a) - stats.binom.logpmf(hits_b, n_b, a + difference)

    bounds = (max(0, -difference) + 1e-9, min(1, 1 - difference) - 1e-9)
    likeliest = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
    assert share_a == pytest.approx(likeliest, abs=1e-6)


def test_at_the_edges():
    same = share_change(20, 20, 10, 10, 0.05)
    assert same.difference == 0 and same.p_value == 1 and same.low < 0 < same.high
    opposite = share_change(20, 20, 0, 20, 0.05)
    assert opposite.difference == -1 and opposite.low == -1 and opposite.high < -0.5 and opposite.p_value < 1e-6
    back = share_change(0, 20, 20, 20, 0.05)
    assert (back.low, back.high) == pytest.approx((-opposite.high, 1)) and back.p_value == pytest.approx(
        opposite.p_value
    )
    narrow, wide = share_change(90, 100, 80, 100, 0.05), share_change(90, 100, 80, 100, 0.025)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert share_change(1, 2, 1, 1, 0.05).mde > 0.9, "three rows detect next to nothing"


def test_the_mix_is_judged_as_by_chi_squared_where_counts_are_large():
    a, b = np.array([250, 260, 240, 250]), np.array([60, 30, 35, 35])
    table = np.array([a, b])
    expected = stats.chi2_contingency(table, correction=False)
    assert chi_squared(a, a + b, a.sum()) == pytest.approx(expected.statistic)
    found = mix_change(a, b)
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.01)
    assert found.distance == pytest.approx(0.5 * np.abs(a / a.sum() - b / b.sum()).sum())
    assert mix_change(a, b) == found, "the same for the same counts"


def test_the_mix_of_few_rows_is_judged_exactly():
    """Three of three answers are new where all nine of before were one: 1 of C(12, 3) orders, in the one direction."""
    found = mix_change([9, 0], [0, 3])
    assert found.p_value == pytest.approx(1 / 220, abs=2e-3) and found.distance == 1
    assert mix_change([9, 0], [3, 0]).p_value == 1
    assert mix_change([5, 0, 5], [1, 0, 0]).p_value == 1, "a label that nobody has, and one row"


def test_unchanged_data_raise_an_alarm_in_one_of_twenty_comparisons_at_most():
    """Both tests together, as `make monitor` uses them: 400 comparisons, three standard errors of room."""
    rng, alarms, n = np.random.default_rng(1), 0, 400
    for seed in range(n):
        hits = rng.binomial([1000, 160], 0.95)
        mix = rng.multinomial(1000, [0.25] * 4), rng.multinomial(160, [0.25] * 4)
        moved = share_change(hits[0], 1000, hits[1], 160, 0.025).p_value < 0.025
        alarms += bool(moved or mix_change(*mix, seed=seed, draws=999).p_value < 0.025)
    assert alarms / n <= 0.05 + 3 * (0.05 * 0.95 / n) ** 0.5


def test_a_changed_policy_raises_an_alarm():
    assert share_change(980, 1000, 120, 160, 0.025).p_value < 1e-6
    assert mix_change([250] * 4, [10, 50, 50, 50]).p_value < 0.001
