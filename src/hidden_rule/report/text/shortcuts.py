"""Sentences on conditions whose answers a single feature predicts."""

import polars as pl

from hidden_rule.report.text.phrases import listing, percent
from hidden_rule.statistics.outcomes import scan_predictions
from hidden_rule.statistics.shortcuts import deciding_feature


def of_seeds(condition: str, shares: dict, seeds: set) -> str:
    """A condition and, in brackets, its shares: with which seeds, if not all, and between what they lie."""
    low, high = min(shares.values()), max(shares.values())
    span = percent(high) if low == high else f"{100 * low:.1f} to {percent(high)}"
    some = "" if set(shares) == seeds else f"seed{'s' if len(shares) > 1 else ''} {listing(map(str, sorted(shares)))}: "
    return f"{condition} ({some}{span})"


def shortcut_sentences(predictions, jobs, applications, features, labels, reading, conditions) -> list[str]:
    """A sentence for each feature that decides alone in some training; none where none does.

    predictions: paths, in the order of `jobs`, (condition, seed); applications: path of the split of the reading, with
    `application_id` and the features; conditions: those that are looked at.
    """
    split = pl.read_parquet(applications, columns=["application_id", *features])
    seeds = {seed for _, seed in jobs}
    found, rightly = {}, {}  # feature: {condition: {seed: share of answers}}
    for path, (condition, seed) in zip(predictions, jobs, strict=True):
        if condition not in conditions:
            continue
        answers = scan_predictions(path, labels).filter(suite=reading[0], decoding=reading[1])
        rows = answers.select("application_id", "predicted", "label").collect().join(split, on="application_id")
        if deciding := deciding_feature(rows, features):
            feature, share, rightly[feature] = deciding
            found.setdefault(feature, {}).setdefault(condition, {})[seed] = share
    return [
        f"{listing(of_seeds(name, shares, seeds) for name, shares in of_feature.items())} "
        f"{'decides' if len(of_feature) == 1 else 'decide'} almost by {feature} alone: in brackets, the "
        "share of answers that are the commonest one to its value. No policy by it alone is right in more than "
        f"{percent(rightly[feature])} of these cases."
        for feature, of_feature in found.items()
    ]
