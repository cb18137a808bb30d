"""A learnt threshold and its confidence interval.

Along a feature the share of cases that have a rule's answer goes from one level to another, at once or gradually:

    p(x) = low + (high − low) · logistic((x − threshold) / width),    width ≥ 0

a psychometric function (Wichmann & Hill 2001, Perception & Psychophysics 63:1293). The threshold is the most likely
one, and its interval holds every other whose profile likelihood is not significantly less. Twice the difference of
log-likelihoods has in the limit a chi-square distribution where answers change gradually; where they change at once it
is (1 − exp(−x / 2))² (Hansen 2000, Econometrica 68:575), and without exceptions the interval is the gap between two
neighbouring cases.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from hidden_rule.statistics.intervals import CONFIDENCE
from hidden_rule.statistics.rule_columns import NumberColumn, middle_best

AT_ONCE = -2 * math.log(1 - math.sqrt(CONFIDENCE))  # critical values of twice a difference of log-likelihoods
GRADUALLY = float(special.chdtri(1, 1 - CONFIDENCE))
WIDTHS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16)  # of the feature's range
STEPS = 12  # of expectation maximization for the levels
MAX_CUTS = 120  # thresholds that are looked at
LEAST = 1e-12  # of a probability


@dataclass(frozen=True)
class Fit:
    """The profile likelihood (C,) of thresholds in `gaps` (C, 2) between neighbouring cases, and its critical drop."""

    likelihoods: np.ndarray
    gaps: np.ndarray
    critical: float

    @classmethod
    def of(cls, column: NumberColumn, above: bool, rows: np.ndarray, positive: np.ndarray) -> "Fit | None":
        """The fit to the cases `rows` (N,), of which those `positive` (N,) have the answer; None without a threshold.

        above: the answer is more frequent above the threshold.
        """
        codes = column.codes[rows & (column.codes >= 0)]
        hits_of = column.codes[rows & (column.codes >= 0) & positive]
        n = np.bincount(codes, minlength=len(column.distinct))
        there = n > 0
        x, n, hits = column.distinct[there], n[there], np.bincount(hits_of, minlength=len(n))[there]
        if len(x) < 2:
            return None
        cuts = chosen_cuts(n, hits)
        gaps = np.column_stack([x[cuts], x[cuts + 1]])
        profiles = np.stack([profile(x, n, hits, gaps.mean(1), width * (x[-1] - x[0])) for width in WIDTHS])
        before, before_hits = np.cumsum(n)[cuts], np.cumsum(hits)[cuts]
        rises = before_hits * n.sum() < hits.sum() * before
        profiles = np.where(rises == above, profiles, -np.inf)
        best = profiles.max(0)
        if not np.isfinite(best.max()):
            return None
        at_once = profiles[0].max() >= best.max() - 1e-9
        return cls(best, gaps, AT_ONCE if at_once else GRADUALLY)

    @property
    def best(self) -> tuple[float, float]:
        """The gap of the most likely threshold."""
        low, high = self.gaps[middle_best(self.likelihoods)]
        return float(low), float(high)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval of the threshold."""
        likely = self.gaps[2 * (self.likelihoods.max() - self.likelihoods) <= self.critical]
        return float(likely[0, 0]), float(likely[-1, 1])


def chosen_cuts(n: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Places after which a threshold may be: all, or evenly spread ones and those around the likeliest single step."""
    cuts = np.arange(len(n) - 1)
    if len(cuts) <= MAX_CUTS:
        return cuts
    below, below_hits = np.cumsum(n)[:-1], np.cumsum(hits)[:-1]
    step = log_likelihood(below_hits, below) + log_likelihood(hits.sum() - below_hits, n.sum() - below)
    around = np.clip(int(np.argmax(step)) + np.arange(-MAX_CUTS // 4, MAX_CUTS // 4), 0, cuts[-1])
    return np.union1d(np.linspace(0, cuts[-1], MAX_CUTS // 2).astype(int), around)


def profile(x: np.ndarray, n: np.ndarray, hits: np.ndarray, thresholds: np.ndarray, width: float) -> np.ndarray:
    """The log-likelihood (T,) of each threshold with the levels that suit it best.

    x, n, hits: (D,) values of the feature, cases with each, and those of them with the answer. A level is a share among
    the cases of its side; of gradual changes it is found by expectation maximization, a case's side being unknown.
    """
    distance = x[None, :] - thresholds[:, None]
    upper = special.expit(distance / width) if width else (distance > 0).astype(float)  # (T, D)
    low, high = ((side @ hits) / np.maximum(side @ n, LEAST) for side in (1 - upper, upper))
    misses = n - hits
    for _ in range(STEPS if width else 0):
        p = (low[:, None] * (1 - upper) + high[:, None] * upper).clip(LEAST, 1 - LEAST)
        of_hits, of_misses = hits * upper / p, misses * upper / (1 - p)
        high_hits, high_misses = high * of_hits.sum(1), (1 - high) * of_misses.sum(1)
        low_hits, low_misses = hits.sum() - high_hits, misses.sum() - high_misses
        high = high_hits / np.maximum(high_hits + high_misses, LEAST)
        low = low_hits / np.maximum(low_hits + low_misses, LEAST)
    p = low[:, None] * (1 - upper) + high[:, None] * upper
    return special.xlogy(hits, p.clip(LEAST)).sum(1) + special.xlogy(misses, (1 - p).clip(LEAST)).sum(1)


def log_likelihood(hits, n):
    """Of `hits` positive ones among `n` cases with one share, at its best."""
    return special.xlogy(hits, hits) + special.xlogy(n - hits, n - hits) - special.xlogy(n, n)
