"""Differences between conditions on a suite: paired, and clustered by family.

Two conditions answer the same families, so that a family contributes one number to the difference of their shares, and
families (crossed with seeds, where there are several) are the independent units. For one seed this is the clustered
standard error of a paired difference of Miller (2024, arXiv 2411.00640).
"""

import math
from dataclasses import replace

import numpy as np

from hidden_rule.statistics.intervals import Spread, detectable, margin, p_of, spread, wilson
from hidden_rule.statistics.suites_metrics import families_of, masks_of


def compare_suite(outcomes, members, proportions, pairs) -> list[dict]:
    """Rows of COMPARISONS without suite and decoding: each pair of conditions, each seed that both have, and pooled.

    outcomes, members, proportions: as for `suites_metrics.estimate_suite`; pairs: (a, b) of all that are compared.
    """
    families = families_of(outcomes, members)
    rows = []
    for a, b in pairs:
        seeds = sorted(set(outcomes.codes[a]) & set(outcomes.codes[b]))
        for seed, used in [*((seed, [seed]) for seed in seeds), (None, seeds)] if seeds else []:
            columns = (np.stack([outcomes.codes[name][s] for s in used], axis=1) for name in (a, b))
            of_a, of_b = (masks_of(outcomes.cells, codes, families, proportions) for codes in columns)
            for metric, rule in of_a:
                at = {"condition_a": a, "condition_b": b, "seed": seed, "metric": metric, "rule": rule}
                both = (of_a[metric, rule], of_b[metric, rule])
                rows.append(at | difference_of_shares(*both, families.starts, len(pairs)))
    return rows


def difference_of_shares(a, b, starts: np.ndarray, n_compared: int = 1) -> dict:
    """Difference of two conditions' shares on the same families: 95% interval, p-value, minimum detectable effect.

    a, b: (hits, counted) of each, zeros and ones (N, S), in families that begin at the rows `starts`; `n_compared`
    comparisons form a family of tests. Where the denominator depends on the answers (a precision) the shares are
    ratios, and their linear terms are subtracted.

    Half a row is added to each cell of the two-by-two table, as in `intervals.paired_difference`; where the rows of a
    family are correlated, half of as many rows as are equivalent to an independent one (`design_effect`). The interval
    is the resulting mean ± `margin`, with a t of families − 1 degrees of freedom; the p-value corresponds to it. Both
    are those of independent rows where these are more conservative, so that answers that offset each other within
    families do not narrow the interval (as in `intervals.share_interval`). Where no row differs from another the
    interval is Wilson's for a share of 0 among the families. `n` counts rows, of the condition that has fewer.
    """
    n = min(int(counted.sum()) for _, counted in (a, b))
    if not n:
        return {"n": 0}
    difference = float(a[0].sum() / a[1].sum() - b[0].sum() / b[1].sum())
    by_family = [[np.add.reduceat(column, starts) for column in of] for of in (a, b)]
    size = design_effect(linear_terms(a, b), starts)
    found = [with_added(by_family[0], by_family[1], size), with_added(a, b, 1.0)]
    lows, highs = zip(*((shrunk - margin(of), shrunk + margin(of)) for shrunk, of in found), strict=True)
    interval = (min(difference, *lows), max(difference, *highs))
    if not np.any(abs(linear_terms(a, b)) > 1e-12):
        slack = float(wilson(0.0, min(int(counted.any(1).sum()) for _, counted in by_family))[1])
        interval = (difference - slack, difference + slack)
    return {
        "difference": difference,
        "ci_low": max(-1.0, interval[0]),
        "ci_high": min(1.0, interval[1]),
        "p_value": max(p_of(shrunk, of) for shrunk, of in found),
        "mde": max(detectable(of, n_compared) for _, of in found),
        "test": "t_families" if a[0].shape[1] == 1 else "t_families_seeds",
        "n": n,
    }


def linear_terms(a, b) -> np.ndarray:
    """(F, S): contribution of each family and seed to the difference of two ratios, centred, to first order."""
    return _terms(*a) - _terms(*b)


def _terms(hits: np.ndarray, counted: np.ndarray, weights=1.0) -> np.ndarray:
    weights = np.broadcast_to(weights, hits.shape)
    n = float((weights * counted).sum())
    return (hits - float((weights * hits).sum()) / n * counted) / n


def clustered(terms: np.ndarray, weights: np.ndarray, families: int) -> Spread:
    """Uncertainty of a sum of (F, S) linear terms whose rows are independent families.

    The sum of squares is multiplied by F / (F − 1) (the small-sample correction of clustered errors, CR1: Cameron &
    Miller 2015, Journal of Human Resources 50:317), and rests on F − 1 degrees of freedom.
    """
    families = max(families, 2)
    return replace(spread(terms * math.sqrt(families / (families - 1)), weights), rows_df=families - 1)


def design_effect(terms: np.ndarray, starts: np.ndarray) -> float:
    """Number of rows of a family that are equivalent to an independent one (Kish 1965).

    The ratio of the sum of squares of families to that of rows; `terms` is (N, S). At least 1, and at most the size of
    the largest family, which is its value where nothing varies.
    """
    most = float(np.diff([*starts, len(terms)]).max())
    rows = float((terms**2).sum())
    return float(np.clip((np.add.reduceat(terms, starts) ** 2).sum() / rows, 1.0, most)) if rows > 1e-24 else most


def with_added(a, b, size: float) -> tuple[float, Spread]:
    """Difference of two shares, and its uncertainty, with `size` / 2 rows added to each cell of the two-by-two table.

    a, b: (hits, counted) of each by family, (F, S). The added rows are spread evenly over seeds. The degrees of freedom
    are those of the condition with fewer families in its denominator.
    """
    n_seeds = a[0].shape[1]
    families = min(int(counted.any(1).sum()) for _, counted in (a, b))
    kept = a[1].any(1) | b[1].any(1)
    weights = np.concatenate([np.ones(kept.sum()), np.full(4, 0.5 / n_seeds)])
    added, one = np.full((4, n_seeds), size), np.ones(n_seeds)
    shares, terms = [], []
    for (hits, counted), cells in zip((a, b), ([1, 1, 0, 0], [1, 0, 1, 0]), strict=True):
        hits = np.concatenate([hits[kept], size * np.outer(cells, one)])
        counted = np.concatenate([counted[kept], added])
        shares.append(float(weights @ hits.sum(1)) / float(weights @ counted.sum(1)))
        terms.append(_terms(hits, counted, weights[:, None]))
    return shares[0] - shares[1], clustered(terms[0] - terms[1], weights, families)
