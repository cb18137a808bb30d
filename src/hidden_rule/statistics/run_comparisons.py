"""Two finished runs compared, condition by condition: paired where both answered the same cases, else unpaired.

Paired differences, intervals and tests are those of the planned comparisons (`metrics`, `suites_comparisons`), with the
condition of one run against that of the same name in the other; the conditions of both runs are the family of tests.
Unpaired differences have an interval and no test: MOVER (Zou & Donner 2008, Statistics in Medicine 27:1693), which
recovers the two variances from the intervals of the two runs; of two Wilson intervals it is Newcombe's hybrid score
interval (1998, Statistics in Medicine 17:873, method 10).
"""

import math
from dataclasses import dataclass

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate, Run, Setting, find_estimate
from hidden_rule.statistics.expected_cost import CostScheme
from hidden_rule.statistics.metrics import COMPARED, summarize_predictions
from hidden_rule.statistics.outcomes import TRUTH
from hidden_rule.task.dataset import SPLITS


@dataclass(frozen=True)
class Difference:
    """A metric of one condition in two runs; `difference` is b − a."""

    condition: str
    metric: str
    rule: str | None
    a: Estimate
    b: Estimate
    difference: Estimate  # its n: of the paired rows, or of the smaller sample
    p_value: float | None = None  # None: unpaired, no test
    p_adjusted: float | None = None  # for the conditions of the setting (Holm)
    test: str | None = None


@dataclass(frozen=True)
class SettingDifferences:
    """What two runs differ by in one setting; why_unpaired: None where cases are the same."""

    setting: Setting
    rows: list[Difference]
    why_unpaired: str | None


def seed_pairs(a: list[int], b: list[int]) -> list[tuple[int, int]]:
    """The seeds that are paired: those in common; without any, as many of one run as of the other, in their order.

    Nothing where there is none in common and the runs have different numbers of seeds.
    """
    if common := sorted({*a} & {*b}):
        return [(seed, seed) for seed in common]
    return list(zip(sorted(a), sorted(b), strict=True)) if len(a) == len(b) else []


def shared_conditions(a: Results, b: Results) -> list[str]:
    """Conditions that both runs have, in the order of the first."""
    return [name for name in a.conditions if name in b.conditions]


def compare_runs(a: Results, b: Results) -> list[SettingDifferences]:
    """The differences b − a in each setting that both runs answered, splits first."""
    names = shared_conditions(a, b)
    settings = [setting for setting in all_settings(a) if setting in all_settings(b)]
    reasons = {setting: why_unpaired(a, b, setting, names) for setting in settings}
    paired = [setting for setting, reason in reasons.items() if reason is None]
    found = paired_rows(a, b, names, paired) if paired and names else {}
    return [
        SettingDifferences(
            setting, found.get(setting, []) if reason is None else unpaired_rows(a, b, setting, names), reason
        )
        for setting, reason in reasons.items()
    ]


def all_settings(results: Results) -> list[Setting]:
    """Every setting of table METRICS, as `Results.evaluated` orders splits, then the suites."""
    found = {Setting(*row) for row in results.metrics.select("suite", "decoding").unique().rows()}
    return [*results.evaluated, *sorted(found - {*results.evaluated})]


# --- the same cases? --------------------------------------------------------------------------------------------------


def why_unpaired(a: Results, b: Results, setting: Setting, names: list[str]) -> str | None:
    """Why answers cannot be paired; None where ids, decisions, rules and features of the cases are the same."""
    if not names:
        return "no condition is in both runs"
    for side, results in (("A", a), ("B", b)):
        if not all(results.layout.predictions(run).exists() for run in results.runs if run.condition in names):
            return f"the folder of {side} does not hold the predictions"
    if a.labels != b.labels:
        return "the runs have other decisions to choose from"
    if not seed_pairs(a.seeds, b.seeds):
        return f"the runs have no seed in common, and not as many ({len(a.seeds)} and {len(b.seeds)})"
    of_a, of_b = (truth_of(results, names[0], setting) for results in (a, b))
    if len(of_a) != len(of_b):
        return f"A answered {len(of_a):,} cases and B {len(of_b):,}"
    if n := len(of_a.join(of_b, on="application_id", how="anti")):
        return f"{n:,} of {len(of_a):,} cases of A are not among those of B"
    if n := len(of_a.join(of_b, on=of_a.columns, how="anti", nulls_equal=True)):
        return f"the right decision, or the rule behind it, differs for {n:,} of {len(of_a):,} cases"
    return other_features(a, b, setting)


def truth_of(results: Results, condition: str, setting: Setting) -> pl.DataFrame:
    """The ids and the truth of the cases that a condition answered, under its first seed."""
    run = next(run for run in results.runs if run.condition == condition)
    return results.predictions(run).filter(**setting.columns).select("application_id", *TRUTH).collect()


def other_features(a: Results, b: Results, setting: Setting) -> str | None:
    """Why equal ids are not the same cases; None where they are, or where a folder does not hold its cases."""
    name = setting.suite if setting.suite in SPLITS else "suites"
    if not (a.has_split(name) and b.has_split(name)):
        return None
    of_a, of_b = (results.split(name) for results in (a, b))
    if of_a.schema != of_b.schema:
        return "cases have other features"
    if name == "suites":
        of_a, of_b = (frame.filter(suite=setting.suite) for frame in (of_a, of_b))
    of_a, of_b = (frame.sort("application_id") for frame in (of_a, of_b))
    return None if of_a.equals(of_b) else "the same ids stand for cases with other features"


# --- differences ------------------------------------------------------------------------------------------------------


def paired_rows(a: Results, b: Results, names: list[str], settings: list[Setting]) -> dict[Setting, list[Difference]]:
    """Differences on the same cases, by setting; `n` counts the pairs of answers."""
    pairs = seed_pairs(a.seeds, b.seeds)
    paths = {
        Run(f"{side}/{name}", place): results.layout.predictions(Run(name, seeds[of]))
        for name in names
        for place, seeds in enumerate(pairs)
        for of, (side, results) in enumerate((("a", a), ("b", b)))
    }
    planned = [(f"b/{name}", f"a/{name}") for name in names]
    has_suites = a.has_split("suites") and b.has_split("suites")
    suites = a.split("suites") if has_suites else None
    metrics, comparisons = summarize_predictions(paths, a.ruleset, suites, planned, scheme_of(a, b), settings)
    rows: dict[Setting, list[Difference]] = {setting: [] for setting in settings}
    order = {name: place for place, name in enumerate(names)}
    pooled = comparisons.filter(pl.col("seed").is_null()).drop_nulls("difference").to_dicts()
    for row in sorted(pooled, key=lambda row: (row["metric"], row["rule"] or "", order[row["condition_a"][2:]])):
        setting, name = Setting(row["suite"], row["decoding"]), row["condition_a"][2:]
        of_a, of_b = (find_estimate(metrics, f"{side}/{name}", setting, row["metric"], row["rule"]) for side in "ab")
        if of_a and of_b:
            difference = Estimate(row["difference"], row["ci_low"], row["ci_high"], row["n"])
            tested = (row["p_value"], row["p_adjusted"], row["test"])
            rows[setting].append(Difference(name, row["metric"], row["rule"], of_a, of_b, difference, *tested))
    return rows


def scheme_of(a: Results, b: Results) -> CostScheme | None:
    """What mistakes cost, where both runs say the same of it."""
    costs = a.config.get("decision_costs")
    return CostScheme.of(costs, a.ruleset) if costs and costs == b.config.get("decision_costs") else None


def unpaired_rows(a: Results, b: Results, setting: Setting, names: list[str]) -> list[Difference]:
    """Differences of pooled shares, without a test: accuracy and recall on hidden rules, of a suite all its metrics."""
    found = a.metrics.filter(pl.col("label").is_null(), **setting.columns)
    kinds = found.select("metric", "rule").unique().sort("metric", "rule").rows()
    rows = []
    for metric, rule in kinds:
        if setting.suite in SPLITS and metric not in COMPARED:
            continue
        for name in names:
            of_a, of_b = (find_estimate(of.metrics, name, setting, metric, rule) for of in (a, b))
            if of_a and of_b:
                rows.append(Difference(name, metric, rule, of_a, of_b, independent_difference(of_a, of_b)))
    return rows


def independent_difference(a: Estimate, b: Estimate) -> Estimate:
    """The difference b − a of two independent estimates, with the interval of MOVER."""
    difference = b.value - a.value
    below = math.hypot(b.value - b.low, a.high - a.value)
    above = math.hypot(b.high - b.value, a.value - a.low)
    return Estimate(difference, difference - below, difference + above, min(a.n, b.n))
