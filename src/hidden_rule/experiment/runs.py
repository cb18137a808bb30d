"""The nouns of an experiment: a run, the setting in which it is evaluated, and an estimate with its interval."""

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from hidden_rule.task.dataset import SPLITS

DECODING_WORDS = {"structured": "structured decoding", "free": "free decoding"}


@dataclass(frozen=True, order=True)
class Run:
    """A condition under one seed."""

    condition: str
    seed: int
    method: str | None = None  # that trains it; None: it is not trained

    @property
    def columns(self) -> dict:
        """Its values of the columns `condition` and `seed`."""
        return {"condition": self.condition, "seed": self.seed}

    def __str__(self) -> str:
        return f"{self.condition} (seed {self.seed})"


class Setting(NamedTuple):
    """What is answered, and how: a suite (a split, or a suite made from the ruleset) under one kind of decoding."""

    suite: str
    decoding: str  # structured | free

    @property
    def words(self) -> str:
        """`holdout, structured decoding`."""
        return f"{self.suite}, {DECODING_WORDS.get(self.decoding, self.decoding)}"

    @property
    def columns(self) -> dict:
        """Its values of the columns `suite` and `decoding`."""
        return {"suite": self.suite, "decoding": self.decoding}


def separate_rules(ruleset) -> list[str]:
    """The hidden rules that have numbers of their own: all, where there are several.

    A single hidden rule's numbers are those of all hidden rules together.
    """
    names = [rule.name for rule in ruleset.hidden_rules]
    return names if len(names) > 1 else []


class Guess(float):
    """The accuracy of answering without looking at a case, and what that is called.

    Where each label is right equally often: chance. In a file of past decisions: that of the most frequent label.
    """

    words: str

    def __new__(cls, value: float, words: str = "chance") -> "Guess":
        guess = super().__new__(cls, value)
        guess.words = words
        return guess


def guess_words(value: float) -> str:
    """What an accuracy of guessing is called."""
    return value.words if isinstance(value, Guess) else "chance"


def most_frequent(metrics: pl.DataFrame, setting: Setting) -> Guess:
    """The accuracy of always giving the label that is most often right in a setting of table METRICS."""
    of_labels = metrics.filter(metric="recall", **setting.columns)
    counts = of_labels.group_by("label").agg(pl.col("n").max()).sort(["n", "label"], descending=[True, False])
    label, n = counts.row(0)
    return Guess(n / max(1, counts["n"].sum()), f"always answering {label}")


def settings_of(metrics: pl.DataFrame) -> list[Setting]:
    """Each setting of table METRICS in which a split was answered; structured decoding and the holdout come first."""
    found = metrics.filter(pl.col("suite").is_in(SPLITS)).select("suite", "decoding").unique().rows()
    settings = [Setting(*row) for row in found]
    return sorted(settings, key=lambda of: (of.decoding != "structured", of.suite != "holdout", of))


@dataclass(frozen=True)
class Estimate:
    """A share or a score with its 95% interval; None stands for one that is undefined (its denominator is 0)."""

    value: float
    low: float
    high: float
    n: int  # rows in the denominator

    @classmethod
    def of(cls, row: dict) -> "Estimate":
        """Of a row with a `value`, and columns `ci_low`, `ci_high` (null: it is exact) and `n`."""
        value, low, high = row["value"], row["ci_low"], row["ci_high"]
        return cls(value, value if low is None else low, value if high is None else high, row["n"])


def defined(row: dict) -> Estimate | None:
    """The estimate in a row of a table; None where its value is null."""
    return None if row["value"] is None else Estimate.of(row)


def of_rule(rule: str | None) -> pl.Expr:
    """Where the column `rule` is that of one hidden rule, or (None) of all together."""
    return pl.col("rule").eq_missing(pl.lit(rule, dtype=pl.String))


def find_estimate(
    metrics: pl.DataFrame, condition: str, setting: Setting, metric: str, rule: str | None = None
) -> Estimate | None:
    """A metric that is not one of a label, pooled over seeds, in table METRICS; None if undefined or not there.

    rule: one of several hidden rules, None for all of them together (`separate_rules`).
    """
    rows = metrics.filter(
        pl.col("seed").is_null(),
        pl.col("label").is_null(),
        of_rule(rule),
        condition=condition,
        metric=metric,
        **setting.columns,
    )
    return defined(rows.row(0, named=True)) if rows.height else None
