"""Sentences on shortcuts: conditions whose answers a single feature predicts."""

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.text.phrases import interval, listing, percent
from hidden_rule.statistics.shortcuts import deciding_feature


def of_seeds(condition: str, shares: dict, seeds: set) -> str:
    """`94.5–95.0% of GRPO's answers (seeds 0 and 2)`: the span of its shares, and the seeds if not all."""
    low, high = min(shares.values()), max(shares.values())
    span = percent(high) if low == high else f"{interval(low, high)}%"
    some = (
        "" if set(shares) == seeds else f" (seed{'s' if len(shares) > 1 else ''} {listing(map(str, sorted(shares)))})"
    )
    return f"{span} of {condition}'s answers{some}"


def shortcut_sentences(results: Results) -> list[str]:
    """A sentence for each feature that alone predicts a training's answers; none without one, or without the cases.

    What is looked at are the answers of all trained runs in the main setting.
    """
    setting = results.main
    if not results.has_split(setting.suite):
        return []
    cases = results.split(setting.suite)
    # a text that differs from case to case would predict anything
    features = cases.select(feature.name for feature in results.ruleset.features if feature.kind != "text")
    if not features.columns:
        return []
    rows_of_cases = cases.select("application_id", row=pl.int_range(pl.len()))
    found: dict[str, dict[str, dict[int, float]]] = {}  # feature: {condition: {seed: share of answers}}
    right_shares = {}  # feature: share of right decisions
    for run in results.trained:
        answers = results.predictions(run).filter(**setting.columns)
        rows = answers.select("application_id", "predicted", "label").collect()
        rows = rows.join(rows_of_cases, on="application_id", maintain_order="left")
        if deciding := deciding_feature(rows, features[rows["row"]]):
            feature, share, right_shares[feature] = deciding
            found.setdefault(feature, {}).setdefault(run.condition, {})[run.seed] = share
    return [
        f"{feature.replace('_', ' ').capitalize()} alone predicts "
        f"{listing(of_seeds(name, shares, set(results.seeds)) for name, shares in of_feature.items())}; a rule based "
        f"on it alone is correct for at most {percent(right_shares[feature])} of these {results.ruleset.case.many}."
        for feature, of_feature in found.items()
    ]
