"""Metrics of each condition, and differences between conditions, from prediction tables.

A reply that is no valid decision (`predicted` is null) counts as wrong. A metric whose denominator is zero is
undefined: its value and interval are null, its n is 0.

Metrics (a row each):
    accuracy          share of applications answered correctly
    macro_f1          mean of F1 over the labels that occur as truth or answer
    balanced_accuracy mean of the recall of the labels that occur as truth
    precision, recall, f1   of each label
    hidden_recall     of the applications on which a hidden rule fires, the share answered correctly
    hidden_precision  of the answers that only a hidden rule can explain (a label that a hidden rule assigns, and not
                      the one that would hold without hidden rules), the share where one fires and the answer is correct
    conflict_recall   of the applications on which a hidden rule fires against another rule (without hidden rules the
                      label would be neither the true one nor the default), the share answered correctly
                      these three also of each hidden rule (`rule`) where there are several: of the applications on
                      which it fires, and of the answers that only it can explain (its label, where the label would
                      be another without hidden rules, and no other hidden rule makes it the correct one; none where
                      it fires nowhere)
    invalid_rate      share of replies that are no valid decision
    expected_cost     of the mistakes in CASES cases, where the config has decision costs: `expected_cost`

Intervals are at 95%. Proportions: Wilson (1927). F1 is 2J / (1 + J) of the proportion J = TP / (TP + FP + FN), so its
interval is Wilson's for J carried over ("Wilson indirect" of Lam, Gopal & Qian 2023, arXiv 2309.14621). Macro-F1 and
balanced accuracy: their standard errors by the delta method (Takahashi et al. 2022, Applied Intelligence 52:4961), and
Wilson's interval with them.
Rows pooled over seeds (`seed` null) use all rows of all seeds; their intervals account for the fact that seeds answer
the same applications and that seeds vary: see `intervals.spread`. With one seed the pooled row is that seed's row.

A family of comparisons is the planned pairs of conditions (`planned_comparisons`) under one suite, decoding, metric,
hidden rule (or all together) and seed (or pooled): `p_adjusted` is Holm's over it.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.core.tables import COMPARISONS, METRICS
from hidden_rule.experiment.runs import Run, Setting, separate_rules
from hidden_rule.statistics.expected_cost import CostScheme, compare_cost, cost_rows
from hidden_rule.statistics.intervals import effective_rows, holm, paired_difference, share_interval, wilson
from hidden_rule.statistics.outcomes import Outcomes, count_patterns, load_outcomes
from hidden_rule.statistics.suites_comparisons import compare_suite
from hidden_rule.statistics.suites_metrics import estimate_suite

COMPARED = ("accuracy", "hidden_recall")
FAMILY = ["suite", "decoding", "metric", "rule", "seed"]
METRICS_ORDER = ["condition", "suite", "decoding", "seed", "metric", "label", "rule"]
COMPARISONS_ORDER = ["condition_a", "condition_b", "suite", "decoding", "seed", "metric", "rule"]


@dataclass(frozen=True)
class Proportion:
    """A metric that is a share of rows: zeros and ones for each of the C cells of an `Outcomes`."""

    metric: str
    label: str | None  # None unless the metric is one of a label
    rule: str | None  # None unless it is one of a hidden rule, of several
    hits: np.ndarray  # (C,) does a row of this cell enter the numerator?
    counted: np.ndarray  # (C,) does it enter the denominator?


def proportions(cells: pl.DataFrame, ruleset) -> list[Proportion]:
    """Each proportion among the metrics; F1 stands here as the proportion J of the module's docstring.

    `cells` has the columns CELL; `ruleset` has `labels`, `default` and `hidden_rules`, each with `name` and `label`.
    """
    truth, predicted = pl.col("label"), pl.col("predicted")
    right = truth == predicted
    definitions: dict[tuple[str, str | None, str | None], tuple[pl.Expr, pl.Expr]] = {
        ("accuracy", None, None): (right, pl.lit(True)),
        ("invalid_rate", None, None): (predicted.is_null(), pl.lit(True)),
    }
    for rule in [None, *separate_rules(ruleset)]:
        definitions |= {(metric, None, rule): masks for metric, masks in on_hidden_rules(ruleset, rule).items()}
    for label in ruleset.labels:
        is_true, is_predicted = truth == label, predicted == label
        definitions |= {
            ("precision", label, None): (is_true, is_predicted),
            ("recall", label, None): (is_predicted, is_true),
            ("f1", label, None): (is_true & is_predicted, is_true | is_predicted.fill_null(False)),
        }
    evaluated = []
    for (metric, label, rule), (hit, counted) in definitions.items():
        columns = cells.select(counted=counted.fill_null(False), hit=hit.fill_null(False))
        counts = columns["counted"].cast(pl.Int64).to_numpy()
        hits = columns["hit"].cast(pl.Int64).to_numpy() * counts
        evaluated.append(Proportion(metric, label, rule, hits, counts))
    return evaluated


def on_hidden_rules(ruleset, rule: str | None) -> dict[str, tuple[pl.Expr, pl.Expr]]:
    """By metric: does a row enter the numerator, the denominator? rule: one hidden rule; None: all of them together."""
    truth, predicted, without_hidden = pl.col("label"), pl.col("predicted"), pl.col("label_without_hidden")
    asked = [one for one in ruleset.hidden_rules if rule in (None, one.name)]
    right, fires = truth == predicted, pl.col("fired_rule").is_in([one.name for one in asked])
    explained = right & ~fires  # by another hidden rule; or, in a file of past decisions, by what no rule says
    claims = predicted.is_in([one.label for one in asked]) & predicted.ne_missing(without_hidden) & ~explained
    if rule is not None:
        claims &= fires.any()  # of a rule without a case there is no precision
    conflicts = fires & (without_hidden != truth) & without_hidden.ne_missing(pl.lit(ruleset.default))
    return {
        "hidden_recall": (right, fires),
        "hidden_precision": (right & fires, claims),
        "conflict_recall": (right, conflicts),
    }


Masks = list[tuple[np.ndarray, np.ndarray]]  # hits (C,) and counted (C,) of each label


def macro_f1(n_cells: np.ndarray, f1_masks: Masks) -> tuple[float, np.ndarray]:
    """Macro-F1 of (C,) cell counts, and (C,) how one more row of each cell would move it, to first order.

    `f1_masks` are those of F1: the mean is over labels whose F1 = 2 TP / (2 TP + FP + FN) is defined.
    """
    return mean_of_ratios(n_cells, [(2 * hits, counted + hits) for hits, counted in f1_masks])


def mean_of_ratios(n_cells: np.ndarray, masks: Masks) -> tuple[float, np.ndarray]:
    """The mean of ratios of (C,) cell counts, and (C,) how one more row of each cell would move it, to first order."""
    defined = [(above, below) for above, below in masks if n_cells @ below]
    scores = [(n_cells @ above) / (n_cells @ below) for above, below in defined]
    moves = [(above - score * below) / (n_cells @ below) for score, (above, below) in zip(scores, defined, strict=True)]
    return float(np.mean(scores)), np.mean(moves, axis=0)


def estimate(cells: pl.DataFrame, columns: list[np.ndarray], ruleset) -> list[dict]:
    """All metrics of one condition over the seeds whose codes (N,) stand in `columns`; one seed or several."""
    patterns, counts = count_patterns(columns)
    rows: list[dict] = []
    masks: dict[str, Masks] = {"f1": [], "recall": []}
    for of in proportions(cells, ruleset):
        n = int(counts @ of.counted[patterns].sum(1))
        row: dict = {"metric": of.metric, "label": of.label, "rule": of.rule}
        row |= {"value": None, "ci_low": None, "ci_high": None, "n": n}
        if n:
            share, low, high = share_interval(of.hits[patterns], of.counted[patterns], counts)
            if of.metric == "f1":
                share, low, high = (2 * j / (1 + j) for j in (share, low, high))
            row |= {"value": share, "ci_low": low, "ci_high": high}
        if of.metric in masks:
            masks[of.metric].append((of.hits, of.counted))
        rows.append(row)
    n_cells = np.zeros(cells.height)
    np.add.at(n_cells, patterns, counts[:, None])
    means = {"macro_f1": macro_f1(n_cells, masks["f1"]), "balanced_accuracy": mean_of_ratios(n_cells, masks["recall"])}
    for metric, (value, moves) in means.items():
        low, high = wilson(value, effective_rows(value, moves[patterns], counts))
        interval = {"value": value, "ci_low": float(low), "ci_high": float(high)}
        rows.append({"metric": metric, "label": None, "rule": None, **interval, "n": rows[0]["n"]})
    return rows


def estimate_seeds(outcomes: Outcomes, ruleset) -> list[dict]:
    """Rows of METRICS without suite and decoding: all metrics of each condition, of each seed and pooled."""
    found = []
    for condition, by_seed in outcomes.codes.items():
        of_seeds = {seed: estimate(outcomes.cells, [codes], ruleset) for seed, codes in by_seed.items()}
        if len(by_seed) == 1:
            pooled = next(iter(of_seeds.values()))
        else:
            pooled = estimate(outcomes.cells, list(by_seed.values()), ruleset)
        for seed, rows in [*of_seeds.items(), (None, pooled)]:
            found += [{"condition": condition, "seed": seed} | row for row in rows]
    return found


def compare(outcomes: Outcomes, a: str, b: str, ruleset, n_compared: int) -> list[dict]:
    """Difference a − b of each proportion in COMPARED, for each seed that both conditions have and pooled over these.

    `n_compared`: how many pairs of conditions are compared, for the minimum detectable effect.
    """
    seeds = sorted(set(outcomes.codes[a]) & set(outcomes.codes[b]))
    rows = []
    for of in proportions(outcomes.cells, ruleset):
        if of.metric not in COMPARED:
            continue
        differences = {}
        for seed in seeds:
            of_a, of_b = outcomes.codes[a][seed], outcomes.codes[b][seed]
            kept = of.counted[of_a] == 1  # depends on the truth alone: the same rows for every condition and seed
            differences[seed] = (of.hits[of_a] - of.hits[of_b])[kept]
        groups = [(seed, [column]) for seed, column in differences.items()]
        for of_seed, columns in [*groups, (None, list(differences.values()))]:
            row = {"condition_a": a, "condition_b": b, "seed": of_seed, "metric": of.metric, "rule": of.rule, "n": 0}
            if columns and len(columns[0]):
                row |= paired_difference(*count_patterns(columns), n_compared)
            rows.append(row)
    return rows if seeds else []


def with_adjusted(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Comparisons with the column `p_adjusted`: Holm's p-values over each FAMILY."""
    families = comparisons.partition_by(FAMILY, maintain_order=True) or [comparisons]
    adjusted = [
        family.with_columns(p_adjusted=pl.Series(holm(family["p_value"].cast(pl.Float64).to_numpy())).fill_nan(None))
        for family in families
    ]
    return pl.concat(adjusted)


def summarize_predictions(
    predictions: Mapping[Run, object],
    ruleset,
    suites: pl.DataFrame | None = None,
    planned: Sequence[tuple[str, str]] | None = None,
    scheme: CostScheme | None = None,
    settings: Collection[Setting] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables METRICS and COMPARISONS, sorted, of the prediction table at the path of each run.

    suites: the table of suites (`dataset.suites_schema`), if any were answered; their metrics are those of
    `suites_metrics`, their comparisons those of `suites_comparisons`. planned: the pairs that are compared, each in the
    order in which its difference is taken; None: all pairs. scheme: what mistakes cost, if that is known; the expected
    cost is then one of the metrics of splits, which a suite, made of chosen cases, has none of. settings: those that
    are summarized; None: all.
    """
    metrics, comparisons = [], []
    if planned is None:
        planned = list(itertools.combinations(dict.fromkeys(run.condition for run in predictions), 2))
    for outcomes in load_outcomes(predictions, ruleset.labels, settings):
        members = None if suites is None else suites.filter(suite=outcomes.setting.suite)
        pairs = [(a, b) for a, b in planned if a in outcomes.codes and b in outcomes.codes]
        if members is None or members.is_empty():
            estimates = estimate_seeds(outcomes, ruleset)
            differences = [row for a, b in pairs for row in compare(outcomes, a, b, ruleset, len(pairs))]
            if scheme:
                estimates += cost_rows(outcomes, scheme)
                differences += [row for a, b in pairs for row in compare_cost(outcomes, a, b, scheme, len(pairs))]
        else:
            masks = proportions(outcomes.cells, ruleset)
            estimates = estimate_suite(outcomes, members, masks)
            differences = compare_suite(outcomes, members, masks, pairs)
        metrics += [outcomes.setting.columns | row for row in estimates]
        comparisons += [outcomes.setting.columns | row for row in differences]
    return (
        pl.DataFrame(metrics, schema=METRICS).sort(METRICS_ORDER),
        with_adjusted(pl.DataFrame(comparisons, schema=COMPARISONS)).sort(COMPARISONS_ORDER),
    )
