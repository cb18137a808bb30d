"""Sentences on the rules that conditions decide by, beside the policy's."""

import itertools
from statistics import fmean

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.text.phrases import listing, percent
from hidden_rule.task.predicates import compared_literals

COUNTERPART = 0.5  # of the cases that either decides: from this share that both do, two rules are one
CONSTANT = 0.95  # of the answers
OFTEN = 0.01  # of the answers: rules that decide fewer are left out
DIRECTION = {">": "above", ">=": "above", "<": "below", "<=": "below"}


def number(value: float) -> str:
    """A threshold as a person writes it, with a true minus sign."""
    return f"{value:.10g}".replace("-", "\N{MINUS SIGN}")


def span(low: float, high: float) -> str:
    """`78–80`, or `−5 to 3`."""
    if low == high:
        return number(low)
    return f"{number(low)} to {number(high)}" if low < 0 else f"{number(low)}–{number(high)}"


def in_seeds(seeds: set, all_seeds: set) -> str:
    """` (seeds 0 and 2)`, or nothing where they are all."""
    if seeds == all_seeds:
        return ""
    return f" (seed{'s' if len(seeds) > 1 else ''} {listing(map(str, sorted(seeds)))})"


def corresponds(row: dict) -> bool:
    """Whether a rule of a run is one of the policy's, learnt more or less exactly."""
    return row["overlap"] is not None and row["overlap"] >= COUNTERPART


def shown_rules(results: Results) -> pl.DataFrame:
    """The rows of LEARNT_RULES that are looked at: of rules that decide at least one answer in a hundred."""
    learnt = results.learnt_rules
    assert learnt is not None
    return learnt.filter(pl.col("n") >= OFTEN * pl.col("n_answers"))


def learnt_sentences(results: Results) -> list[str]:
    """For each condition: what it answers without a rule, thresholds and values that differ, what no rule mentions."""
    rows = shown_rules(results)
    seeds = set(results.seeds)
    sentences = []
    for name in results.conditions:
        of = rows.filter(condition=name)
        if of.is_empty():
            continue
        without = of.filter(pl.col("feature").is_not_null().sum().over("seed") == 0)
        sentences += without_rules(name, without, seeds)
        sentences += threshold_sentences(name, of, seeds)
        sentences += value_sentences(name, of, results.ruleset, seeds)
        sentences += feature_sentences(name, of, results.ruleset, seeds)
        sentences += unmentioned_sentences(name, of, seeds)
        sentences += missing_sentences(name, of.join(without, on="seed", how="anti"), results.ruleset, seeds)
    return sentences


def without_rules(name: str, rows: pl.DataFrame, seeds: set) -> list[str]:
    """On runs in whose answers no rule was found; rows: theirs, one each."""
    same = rows.filter(pl.col("precision") >= CONSTANT)
    sentences = [
        f"{name} answers {label or 'with invalid replies'} in {percent(fmean(of['precision'].to_list()))} of cases"
        f"{in_seeds(set(of['seed']), seeds)}."
        for (label,), of in same.group_by("label", maintain_order=True)
    ]
    random = set(rows["seed"]) - set(same["seed"])
    if random:
        sentences.append(f"No rule was found in {name}'s answers{in_seeds(random, seeds)}.")
    return sentences


def threshold_sentences(name: str, rows: pl.DataFrame, seeds: set) -> list[str]:
    """Learnt thresholds whose interval excludes the policy's."""
    off = [
        row | {"direction": DIRECTION[row["comparison"]]}
        for row in rows.filter(pl.col("true_threshold").is_not_null(), pl.col("threshold_low").is_not_null()).to_dicts()
        if corresponds(row) and not row["threshold_low"] <= row["true_threshold"] <= row["threshold_high"]
    ]
    key = ("label", "true_rule", "feature", "direction", "true_threshold")
    by_key = itertools.groupby(
        sorted(off, key=lambda row: [row[k] for k in key]), key=lambda row: [row[k] for k in key]
    )
    sentences = []
    for (label, _, feature, direction, true), group in by_key:
        found = list(group)
        values = [row["threshold"] for row in found]
        interval = span(min(row["threshold_low"] for row in found), max(row["threshold_high"] for row in found))
        where = in_seeds({row["seed"] for row in found}, seeds)
        sentences.append(
            f"{name} answers {label} {direction} {feature} {span(min(values), max(values))} (95% CI {interval}), "
            f"the policy {direction} {number(true)}{where}."
        )
    return sentences


def value_sentences(name: str, rows: pl.DataFrame, ruleset, seeds: set) -> list[str]:
    """Values that a learnt rule has and the policy's has not, or the other way round."""
    predicates = {rule.name: rule.when for rule in ruleset.rules}
    found: dict[tuple, set] = {}
    for row in rows.filter(comparison="IN").to_dicts():
        stated = compared_literals(predicates.get(row["true_rule"], "")).get(row["feature"], [])
        if not corresponds(row) or not stated or not all(isinstance(value, str) for value in stated):
            continue
        more = tuple(value for value in row["values"] if value not in stated)
        fewer = tuple(value for value in stated if value not in row["values"])
        if more or fewer:
            found.setdefault((row["true_rule"], row["feature"], more, fewer), set()).add(row["seed"])
    sentences = []
    for (rule, feature, more, fewer), of in found.items():
        parts = [f"extends {rule} to {feature} {listing(more)}"] if more else []
        parts += [f"does not apply {rule} to {feature} {listing(fewer)}"] if fewer else []
        sentences.append(f"{name} {' and '.join(parts)}{in_seeds(of, seeds)}.")
    return sentences


def feature_sentences(name: str, rows: pl.DataFrame, ruleset, seeds: set) -> list[str]:
    """Features that a rule of the policy mentions and its counterpart does not."""
    features = {rule.name: dict.fromkeys(rule.predicate.meta.root_names()) for rule in ruleset.rules}
    found: dict[tuple, set] = {}
    for (seed, _, rule), of in rows.filter(pl.col("feature").is_not_null()).group_by(
        "seed", "place", "true_rule", maintain_order=True
    ):
        left_out = [feature for feature in features.get(rule, ()) if feature not in of["feature"]]
        if left_out and corresponds(of.row(0, named=True)):
            found.setdefault((rule, *left_out), set()).add(seed)
    return [
        f"{name} applies {rule} without regard to {listing(left_out)}{in_seeds(of, seeds)}."
        for (rule, *left_out), of in found.items()
    ]


def missing_sentences(name: str, rows: pl.DataFrame, ruleset, seeds: set) -> list[str]:
    """Rules of the policy that no rule of a run corresponds to; rows: of runs in which rules were found."""
    found: dict[tuple, set] = {}
    for (seed,), of in rows.group_by("seed", maintain_order=True):
        learnt = {row["true_rule"] for row in of.to_dicts() if corresponds(row)}
        if missing := tuple(rule.name for rule in ruleset.rules if rule.name not in learnt):
            found.setdefault(missing, set()).add(seed)
    return [f"{name} has no counterpart of {listing(missing)}{in_seeds(of, seeds)}." for missing, of in found.items()]


def unmentioned_sentences(name: str, rows: pl.DataFrame, seeds: set) -> list[str]:
    """Features that a run decides by and that no rule of the policy mentions."""
    aside = rows.filter(pl.col("mentioned") == False)  # noqa: E712
    if aside.is_empty():
        return []
    by_place = aside.unique(["seed", "place"])
    shares = by_place.group_by("seed").agg(share=pl.col("n").sum() / pl.col("n_answers").first())["share"].to_list()
    features = sorted(set(aside["feature"]))
    these = f"{'features' if len(features) > 1 else 'a feature'} that no rule mentions: {listing(features)}"
    up_to = "up to " if len(seeds) > 1 else ""
    where = in_seeds(set(aside["seed"]), seeds)
    return [f"{name} decides {up_to}{percent(max(shares))} of cases by {these}{where}."]
