"""Shortcuts: how far a single feature predicts a model's answers.

A rule on one feature is the simplest classifier (1R: Holte 1993, Machine Learning 11:63). Here it is fitted to a
model's answers instead of the truth: each value of a feature, or each tenth of a number, predicts its most frequent
answer. The share of answers predicted that way is how much of the model's behaviour the feature explains.
"""

import polars as pl

from hidden_rule.statistics.intervals import wilson

DECIDES = 0.90  # a shortcut: the interval of the share of answers that one feature predicts lies at or above this
TENTHS = 10


def levels(values: pl.Series) -> pl.Series:
    """The values themselves, or the tenths in which numbers lie; equal numbers lie in one tenth."""
    if not values.dtype.is_numeric():
        return values
    return ((values.rank("max") - 1) * TENTHS // len(values)).cast(pl.Int64)


def explained(answers: pl.Series, values: pl.Series) -> int:
    """How many answers are the most frequent one among those with the same value."""
    counts = pl.DataFrame({"value": values, "answer": answers}).group_by("value", "answer").len()
    return int(counts.group_by("value").agg(pl.max("len"))["len"].sum())


def deciding_feature(rows: pl.DataFrame, features: pl.DataFrame) -> tuple[str, float, float] | None:
    """The feature that alone predicts these answers, as (name, share of answers, share of labels); None without one.

    rows: `predicted` (null: invalid) and `label`; features: those of the same applications, row by row, in a table of
    their own since they may be called anything. Both shares are those that the feature predicts. The
    interval (Wilson, 95%) of the former lies at or above `DECIDES`, and above that of the latter; that of the most
    frequent answer lies below `DECIDES`, as any feature predicts a constant.
    """
    n = rows.height
    answers = rows["predicted"].fill_null("")
    if n == 0 or wilson(max(answers.value_counts()["count"]) / n, n)[1] >= DECIDES:
        return None
    shares = {name: explained(answers, levels(features[name])) / n for name in features.columns}
    best = max(shares, key=lambda name: shares[name])
    correct = explained(rows["label"], levels(features[best])) / n
    low = wilson(shares[best], n)[0]
    return (best, shares[best], correct) if low >= DECIDES and wilson(correct, n)[1] < low else None
