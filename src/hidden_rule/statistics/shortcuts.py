"""Does one feature decide? How far a model's answers follow from a single feature of the applications.

A policy by one feature is the simplest that can be learnt (1R: Holte 1993, Machine Learning 11:63). Here it is fitted
to a model's answers and not to the truth: to each value of a feature, or each tenth of a number, the commonest answer.
The share of such answers is how much of what a model says that feature alone tells.
"""

import polars as pl

from hidden_rule.statistics.intervals import wilson

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
    correct = explained(rows["label"], levels(rows[best])) / n
    low = wilson(shares[best], n)[0]
    return (best, shares[best], correct) if low >= DECIDES and wilson(correct, n)[1] < low else None
