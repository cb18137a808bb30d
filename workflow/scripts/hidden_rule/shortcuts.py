"""Does one feature decide? How far a model's answers follow from a single feature of the applications.

A policy by one feature is the simplest that can be learnt (1R: Holte 1993, Machine Learning 11:63). Here it is fitted
to a model's answers and not to the truth: to each value of a feature, or each tenth of a number, the commonest answer.
The share of such answers is how much of what a model says that feature alone tells.
"""

import polars as pl

from .intervals import wilson
from .outcomes import scan_predictions
from .wording import listing, percent

DECIDES = 0.90  # one feature decides: the interval of its share of the answers lies at or above this
TENTHS = 10


def levels(values: pl.Series) -> pl.Series:
    """The values themselves, or the tenths in which numbers lie; equal numbers lie in one tenth."""
    if not values.dtype.is_numeric():
        return values
    return ((values.rank("max") - 1) * TENTHS // len(values)).cast(pl.Int64)


def explained(answers: pl.Series, values: pl.Series) -> int:
    """How many answers are the commonest one among those with the same value."""
    counts = pl.DataFrame({"value": values, "answer": answers}).group_by("value", "answer").len()
    return counts.group_by("value").agg(pl.max("len"))["len"].sum()


def deciding_feature(rows: pl.DataFrame, features) -> tuple[str, float, float] | None:
    """The feature by which alone these answers are given; None where no single one decides.

    rows: `predicted` (null: no valid decision), `label` and the features. Beside its name stand the share of answers
    and the share of right decisions that follow from it. The interval (Wilson, 95%) of the former lies at or above
    `DECIDES`, and above that of the latter; that of the most frequent answer lies below `DECIDES`, for a constant
    follows from anything.
    """
    n = rows.height
    answers = rows["predicted"].fill_null("")
    if n == 0 or wilson(answers.value_counts()["count"].max() / n, n)[1] >= DECIDES:
        return None
    shares = {name: explained(answers, levels(rows[name])) / n for name in features}
    best = max(shares, key=shares.get)
    rightly = explained(rows["label"], levels(rows[best])) / n
    low = wilson(shares[best], n)[0]
    return (best, shares[best], rightly) if low >= DECIDES and wilson(rightly, n)[1] < low else None


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
