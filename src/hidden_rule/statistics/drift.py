"""Has a policy, or what it is asked, changed? Two independent samples compared: accuracy, and the mix of decisions.

Both tests together keep the level 5%: each is made at 5% divided by their number (Bonferroni), and the interval of the
accuracy's difference has the confidence that goes with it, so that it excludes 0 exactly where the test says so.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

LEVEL = 0.05  # of all tests of one comparison together
POWER = 0.80  # of the minimum detectable difference
DRAWS = 9_999  # of the permutation test: p-values are multiples of 1 / 10,000
EDGE = 1e-9  # of the differences that a score is computed for, which are within −1 and 1


@dataclass(frozen=True)
class ShareChange:
    """A share in two independent samples: b minus a, its score interval and two-sided p-value."""

    a: float
    b: float
    n_a: int
    n_b: int
    difference: float
    low: float
    high: float
    p_value: float
    mde: float  # minimum detectable difference at 80% power; above 1: no difference could be detected


@dataclass(frozen=True)
class MixChange:
    """Counts of each of L categories in two independent samples, and whether they are drawn from one distribution.

    distance: half the sum of the absolute differences of shares (total variation): the least share of decisions that
    would have to be others.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]
    distance: float
    p_value: float


def constrained(p_a: float, p_b: float, n_a: int, n_b: int, difference: float) -> tuple[float, float]:
    """Shares of maximum likelihood given that b minus a is `difference`.

    The root of a cubic in closed form: Farrington & Manning (1990, Statistics in Medicine 9:1447), appendix.
    """
    ratio = n_a / n_b
    a, b = 1 + ratio, -(1 + ratio + p_b + ratio * p_a + difference * (ratio + 2))
    c, d = difference**2 + difference * (2 * p_b + ratio + 1) + p_b + ratio * p_a, -p_b * difference * (1 + difference)
    v = b**3 / (27 * a**3) - b * c / (6 * a**2) + d / (2 * a)
    u = math.copysign(math.sqrt(max(b**2 / (9 * a**2) - c / (3 * a), 0.0)), v)
    angle = math.acos(min(1.0, max(-1.0, v / u**3))) if u else 0.0
    share_b = min(1.0, max(0.0, 2 * u * math.cos((math.pi + angle) / 3) - b / (3 * a)))
    return min(1.0, max(0.0, share_b - difference)), share_b


def score(p_a: float, p_b: float, n_a: int, n_b: int, difference: float) -> float:
    """Miettinen & Nurminen's score (1985, Statistics in Medicine 4:213) of a difference; about normal if it is true."""
    share_a, share_b = constrained(p_a, p_b, n_a, n_b, difference)
    n = n_a + n_b
    variance = (share_a * (1 - share_a) / n_a + share_b * (1 - share_b) / n_b) * n / (n - 1)
    distance = p_b - p_a - difference
    if variance <= 0:
        return 0.0 if abs(distance) < EDGE else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def share_change(hits_a: int, n_a: int, hits_b: int, n_b: int, level: float) -> ShareChange:
    """The change of a share from sample a to sample b, both of one row or more, tested at `level`."""
    p_a, p_b = hits_a / n_a, hits_b / n_b
    found, quantile = p_b - p_a, float(special.ndtri(1 - level / 2))

    def excess(difference: float, side: int) -> float:
        return side * score(p_a, p_b, n_a, n_b, difference) - quantile

    def bound(side: int) -> float:
        """Where the score is as large as the quantile: below the estimate it is positive, above negative."""
        edge = -side * (1 - EDGE)
        if abs(found - edge) < 2 * EDGE or excess(edge, side) < 0:
            return float(-side)
        return float(optimize.brentq(lambda difference: excess(difference, side), edge, found))

    p_value = float(2 * special.ndtr(-abs(score(p_a, p_b, n_a, n_b, 0.0))))
    pooled = min(max((hits_a + hits_b + 1) / (n_a + n_b + 2), 0.0), 1.0)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    mde = (quantile + float(special.ndtri(POWER))) * error
    return ShareChange(p_a, p_b, n_a, n_b, found, bound(1), bound(-1), p_value, mde)


def chi_squared(a: np.ndarray, total: np.ndarray, n_a) -> np.ndarray:
    """Pearson's statistic of counts `a` (..., L) of a sample of `n_a` rows, with the totals (L,) of both samples."""
    n = total.sum()
    expected_a, expected_b = total * n_a / n, total * (n - n_a) / n
    square = (a - expected_a) ** 2
    used = total > 0
    return (square[..., used] * (1 / expected_a[used] + 1 / expected_b[used])).sum(-1)


def mix_change(counts_a, counts_b, seed: int = 0, draws: int = DRAWS) -> MixChange:
    """The change of the mix of categories, counts (L,) in each sample, each of one row or more.

    A permutation test with Pearson's statistic: given the totals, sample a is a draw without replacement (multivariate
    hypergeometric), whatever the counts, zeros among them. At least 1 / (draws + 1); the same for the same seed.
    """
    a, b = np.asarray(counts_a, np.int64), np.asarray(counts_b, np.int64)
    total, n_a = a + b, int(a.sum())
    shares_a, shares_b = a / a.sum(), b / b.sum()
    seen = float(chi_squared(a, total, n_a))
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(total, n_a, size=draws, method="marginals")
    as_far = int((chi_squared(drawn, total, n_a) >= seen * (1 - 1e-12)).sum())
    distance = float(np.abs(shares_a - shares_b).sum() / 2)
    return MixChange(tuple(a.tolist()), tuple(b.tolist()), distance, (as_far + 1) / (draws + 1))
