"""The expected cost of decisions, per CASES cases, with intervals and paired differences.

With π the share of cases for which each of L labels is right, and c̄ the mean cost of the answers where it is,

    expected cost = CASES · Σ_l π_l c̄_l

the mean of a stratified sample (Cochran 1977, Sampling Techniques, section 5.3); where splits are balanced this is the
reweighting to another prevalence of Elkan (2001, IJCAI: The foundations of cost-sensitive learning) and of prior shift.
π is known where the config or the ruleset gives it, so that only answers within a label vary. Where it is that of the
evaluated cases themselves, the frequency of labels varies too, and the estimate is their plain mean.

Few mistakes, or rare and dear ones that no case shows, must not make an interval narrow. As Price & Bonett (2004,
Computational Statistics & Data Analysis 45:449) do for a linear function of proportions, 4 / L cases are added to each
label's, half of them at no cost and half at the label's highest cost, whatever the seed; of a difference, whose cases
are pairs, half at none and a quarter at each sign of the highest. The interval is the resulting mean ± `margin`, and
includes the estimate itself. Its standard error is that of accuracy's intervals (`intervals.spread`): over cases, and
over seeds where there are several. The p-value corresponds to the interval.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.statistics.intervals import Spread, detectable, margin, p_of, spread
from hidden_rule.statistics.outcomes import Outcomes, count_patterns
from hidden_rule.task.decision_costs import cost_matrix, natural_frequencies, with_named

METRIC = "expected_cost"
CASES = 1000
ADDED = 4.0  # cases, over all labels


@dataclass(frozen=True)
class CostScheme:
    """What answers cost, and how often each label is right."""

    labels: tuple[str, ...]
    matrix: np.ndarray  # (L, L + 1): right label, given one, no valid one
    named: dict[str, float]  # shares of labels that the config gives
    natural: dict[str, float] | None  # of all labels; None: those of the evaluated cases

    @classmethod
    def of(cls, costs: dict, ruleset) -> "CostScheme":
        """Of a config's completed `decision_costs`."""
        labels, named = tuple(ruleset.labels), costs.get("prevalence", {})
        natural = None if set(named) == set(labels) else natural_frequencies(ruleset)
        return cls(labels, cost_matrix(labels, costs), named, natural)

    def shares(self, observed: np.ndarray) -> np.ndarray | None:
        """The share (L,) of each label; None: the `observed` ones (L,), which vary as cases do."""
        if self.natural is None and not self.named:
            return None
        natural = self.natural or dict(zip(self.labels, observed.tolist(), strict=True))
        shares = with_named(self.named, natural) if self.named else natural
        return np.array([shares[label] for label in self.labels])


@dataclass(frozen=True)
class Answers:
    """Distinct patterns of N cases' costs under S seeds, or of the differences of two conditions'."""

    values: np.ndarray  # (P, S)
    counts: np.ndarray  # (P,) cases with that pattern
    right: np.ndarray  # (P,) number of the right label

    @property
    def of_labels(self) -> np.ndarray:
        """Cases (L,) of each label, up to the last that has any."""
        return np.bincount(self.right, self.counts)


def costs_of_cells(cells: pl.DataFrame, scheme: CostScheme) -> tuple[np.ndarray, np.ndarray]:
    """Cost (C,) of each cell of an `Outcomes`, and the number (C,) of its right label."""
    place = {label: i for i, label in enumerate(scheme.labels)}
    right = np.array([place[label] for label in cells["label"]])
    given = np.array([len(place) if label is None else place[label] for label in cells["predicted"]])
    return scheme.matrix[right, given], right


def estimate_cost(cells: pl.DataFrame, columns: list[np.ndarray], scheme: CostScheme) -> dict:
    """A row of METRICS without condition, seed and setting; `columns`: the codes (N,) of each seed.

    Undefined where a label that occurs in practice has no case.
    """
    of_cells, right = costs_of_cells(cells, scheme)
    patterns, counts = count_patterns(columns)
    answers = Answers(of_cells[patterns], counts, right[patterns[:, 0]])
    row = {"metric": METRIC, "label": None, "rule": None, "value": None, "ci_low": None, "ci_high": None, "n": 0}
    worst = scheme.matrix.max(1)
    if (found := weighted_mean(answers, scheme, np.stack([0 * worst, worst]))) is None:
        return row
    value, shrunk, of = found
    half = margin(of)
    interval = {"ci_low": max(0.0, min(value, shrunk - half)), "ci_high": max(value, shrunk + half)}
    return row | scaled({"value": value, **interval}) | {"n": int(counts.sum()) * len(columns)}


def cost_rows(outcomes: Outcomes, scheme: CostScheme) -> list[dict]:
    """Rows of METRICS without setting: the expected cost of each condition, of each seed and pooled."""
    rows = []
    for condition, by_seed in outcomes.codes.items():
        for seed, columns in [*((seed, [codes]) for seed, codes in by_seed.items()), (None, list(by_seed.values()))]:
            rows.append({"condition": condition, "seed": seed} | estimate_cost(outcomes.cells, columns, scheme))
    return rows


def compare_cost(outcomes: Outcomes, a: str, b: str, scheme: CostScheme, n_compared: int) -> list[dict]:
    """Rows of COMPARISONS without setting: the difference of expected costs, a − b, for each common seed and pooled."""
    seeds = sorted(set(outcomes.codes[a]) & set(outcomes.codes[b]))
    of_cells, right = costs_of_cells(outcomes.cells, scheme)
    rows = []
    for seed, used in [*((seed, [seed]) for seed in seeds), (None, seeds)] if seeds else []:
        columns = [outcomes.codes[name][s] for name in (a, b) for s in used]
        patterns, counts = count_patterns(columns)
        values = of_cells[patterns[:, : len(used)]] - of_cells[patterns[:, len(used) :]]
        answers = Answers(values, counts, right[patterns[:, 0]])
        at = {"condition_a": a, "condition_b": b, "seed": seed, "metric": METRIC, "rule": None, "n": 0}
        rows.append(at | difference(answers, scheme, n_compared))
    return rows


def difference(answers: Answers, scheme: CostScheme, n_compared: int) -> dict:
    """Columns `difference` to `n` of COMPARISONS; empty where the expected cost is undefined."""
    worst = scheme.matrix.max(1)
    if (found := weighted_mean(answers, scheme, np.stack([0 * worst, 0 * worst, worst, -worst]))) is None:
        return {}
    value, shrunk, of = found
    half, n_seeds = margin(of), answers.values.shape[1]
    numbers = {"difference": value, "ci_low": min(value, shrunk - half), "ci_high": max(value, shrunk + half)}
    numbers["mde"] = detectable(of, n_compared)
    test = "z_applications" if n_seeds == 1 else "t_applications_seeds"
    return scaled(numbers) | {"p_value": p_of(shrunk, of), "test": test, "n": int(answers.counts.sum()) * n_seeds}


def scaled(numbers: dict[str, float]) -> dict[str, float]:
    """Numbers a case as numbers per CASES cases."""
    return {name: CASES * float(number) for name, number in numbers.items()}


def weighted_mean(answers: Answers, scheme: CostScheme, added: np.ndarray) -> tuple[float, float, Spread] | None:
    """The mean a case, that mean with the `added` cases (K, L) of each label, and the uncertainty of the latter.

    Each of the K kinds has an equal part of a label's ADDED / L cases. None where a label with a share has no case.
    """
    n_labels, n_seeds = len(scheme.labels), answers.values.shape[1]
    n_cases = np.bincount(answers.right, answers.counts, n_labels)
    observed = n_cases / n_cases.sum()
    known = scheme.shares(observed)
    shares = observed if known is None else known
    if np.any((shares > 0) & (n_cases == 0)):
        return None
    used = shares > 0
    extra = ADDED / int(used.sum())
    sums = np.bincount(answers.right, answers.counts * answers.values.sum(1), n_labels)
    plain = float((shares[used] * sums[used] / (n_seeds * n_cases[used])).sum())
    means = (sums / n_seeds + extra * added.mean(0)) / (n_cases + extra)
    shrunk = float((shares * means)[used].sum())
    kinds = len(added)
    rows = np.concatenate([answers.values, np.repeat(added[:, used].reshape(-1, 1), n_seeds, 1)])
    right = np.concatenate([answers.right, np.tile(np.flatnonzero(used), kinds)])
    counts = np.concatenate([answers.counts, np.full(kinds * int(used.sum()), extra / kinds)])
    kept = used[right]
    weight = (shares / (n_cases + extra) / n_seeds)[right]
    residuals = weight[:, None] * (rows - means[right][:, None])
    if known is None:  # the frequency of labels varies too: each case stands for its label's mean
        residuals += (np.arange(len(rows)) < len(answers.values))[:, None] * (
            (means[right] - shrunk) / (n_cases.sum() * n_seeds)
        )[:, None]
    return plain, shrunk, spread(residuals[kept], counts[kept])
