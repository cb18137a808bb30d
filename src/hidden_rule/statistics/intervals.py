"""Confidence intervals and tests, all computed from counts so that memory does not grow with the number of rows.

Two designs occur. *One seed*: independent applications. *Several seeds*: every seed of a condition answers the same
applications, so that rows are crossed (application × seed) and not independent. Both are represented in the same way:

    patterns  (P, S) integers: the outcomes of an application under seeds 1, …, S, distinct rows; S = 1 for one seed
    counts    (P,) how many applications have that pattern

With several seeds an interval generalizes to other applications *and* other training seeds, with one seed to other
applications only. Interval and p-value of a difference over several seeds come from one `Spread`, so that they always
agree. Measured coverage: docs/statistics.md, written by bench/simulate.py.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

CONFIDENCE = 0.95
POWER = 0.80  # of the minimum detectable effect
GUARD = 0.5  # an interval over several seeds has at least this part of the width of one over independent rows


@dataclass(frozen=True)
class Spread:
    """Uncertainty of an estimate: a standard error whose variance has two parts, and a lower bound for it."""

    error: float  # standard error
    uncertain: float  # share of its square that is estimated from `df` degrees of freedom
    df: int
    least: float  # the standard error is taken to be at least this
    rows_df: float = math.inf  # degrees of freedom of the rest


def spread(residuals: np.ndarray, counts: np.ndarray) -> Spread:
    """Uncertainty of a sum over applications × seeds, both of them random.

    `residuals` is (P, S): the contribution of a row to the sum, minus its expectation, so that counts @ residuals sums
    to 0. Where applications come in families, a row represents a family and holds the sums of its residuals; for one
    seed that is the clustered standard error of Miller (2024, arXiv 2411.00640).

    The variance is that of two crossed random factors, from their mean squares: seeds + max(applications − noise, 0),
    each times the number of rows, as in the analysis of several readers of the same cases (Obuchowski & Rockette 1995;
    Hillis 2007, Statistics in Medicine 26:596). The first part rests on S − 1 degrees of freedom. One seed: the sum of
    squares, no correction. With few seeds that agree by chance the estimated variance can be near 0; hence `least`.
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

    Howe (1974, Journal of the American Statistical Association 69:789), for sums of two estimates with a t distribution
    each. On normal data its tests keep their level, low levels too, whatever the true parts are; an interval at 95%
    covers 95.0 to 97.7% with three seeds, up to 96.5% with five, up to 95.8% with ten (a test integrates that).
    """
    return of.error * float((1 - of.uncertain) * certain**2 + of.uncertain * uncertain**2) ** 0.5


def margin(of: Spread, confidence: float = CONFIDENCE) -> float:
    """Half the width of a two-sided interval."""
    level = 0.5 + confidence / 2
    certain = special.ndtri(level) if math.isinf(of.rows_df) else special.stdtrit(of.rows_df, level)
    return max(blend(of, certain, special.stdtrit(of.df, level)), float(certain) * of.least)


def p_of(estimate: float, of: Spread) -> float:
    """Two-sided p-value of an estimate against zero: the p for which `margin(of, 1 − p)` is |estimate|.

    At least 1e-12.
    """
    size = abs(estimate)
    if size <= 1e-15 or margin(of, 0.0) >= size:
        return 1.0
    if margin(of, 1 - 1e-12) < size:
        return 1e-12
    return float(optimize.brentq(lambda p: margin(of, 1 - p) - size, 1e-12, 1.0, xtol=1e-14))


@functools.cache
def noncentrality(confidence: float, df: int) -> float:
    """The true effect, in standard errors, that a t-test detects with probability POWER.

    Divided by the expected ratio of the estimated standard error to the true one, because only the former is known.
    """
    t = special.stdtrit(df, 0.5 + confidence / 2)
    found = optimize.brentq(lambda delta: stats.nct.sf(t, df, delta) - POWER, 0.0, 4 * t + 10)
    return float(found / np.exp(special.gammaln((df + 1) / 2) - special.gammaln(df / 2)) * (df / 2) ** 0.5)


def detectable(of: Spread, n_compared: int = 1) -> float:
    """Minimum detectable effect: a true difference of this size is significant with a probability of about POWER.

    The sum of the normal quantiles of the test and of the power (Bloom 1995, Evaluation Review 19:547; Miller 2024,
    arXiv 2411.00640) for the certain part of the standard error; the noncentral t for the part that is estimated from
    few degrees of freedom. The test's level is 5% / `n_compared`, the strictest of Holm's in a family of so many
    comparisons. A value above 1 means that no difference could have been detected.
    """
    confidence = 1 - (1 - CONFIDENCE) / n_compared
    if math.isinf(of.rows_df):
        certain = float(special.ndtri(0.5 + confidence / 2) + special.ndtri(POWER))
    else:
        certain = noncentrality(confidence, of.rows_df)
    return max(blend(of, certain, noncentrality(confidence, of.df)), certain * of.least)


def seeds_needed(of_seeds, half_width: float, size: float, n_compared: int, most: int) -> int | None:
    """Number of training seeds with which a difference of `size` is significant with a probability of about POWER.

    of_seeds: the difference under each seed, at least two; half_width: half the width of their pooled interval. The
    variances of seeds and of applications are assumed to be as estimated, and the applications to stay the same. None
    where more than `most` seeds would be needed, or where no number of seeds is enough for these applications.
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
    """Number of independent rows for which a share would be as uncertain as it is, for Wilson's interval.

    `residuals` as for `spread`, of the share itself. The number is adjusted for the few seeds by the squared ratio of
    quantiles (Korn & Graubard 1998, Survey Methodology 24:193). Where nothing varies (all rows correct, or all wrong)
    each application counts once, as if its seeds were copies.
    """
    half = margin(spread(residuals, counts))
    if half < 1e-12:
        return float(counts.sum())
    return share * (1 - share) * (stats.norm.ppf(0.5 + CONFIDENCE / 2) / half) ** 2


def share_interval(hits: np.ndarray, counted: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """A proportion over crossed rows and its interval: (share, low, high).

    `hits` and `counted` are (P, S) zeros and ones: does a row enter the numerator, the denominator? Where the
    denominator varies by seed (a precision) the share is a ratio, and its residuals are linearized.

    Where rows come in families (pairs, boundaries: dependent), a row of `hits` and `counted` represents a family and
    holds sums over its rows. For F families the effective number of rows is then multiplied by (F − 1) / F and by the
    squared ratio of normal to t quantiles (Korn & Graubard 1998), and is at most the number of rows, so that answers
    that offset each other within families do not narrow the interval. Where nothing varies each family counts once.
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
    """Two-sided exact p-value of McNemar's test (1947): are the discordant rows split evenly? 1 if there are none."""
    n = int(only_a + only_b)
    return float(stats.binomtest(int(only_a), n, 0.5).pvalue) if n else 1.0


def paired_difference(patterns: np.ndarray, counts: np.ndarray, n_compared: int = 1) -> dict:
    """Difference of two shares on the same applications: 95% interval, p-value and minimum detectable effect.

    `patterns` is (P, S) in {−1, 0, 1}: correct under a minus correct under b; `n_compared` comparisons form a family.
    Two rows are added, half a row to each cell of the two-by-two table (Agresti & Min 2005, Statistics in Medicine
    24:729), spread evenly over the seeds. The interval is the resulting mean ± `margin`. One seed: the p-value is exact
    McNemar's. Several: `t_applications_seeds`, the t-test that corresponds to the interval. Where all rows agree the
    interval is Wilson's for a share of 0 among the applications. An exact test loses about one row to its discreteness
    (Edwards 1948), which is added to the minimum detectable effect of one seed.
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
    """p-values adjusted for multiple comparisons by Holm's step-down method (1979); NaN stay NaN and do not count.

    Each is multiplied by the number of p-values not smaller than it, and is at least as large as any smaller one.
    """
    p_values = np.asarray(p_values, float)
    adjusted = np.full(len(p_values), np.nan)
    order = [i for i in np.argsort(p_values, kind="stable") if not np.isnan(p_values[i])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted
