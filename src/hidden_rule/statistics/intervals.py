"""Confidence intervals and tests, all computed from counts so that memory does not grow with the number of rows.

Two designs occur. *One seed*: independent applications. *Several seeds*: every seed of a condition answers the same
applications, so that rows are crossed (application × seed) and not independent. Both are held in one form:

    patterns  (P, S) integers: what seed 1, …, seed S made of an application, distinct rows; S = 1 for one seed
    counts    (P,) how many applications show that pattern

With several seeds an interval is about other applications *and* other training seeds; with one seed it is about other
applications alone. Interval and p-value of a difference over several seeds come from one `Spread`, so that they always
agree. What all this covers, measured: docs/statistics.md, written by bench/simulate.py.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

CONFIDENCE = 0.95
POWER = 0.80  # of the minimal detectable effect
GUARD = 0.5  # an interval over several seeds has at least this part of the width of one over independent rows


@dataclass(frozen=True)
class Spread:
    """How uncertain an estimate is: its standard error, which share of that variance is estimated from `df` degrees of
    freedom (the rest from `rows_df`, many unless said), and the least that the standard error is taken to be.
    """

    error: float
    uncertain: float
    df: int
    least: float
    rows_df: float = math.inf


def spread(residuals: np.ndarray, counts: np.ndarray) -> Spread:
    """Uncertainty of a sum over applications × seeds, both of them random.

    `residuals` is (P, S): what a row adds to the sum, less its expectation, so that counts @ residuals adds up to 0.
    Where applications come in families let one row stand for a family and hold the sums of its residuals; for one seed
    that is the clustered standard error of Miller (2024, arXiv 2411.00640).

    The variance is that of two crossed random factors, from their mean squares: seeds + max(applications − noise, 0),
    each times the number of rows, as in the analysis of several readers of the same cases (Obuchowski & Rockette 1995;
    Hillis 2007, Statistics in Medicine 26:596). The first part rests on S − 1 degrees of freedom. One seed: the sum of
    squares, no correction. With few seeds that agree by chance the variance can come out near 0; hence `least`.
    """
    n_seeds = residuals.shape[1]
    rows = float(counts @ (residuals**2).sum(1))
    if n_seeds == 1:
        return Spread(rows**0.5, 0.0, 1, 0.0)
    applications = float(counts @ residuals.sum(1) ** 2)
    of_seeds = float(((counts @ residuals) ** 2).sum())
    noise = n_seeds / (n_seeds - 1) * (rows - applications / n_seeds - of_seeds / counts.sum())
    seeds = n_seeds / (n_seeds - 1) * of_seeds
    variance = seeds + max(applications - noise, 0.0)
    return Spread(variance**0.5, seeds / variance if variance > 0 else 0.0, n_seeds - 1, GUARD * rows**0.5)


def blend(of: Spread, certain: float, uncertain: float) -> float:
    """Standard error times a quantile for its certain part and one for its uncertain part, root of the sum of squares.

    Howe (1974, Journal of the American Statistical Association 69:789), for sums of two estimates that each have a t of
    their own. On normal data tests from it keep their level, small ones too, whatever the parts truly are; an interval
    at 95% covers 95.0 to 97.7% with three seeds, to 96.5% with five, to 95.8% with ten (a test integrates that).
    """
    return of.error * float((1 - of.uncertain) * certain**2 + of.uncertain * uncertain**2) ** 0.5


def margin(of: Spread, confidence: float = CONFIDENCE) -> float:
    """Half the width of a two-sided interval."""
    level = 0.5 + confidence / 2
    certain = special.ndtri(level) if math.isinf(of.rows_df) else special.stdtrit(of.rows_df, level)
    return max(blend(of, certain, special.stdtrit(of.df, level)), float(certain) * of.least)


def p_of(estimate: float, of: Spread) -> float:
    """Two-sided p-value of an estimate against zero: the p for which `margin(of, 1 − p)` is |estimate|.

    Values below 1e-12 are given as that.
    """
    size = abs(estimate)
    if size <= 1e-15 or margin(of, 0.0) >= size:
        return 1.0
    if margin(of, 1 - 1e-12) < size:
        return 1e-12
    return float(optimize.brentq(lambda p: margin(of, 1 - p) - size, 1e-12, 1.0, xtol=1e-14))


@functools.cache
def noncentrality(confidence: float, df: int) -> float:
    """How many standard errors, known exactly, a true value is from zero that a t-test finds with a chance of POWER.

    Divided by the expectation of an estimated standard error over the true one, since an estimate is what there is.
    """
    t = special.stdtrit(df, 0.5 + confidence / 2)
    found = optimize.brentq(lambda delta: stats.nct.sf(t, df, delta) - POWER, 0.0, 4 * t + 10)
    return float(found / np.exp(special.gammaln((df + 1) / 2) - special.gammaln(df / 2)) * (df / 2) ** 0.5)


def detectable(of: Spread, n_compared: int = 1) -> float:
    """Minimal detectable effect: a true difference of this size is called significant with a chance of about POWER.

    Normal quantiles of the test and of the power, added (Bloom 1995, Evaluation Review 19:547; Miller 2024, arXiv
    2411.00640), for the certain part of the standard error; for one that is estimated from few the noncentral t. The
    test's level is 5% / `n_compared`, the strictest that Holm asks for in a family of so many comparisons. A value
    above 1 says that no difference could have been detected.
    """
    confidence = 1 - (1 - CONFIDENCE) / n_compared
    if math.isinf(of.rows_df):
        certain = float(special.ndtri(0.5 + confidence / 2) + special.ndtri(POWER))
    else:
        certain = noncentrality(confidence, of.rows_df)
    return max(blend(of, certain, noncentrality(confidence, of.df)), certain * of.least)


def seeds_needed(of_seeds, half_width: float, size: float, n_compared: int, most: int) -> int | None:
    """Training seeds with which a difference of `size` is called significant with a chance of about POWER.

    of_seeds: the difference under each seed, two at least; half_width: half the width of their pooled interval. How
    much seeds differ and how much applications do is taken to stay as it was, and applications to stay the same ones:
    hence None where more than `most` seeds would be needed, or where these applications never do.
    """
    between = float(np.var(of_seeds, ddof=1))
    level = 0.5 + CONFIDENCE / 2
    of_few = float(special.stdtrit(len(of_seeds) - 1, level)) ** 2 * between / len(of_seeds)
    applications = max(half_width**2 - of_few, 0.0) / float(special.ndtri(level)) ** 2
    for n in range(2, most + 1):
        variance = between / n + applications
        of = Spread(variance**0.5, between / n / variance if variance else 0.0, n - 1, 0.0)
        if detectable(of, n_compared) <= size:
            return n
    return None


def wilson(share, n, confidence: float = CONFIDENCE) -> tuple:
    """Score interval of a proportion `share` out of `n` > 0 rows (Wilson 1927); arrays or scalars.

    `n` may be fractional: an effective number of rows.
    """
    share, n = np.asarray(share, float), np.asarray(n, float)
    z = stats.norm.ppf(0.5 + confidence / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = np.where(share <= 0, 0.0, np.clip(centre - half, 0, share))
    high = np.where(share >= 1, 1.0, np.clip(centre + half, share, 1))
    return low, high


def effective_rows(share: float, residuals: np.ndarray, counts: np.ndarray) -> float:
    """Number of independent rows that would leave a share as uncertain as it is, for Wilson's interval.

    `residuals` as for `spread`, of the share itself. The number is adjusted for the few seeds by the squared ratio of
    quantiles (Korn & Graubard 1998, Survey Methodology 24:193). Where nothing varies (all rows right, or all wrong)
    seeds are taken to repeat each other and each application counts once.
    """
    half = margin(spread(residuals, counts))
    if half < 1e-12:
        return float(counts.sum())
    return share * (1 - share) * (stats.norm.ppf(0.5 + CONFIDENCE / 2) / half) ** 2


def share_interval(hits: np.ndarray, counted: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """A proportion over crossed rows and its interval: (share, low, high).

    `hits` and `counted` are (P, S) zeros and ones: does this row enter the numerator, the denominator. Where the
    denominator varies by seed (a precision) the share is a ratio, and its residuals are the linear ones.

    Where rows come in families (pairs, boundaries: not independent within), a row of both is a family's and holds sums
    over its rows. For few families F the number of effective rows is then lowered by (F − 1) / F and by the ratio of
    normal to t quantiles squared (Korn & Graubard 1998), and capped at the number of rows, so that answers that offset
    each other within families claim no more than independent ones would. Where nothing varies each family counts once.
    """
    kept = counted.any(1)
    hits, counted, counts = hits[kept], counted[kept], counts[kept]
    n = float(counts @ counted.sum(1))
    share = float(counts @ hits.sum(1)) / n
    rows = effective_rows(share, (hits - share * counted) / n, counts)
    if counted.max() > 1 and 0 < share < 1:
        families, level = max(float(counts.sum()), 2.0), 0.5 + CONFIDENCE / 2
        few = float(special.ndtri(level) / special.stdtrit(families - 1, level)) ** 2
        rows = min(rows * few * (families - 1) / families, n)
    low, high = wilson(share, rows)
    return share, float(low), float(high)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p of McNemar's test (1947): are the discordant rows split evenly? 1 where there are none."""
    n = int(only_a + only_b)
    return float(stats.binomtest(int(only_a), n, 0.5).pvalue) if n else 1.0


def paired_difference(patterns: np.ndarray, counts: np.ndarray, n_compared: int = 1) -> dict:
    """Difference of two shares on the same applications, with a 95% interval, a p-value and what could be detected.

    `patterns` is (P, S) in {−1, 0, 1}: right under a minus right under b; `n_compared` comparisons make a family.
    Two rows are added, half a row to each cell of the two-by-two table (Agresti & Min 2005, Statistics in Medicine
    24:729), with several seeds spread evenly over these. The interval is the mean of that ± `margin`. One seed: exact
    McNemar beside it. Several: `t_applications_seeds`, the t-test that goes with the interval. Where all rows agree the
    interval is Wilson's for a share of 0 among the applications. An exact test loses about one row to its discreteness
    (Edwards 1948), which the minimal detectable effect of one seed has on top.
    """
    n_applications, n_seeds = int(counts.sum()), patterns.shape[1]
    n = n_applications * n_seeds
    difference = float((counts @ patterns).sum()) / n
    cells = np.repeat([[1.0], [-1.0], [0.0]], n_seeds, axis=1)
    values = np.concatenate([patterns, cells])
    weights = np.concatenate([counts, np.array([0.5, 0.5, 1.0]) / n_seeds])
    shrunk = difference * n / (n + 2)
    of = spread((values - shrunk) / (n + 2), weights)
    if np.all(patterns == patterns[0, 0]):
        slack = float(wilson(0.0, n_applications)[1])
        low, high = difference - slack, difference + slack
    else:
        half = margin(of)
        low, high = min(difference, shrunk - half), max(difference, shrunk + half)
    if n_seeds == 1:
        p_value = mcnemar_exact(counts @ (patterns[:, 0] == 1), counts @ (patterns[:, 0] == -1))
        mde, test = detectable(of, n_compared) + 1 / n, "mcnemar_exact"
    else:
        p_value, mde, test = p_of(shrunk, of), detectable(of, n_compared), "t_applications_seeds"
    interval = {"ci_low": max(-1.0, low), "ci_high": min(1.0, high)}
    return {"difference": difference, **interval, "p_value": p_value, "mde": mde, "test": test, "n": n}


def holm(p_values) -> np.ndarray:
    """p-values adjusted for all being looked at, Holm's step-down (1979); those that are NaN stay so and do not count.

    Each is multiplied by the number of those not smaller than it, and is at least as large as any smaller one.
    """
    p_values = np.asarray(p_values, float)
    adjusted = np.full(len(p_values), np.nan)
    order = [i for i in np.argsort(p_values, kind="stable") if not np.isnan(p_values[i])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted
